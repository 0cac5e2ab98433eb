"""Names of a base model's layers, for every family: diffusers' and BFL's, which ComfyUI uses.

BFL joins layers that diffusers keeps apart (q, k and v are one matrix), and orders the two halves of the last
modulation the other way round. LoRA files use either naming, so all code that reads or writes one needs this.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .families import FLUX1, FLUX2, Family


class Place(NamedTuple):
    """Where a layer of diffusers stands in BFL's layout.

    Args:
        layer: BFL's name.
        rows: (start, length) of its rows there; None: all.
        swapped: whether the two halves of its rows change places.
    """

    layer: str
    rows: tuple[int, int] | None = None
    swapped: bool = False


@dataclass(frozen=True)
class LayerNames:
    """Tables of one family, diffusers' name -> BFL's.

    Args:
        top: layers outside the blocks.
        double: layers of a double-stream block, by their name in it.
        double_rows: BFL's layer in such a block -> the layers of diffusers that it joins, each as wide as the model.
        single: layers of a single-stream block.
        single_rows: the same for single-stream blocks, with the rows of each layer in widths of the model.
        norms: norms of queries and keys, of both kinds of block; BFL's end in `.scale`, not `.weight`.
    """

    top: Mapping[str, str]
    double: Mapping[str, str]
    double_rows: Mapping[str, tuple[str, ...]]
    single: Mapping[str, str]
    single_rows: Mapping[str, Mapping[str, int]]
    norms: Mapping[str, Mapping[str, str]]


_QKV = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
_NORMS = {
    "double": {
        "attn.norm_q": "img_attn.norm.query_norm",
        "attn.norm_k": "img_attn.norm.key_norm",
        "attn.norm_added_q": "txt_attn.norm.query_norm",
        "attn.norm_added_k": "txt_attn.norm.key_norm",
    },
    "single": {"attn.norm_q": "norm.query_norm", "attn.norm_k": "norm.key_norm"},
}
_ATTENTION_OUT = {"attn.to_out.0": "img_attn.proj", "attn.to_add_out": "txt_attn.proj"}
LAST_MODULATION = "norm_out.linear"
"""diffusers' last modulation holds (scale, shift), BFL's (shift, scale)."""


def _top(embedder: str, *others: tuple[str, str]) -> dict[str, str]:
    """Layers outside the blocks; `embedder` is diffusers' module that embeds timestep and guidance."""
    named = {
        "proj_out": "final_layer.linear",
        LAST_MODULATION: "final_layer.adaLN_modulation.1",
        "x_embedder": "img_in",
        "context_embedder": "txt_in",
    }
    for name, to in (("timestep_embedder", "time_in"), ("guidance_embedder", "guidance_in"), *others):
        named[f"{embedder}.{name}.linear_1"] = f"{to}.in_layer"
        named[f"{embedder}.{name}.linear_2"] = f"{to}.out_layer"
    return named


NAMES: Mapping[str, LayerNames] = {
    FLUX1.name: LayerNames(
        top=_top("time_text_embed", ("text_embedder", "vector_in")),
        double={
            **_ATTENTION_OUT,
            "norm1.linear": "img_mod.lin",
            "norm1_context.linear": "txt_mod.lin",
            "ff.net.0.proj": "img_mlp.0",
            "ff.net.2": "img_mlp.2",
            "ff_context.net.0.proj": "txt_mlp.0",
            "ff_context.net.2": "txt_mlp.2",
        },
        double_rows=_QKV,
        single={"norm.linear": "modulation.lin", "proj_out": "linear2"},
        single_rows={"linear1": {"attn.to_q": 1, "attn.to_k": 1, "attn.to_v": 1, "proj_mlp": 4}},
        norms=_NORMS,
    ),
    FLUX2.name: LayerNames(
        top={
            **_top("time_guidance_embed"),
            **{
                f"{name}.linear": f"{name}.lin"
                for name in ("double_stream_modulation_img", "double_stream_modulation_txt", "single_stream_modulation")
            },
        },
        double={
            **_ATTENTION_OUT,
            "ff.linear_in": "img_mlp.0",
            "ff.linear_out": "img_mlp.2",
            "ff_context.linear_in": "txt_mlp.0",
            "ff_context.linear_out": "txt_mlp.2",
        },
        double_rows=_QKV,
        single={"attn.to_qkv_mlp_proj": "linear1", "attn.to_out": "linear2"},
        single_rows={},
        norms=_NORMS,
    ),
}
"""Names by the family's name."""


def bfl_places(family: Family, double_blocks: int, single_blocks: int, hidden: int) -> dict[str, Place]:
    """BFL's place of every linear layer, by diffusers' name.

    Args:
        family: family of the base model.
        double_blocks: number of double-stream blocks.
        single_blocks: number of single-stream blocks.
        hidden: width of the model.
    """
    names = NAMES[family.name]
    places = {name: Place(to, None, name == LAST_MODULATION) for name, to in names.top.items()}
    for number in range(double_blocks):
        block, to = f"transformer_blocks.{number}", f"double_blocks.{number}"
        places |= {f"{block}.{name}": Place(f"{to}.{end}") for name, end in names.double.items()}
        for whole, parts in names.double_rows.items():
            rows = ((i * hidden, hidden) for i in range(len(parts)))
            places |= {f"{block}.{name}": Place(f"{to}.{whole}", row) for name, row in zip(parts, rows, strict=True)}
    for number in range(single_blocks):
        block, to = f"single_transformer_blocks.{number}", f"single_blocks.{number}"
        places |= {f"{block}.{name}": Place(f"{to}.{end}") for name, end in names.single.items()}
        for whole, widths in names.single_rows.items():
            start = 0
            for name, width in widths.items():
                places[f"{block}.{name}"] = Place(f"{to}.{whole}", (start * hidden, width * hidden))
                start += width
    return places


def bfl_norms(family: Family, double_blocks: int, single_blocks: int) -> dict[str, str]:
    """BFL's name of every norm of queries and keys, by diffusers' name."""
    norms = NAMES[family.name].norms
    found = {}
    for kind, count, old in (
        ("double", double_blocks, "transformer_blocks"),
        ("single", single_blocks, "single_transformer_blocks"),
    ):
        for number in range(count):
            found |= {f"{old}.{number}.{name}": f"{kind}_blocks.{number}.{to}" for name, to in norms[kind].items()}
    return found

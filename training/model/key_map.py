"""Where ComfyUI puts a FLUX LoRA: its key map, written out, so that a file is checked before it is called done.

ComfyUI holds FLUX in BFL's layout. It maps `transformer.<layer of diffusers>` to a weight or to a part of one (q, k
and v are one matrix there); keys that its map lacks are only logged, and the file silently does less than it should.
A test holds this map against that of the real ComfyUI.
"""

from collections.abc import Mapping

import torch
from diffusers import FluxTransformer2DModel

from ..errors import TrainingError

PREFIX = "transformer."
"Prefix of each key in the file: diffusers and ComfyUI both read it."
Target = tuple[str, tuple[int, int] | None]
"""Weight in ComfyUI's model, and the rows (start, length) of it; None: all rows."""

_DOUBLE = {
    "attn.to_out.0": "img_attn.proj",
    "attn.to_add_out": "txt_attn.proj",
    "norm1.linear": "img_mod.lin",
    "norm1_context.linear": "txt_mod.lin",
    "ff.net.0.proj": "img_mlp.0",
    "ff.net.2": "img_mlp.2",
    "ff_context.net.0.proj": "txt_mlp.0",
    "ff_context.net.2": "txt_mlp.2",
}
_ROWS_OF_DOUBLE = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
_SINGLE = {"norm.linear": "modulation.lin", "proj_out": "linear2"}
_EMBEDDER = "time_text_embed."
_OTHER = {
    "proj_out": "final_layer.linear",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    f"{_EMBEDDER}timestep_embedder.linear_1": "time_in.in_layer",
    f"{_EMBEDDER}timestep_embedder.linear_2": "time_in.out_layer",
    f"{_EMBEDDER}text_embedder.linear_1": "vector_in.in_layer",
    f"{_EMBEDDER}text_embedder.linear_2": "vector_in.out_layer",
    f"{_EMBEDDER}guidance_embedder.linear_1": "guidance_in.in_layer",
    f"{_EMBEDDER}guidance_embedder.linear_2": "guidance_in.out_layer",
}


def comfyui_key_map(double_blocks: int, single_blocks: int, hidden: int) -> dict[str, Target]:
    """ComfyUI's target of each layer's LoRA, by the name in a file without its `lora_A` ending.

    Args:
        double_blocks: number of them.
        single_blocks: number of them.
        hidden: width.
    """
    targets: dict[str, Target] = {name: (to, None) for name, to in _OTHER.items()}
    for number in range(double_blocks):
        block, to = f"transformer_blocks.{number}", f"double_blocks.{number}"
        targets |= {f"{block}.{name}": (f"{to}.{end}", None) for name, end in _DOUBLE.items()}
        for whole, parts in _ROWS_OF_DOUBLE.items():
            targets |= {f"{block}.{name}": (f"{to}.{whole}", (i * hidden, hidden)) for i, name in enumerate(parts)}
    for number in range(single_blocks):
        block, to = f"single_transformer_blocks.{number}", f"single_blocks.{number}"
        targets |= {f"{block}.{name}": (f"{to}.{end}", None) for name, end in _SINGLE.items()}
        for i, letter in enumerate("qkv"):
            targets[f"{block}.attn.to_{letter}"] = (f"{to}.linear1", (i * hidden, hidden))
        targets[f"{block}.proj_mlp"] = (f"{to}.linear1", (3 * hidden, 4 * hidden))
    return {PREFIX + name: (f"diffusion_model.{to}.weight", rows) for name, (to, rows) in targets.items()}


def check_loads(tensors: Mapping[str, torch.Tensor], transformer: FluxTransformer2DModel) -> int:
    """Make sure that ComfyUI would place every tensor of a file, at full strength, and that it changes something.

    Args:
        tensors: of the file, by key.
        transformer: the base, for its layers' sizes; may be on the meta device.

    Returns:
        Number of layers that the file changes.

    Raises:
        TrainingError: a key that ComfyUI does not know, half a pair, another shape, a value that is no number, or a
            file without effect. The message counts and names them.
    """
    config = transformer.config
    hidden = config.num_attention_heads * config.attention_head_dim
    known = comfyui_key_map(config.num_layers, config.num_single_layers, hidden)
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    unknown = []
    for key, tensor in tensors.items():
        module, _, side = key.removesuffix(".weight").rpartition(".lora_")
        if module not in known or side not in ("A", "B") or not key.endswith(".weight"):
            unknown.append(key)
        pairs.setdefault(module, {})[side] = tensor
    _refuse(unknown, len(tensors), "have no counterpart in ComfyUI's FLUX model")
    _refuse([name for name, pair in pairs.items() if len(pair) < 2], len(pairs), "lack one of their two matrices")
    wrong = []
    for name, pair in pairs.items():
        layer = transformer.get_submodule(name.removeprefix(PREFIX))
        down, up = pair["A"].shape, pair["B"].shape
        if down[1:] != (layer.in_features,) or up[:1] != (layer.out_features,) or up[1:] != down[:1]:
            wrong.append(name)
    _refuse(wrong, len(pairs), "do not fit the base model")
    _refuse(
        [key for key, tensor in tensors.items() if not torch.isfinite(tensor).all()],
        len(tensors),
        "contain NaN or infinity",
    )
    if not any(pair["B"].any() and pair["A"].any() for pair in pairs.values()):
        raise TrainingError("the LoRA has no effect: every pair multiplies to zero, so it has not been trained")
    return len(pairs)


def _refuse(names: list[str], total: int, what: str) -> None:
    if names:
        raise TrainingError(f"{len(names)} of {total} LoRA tensors {what}, first {names[0]!r}")

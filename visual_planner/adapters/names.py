"""Names in adapter files, by the tool that wrote them: key -> module and part.

Names of a module (q projection of the first block):
- diffusers: `transformer.transformer_blocks.0.attn.to_q` (also without the prefix)
- PEFT: `base_model.model.transformer_blocks.0.attn.to_q`, with the adapter's name after `lora_A`
- BFL: `diffusion_model.double_blocks.0.img_attn.qkv` (also without the prefix)
- OMI, as OneTrainer writes it: `transformer.double_blocks.0.img_attn.qkv.0`
- XLabs: `double_blocks.0.processor.qkv_lora1`
- kohya: `lora_unet_double_blocks_0_img_attn_qkv`
- OneTrainer: `lora_transformer_transformer_blocks_0_attn_to_q`
- LyCORIS: `lycoris_transformer_blocks_0_attn_to_q`

Wrappers of PyTorch (`_orig_mod.` of torch.compile, `module.` of data parallelism and others) may come first or in
between.
"""

import re
from typing import NamedTuple

UP, DOWN, MID, ALPHA = "lora_up.weight", "lora_down.weight", "lora_mid.weight", "alpha"
DORA, MAGNITUDE, DIFF, BIAS, SET, UP_BIAS = "dora_scale", "magnitude", "diff", "diff_b", "set_weight", "lora_up.bias"
RESHAPE, W_NORM, B_NORM = "reshape_weight", "w_norm", "b_norm"

_PAIR = re.compile(
    r"(?P<module>.+?)(?P<joint>[._])lora(?:_linear_layer)?(?P<side>_A|_B|_up|_down|\.up|\.down)"
    r"(?:\.(?!weight$|bias$)(?P<adapter>[^.]+))?(?:\.(?P<kind>weight|bias))?"
)
_XLABS = re.compile(r"(?P<module>.+\.processor\.(?:qkv|proj)_lora[12]?)\.(?P<side>up|down)\.weight")
_MAGNITUDE = re.compile(r"(?P<module>.+)\.lora_magnitude_vector(?:\.[^.]+)??(?:\.weight)?")
_OTHERS = tuple(
    sorted(
        (
            ALPHA, DORA, MID, DIFF, BIAS, SET, RESHAPE, W_NORM, B_NORM, "oft_blocks", "rescale",
            "lokr_w1", "lokr_w2", "lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
            "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
            "a1.weight", "a2.weight", "b1.weight", "b2.weight",
        ),
        key=len,
        reverse=True,
    )
)  # fmt: skip
_SCALE = re.compile(r"(?P<module>.+_norm\.scale)")
"""BFL's adapters hold complete scales of the norms, without a suffix."""
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_PREFIXES = ("base_model.model.", "model.", "module.", "transformer.", "diffusion_model.", "unet.")
_FLAT_PREFIXES = ("lora_unet_", "lora_transformer_", "lycoris_")
_TEXT_ENCODERS = re.compile(
    r"(?:base_model\.model\.)?(?:lora_te\d*_|lycoris_te(?:xt_encoder)?\w*_|text_encoders?(?:_\d)?\.|te\d*_|clip_[lgh]\.|"
    r"t5(?:xxl)?[._]|text_model\.|bundle_emb\.)"
)
_OMI = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
}
_OMI_NAME = re.compile(r"(double|single)_blocks\.(\d+)\.(img_attn\.qkv|txt_attn\.qkv|linear1)\.(\d)")
_XLABS_NAMES = {
    "qkv_lora1": "img_attn.qkv",
    "qkv_lora2": "txt_attn.qkv",
    "proj_lora1": "img_attn.proj",
    "proj_lora2": "txt_attn.proj",
    "qkv_lora": "linear1_qkv",
    "proj_lora": "linear2",
}
_XLABS_NAME = re.compile(r"(.+)\.processor\.(\w+)")


class Part(NamedTuple):
    """One tensor's place in a file.

    Args:
        module: name of the layer that it changes, as in the file.
        part: its role in the adapter, one of the names defined in this file.
        adapter: PEFT's name of the adapter; empty where the file has none.
        letters: whether the matrices are called A and B, as PEFT and diffusers call them.
    """

    module: str
    part: str
    adapter: str = ""
    letters: bool = False


def parse(key: str) -> Part | None:
    """Module and part of a key; None if it belongs to no known kind of adapter."""
    if found := _XLABS.fullmatch(key):
        return Part(found["module"], UP if found["side"] == "up" else DOWN)
    if found := _MAGNITUDE.fullmatch(key):
        return Part(found["module"], MAGNITUDE, letters=True)
    for name in _OTHERS:
        if key.endswith(f".{name}"):
            return Part(key[: -len(name) - 1], name)
    if found := _SCALE.fullmatch(key):
        return Part(found["module"], SET)
    if (found := _PAIR.fullmatch(key)) and (found["joint"] == "." or found["side"][0] == "."):
        up, bias = found["side"][1:] in ("B", "up"), found["kind"] == "bias"
        if bias and not up:
            return None
        letters = found["side"][1:] in ("A", "B")
        return Part(found["module"], UP_BIAS if bias else UP if up else DOWN, found["adapter"] or "", letters)
    return None


def of_text_encoder(key: str) -> bool:
    """Whether a key belongs to a text encoder, or to embeddings that were trained beside it."""
    return _TEXT_ENCODERS.match(key) is not None


def bare(module: str) -> str:
    """A module's name without prefixes and wrappers: as the network itself calls it."""
    name = ".".join(part for part in module.split(".") if part not in _WRAPPERS)
    while prefix := next((p for p in _PREFIXES if name.startswith(p)), None):
        name = name[len(prefix) :]
    return name


def candidates(module: str) -> tuple[str, ...]:
    """Names under which ComfyUI's key map may know a module of a file, the likeliest first."""
    name = bare(module)
    flat = name
    for prefix in _FLAT_PREFIXES:
        flat = flat.removeprefix(prefix)
    while prefix := next((p for p in ("_orig_mod_", "module_") if flat.startswith(p)), None):
        flat = flat[len(prefix) :]
    flat = flat.replace(".", "_")
    return (
        module,
        f"transformer.{name}",
        f"diffusion_model.{name}",
        f"diffusion_model.{_omi(name)}",
        f"transformer.{_omi(name)}",
        f"diffusion_model.{_xlabs(name)}",
        f"transformer.{name.replace('.processor.', '.')}",
        f"diffusion_model.{name.removesuffix('.scale')}",
        f"lora_transformer_{flat}",
        f"lora_unet_{flat}",
        f"lycoris_{flat}",
    )


def _omi(name: str) -> str:
    """Diffusers' name for an OMI name, which numbers the parts of a fused layer."""
    if name == "img_in.proj":
        return "img_in"
    found = _OMI_NAME.fullmatch(name)
    if found is None or int(found[4]) >= len(_OMI[found[3]]):
        return name
    block = "transformer_blocks" if found[1] == "double" else "single_transformer_blocks"
    return f"{block}.{found[2]}.{_OMI[found[3]][int(found[4])]}"


def _xlabs(name: str) -> str:
    """BFL's name for an XLabs name, whose layers are attached to attention processors."""
    found = _XLABS_NAME.fullmatch(name)
    return name if found is None or found[2] not in _XLABS_NAMES else f"{found[1]}.{_XLABS_NAMES[found[2]]}"

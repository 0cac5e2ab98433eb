"""Planner LoRAs of every key format, onto ComfyUI's FLUX model, all of it or not at all.

ComfyUI's own loader only logs keys that it cannot place: a LoRA made for another model does nothing, silently. Here
each key is brought to the name that ComfyUI's key map knows, each shape is compared with the model's, and anything
left over is an error with counts and names. The patches themselves are then made by ComfyUI's own code.

Names of a module, by who wrote the file (q projection of the first block):
- diffusers: `transformer.transformer_blocks.0.attn.to_q` (also without the prefix)
- PEFT: `base_model.model.transformer_blocks.0.attn.to_q`
- BFL: `diffusion_model.double_blocks.0.img_attn.qkv` (also without the prefix)
- kohya: `lora_unet_double_blocks_0_img_attn_qkv`
- OneTrainer: `lora_transformer_transformer_blocks_0_attn_to_q`
- LyCORIS: `lycoris_transformer_blocks_0_attn_to_q`
"""

import json
from collections.abc import Iterable, Mapping

from ...visual_planner.errors import PlannerError

# What follows a module's name, longest first, and what ComfyUI's adapters call it.
_SUFFIXES = {
    ".lora_A.default.weight": ".lora_down.weight",
    ".lora_B.default.weight": ".lora_up.weight",
    ".lora_A.weight": ".lora_down.weight",
    ".lora_B.weight": ".lora_up.weight",
    ".lora.down.weight": ".lora_down.weight",
    ".lora.up.weight": ".lora_up.weight",
    "_lora.down.weight": ".lora_down.weight",
    "_lora.up.weight": ".lora_up.weight",
    ".lora_down.weight": ".lora_down.weight",
    ".lora_up.weight": ".lora_up.weight",
    ".lora_A": ".lora_down.weight",
    ".lora_B": ".lora_up.weight",
}
_KEPT_SUFFIXES = tuple(
    f".{name}"
    for name in (
        "alpha", "dora_scale", "lora_mid.weight", "diff", "diff_b", "set_weight", "reshape_weight",
        "lokr_w1", "lokr_w2", "lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
        "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
    )
)  # fmt: skip
_PREFIXES = ("base_model.model.", "model.", "transformer.", "diffusion_model.", "unet.")
_NAMED = 3
"""How many keys an error names."""


class LoraError(PlannerError):
    """A LoRA does not belong to the model, or cannot be read."""


def split_key(key: str) -> tuple[str, str] | None:
    """Split a file's key into (module, suffix as ComfyUI's adapters call it); None when the suffix is unknown."""
    for suffix, name in _SUFFIXES.items():
        if key.endswith(suffix):
            return key[: -len(suffix)], name
    for suffix in _KEPT_SUFFIXES:
        if key.endswith(suffix):
            return key[: -len(suffix)], suffix
    return None


def find_module(module: str, key_map: Mapping[str, object]) -> str | None:
    """Name under which ComfyUI's key map knows a module of a LoRA file; None when it knows none."""
    bare = module
    while prefix := next((p for p in _PREFIXES if bare.startswith(p)), None):
        bare = bare[len(prefix) :]
    flat = bare.removeprefix("lora_unet_").removeprefix("lora_transformer_").removeprefix("lycoris_").replace(".", "_")
    candidates = (
        module,
        f"transformer.{bare}",
        f"diffusion_model.{bare}",
        f"lora_transformer_{flat}",
        f"lora_unet_{flat}",
        f"lycoris_{flat}",
    )
    return next((name for name in candidates if name in key_map), None)


def normalise(tensors: Mapping[str, object], key_map: Mapping[str, object], name: str) -> dict[str, object]:
    """Rename a LoRA's tensors to `<name in the key map><ComfyUI's suffix>`.

    Args:
        tensors: the file's tensors (or their shapes) by key.
        key_map: from `comfy.lora.model_lora_keys_unet`.
        name: the LoRA's name, for messages.

    Raises:
        LoraError: keys that match nothing, two keys for one place, or a file without any LoRA key.
    """
    renamed: dict[str, object] = {}
    unmatched = []
    for key, value in tensors.items():
        parts = split_key(key)
        module = find_module(parts[0], key_map) if parts else None
        if module is None:
            unmatched.append(key)
            continue
        target = module + parts[1]
        if target in renamed:
            raise LoraError(f"LoRA {name} must have one entry per layer, but several of its keys map to {target}")
        renamed[target] = value
    if unmatched or not renamed:
        raise LoraError(
            f"LoRA {name} must fit the model, but {len(unmatched)} of its {len(tensors)} keys match nothing in it"
            f"{_examples(unmatched)}; it was made for another model"
        )
    return renamed


def check_shapes(shapes: Mapping[str, tuple[int, ...]], key_map: Mapping[str, object], model_shapes, name: str) -> None:
    """Compare every pair of low-rank matrices with the weight it changes.

    Args:
        shapes: shape by normalised key.
        key_map: from `comfy.lora.model_lora_keys_unet`: a weight's key, or (key, (dim, start, length), ...) for a part.
        model_shapes: shape of the model's weights by key; a weight that is stored packed is not in it.
        name: the LoRA's name, for messages.

    Raises:
        LoraError: half a pair is missing, or a pair makes a matrix of another shape than the weight.
    """
    ups = [key.removesuffix(".lora_up.weight") for key in shapes if key.endswith(".lora_up.weight")]
    downs = [key.removesuffix(".lora_down.weight") for key in shapes if key.endswith(".lora_down.weight")]
    if alone := sorted(set(ups) ^ set(downs)):
        raise LoraError(
            f"LoRA {name} must have both matrices of each pair, but {len(alone)} lack one{_examples(alone)}"
        )
    wrong = []
    for module in ups:
        up, down = shapes[f"{module}.lora_up.weight"], shapes[f"{module}.lora_down.weight"]
        wanted = _target_shape(key_map[module], model_shapes)
        made = (up[0], *down[1:])
        if up[1] != down[0] or (wanted is not None and f"{module}.reshape_weight" not in shapes and made != wanted):
            wrong.append(f"{module}: LoRA {_size(made)}, model {_size(wanted or made)}")
    if wrong:
        raise LoraError(
            f"LoRA {name} must fit the model, but {len(wrong)} of its {len(ups)} modules have another shape"
            f"{_examples(wrong)}; it was made for another model"
        )


def header_alphas(metadata: Mapping[str, str], modules: Iterable[str], name: str) -> dict[str, float]:
    """Alpha of each module as the header says it; modules of which it says nothing are left out (alpha = rank).

    Read are diffusers' record (`lora_adapter_metadata`, PEFT's lora_alpha, alpha_pattern and use_rslora) and the plain
    entries `ss_network_alpha` and `lora_alpha`.

    Args:
        metadata: the header's text entries.
        modules: normalised names of the modules that have no alpha tensor.
        name: the LoRA's name, for messages.

    Raises:
        LoraError: the header's alpha cannot be read, or asks for rank-stabilised scaling.
    """
    record = _adapter_record(metadata, name)
    pattern = record.get("alpha_pattern") or {}
    default = record.get("lora_alpha", metadata.get("ss_network_alpha", metadata.get("lora_alpha")))
    if record.get("use_rslora"):
        raise LoraError(
            f"LoRA {name} must scale by alpha / rank, but its header asks for rank-stabilised scaling (use_rslora)"
        )
    alphas = {}
    for module in modules:
        own = next((value for key, value in pattern.items() if module == key or module.endswith(f".{key}")), default)
        if own not in (None, "None", ""):
            alphas[module] = _number(own, name)
    return alphas


def _adapter_record(metadata: Mapping[str, str], name: str) -> dict:
    """PEFT's settings out of diffusers' `lora_adapter_metadata`, without the `transformer.` before each key."""
    text = metadata.get("lora_adapter_metadata")
    if not text:
        return {}
    try:
        record = json.loads(text)
        return {key.removeprefix("transformer."): value for key, value in record.items()}
    except (ValueError, AttributeError, RecursionError):
        raise LoraError(
            f"LoRA {name} must have readable settings, but lora_adapter_metadata in its header is not JSON"
        ) from None


def _number(value: object, name: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise LoraError(f"LoRA {name} must have a number as alpha in its header, got {value!r}") from None


def _target_shape(target: object, model_shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    key, part = (target, None) if isinstance(target, str) else (target[0], target[1])
    shape = model_shapes.get(key)
    if shape is None or part is None:
        return shape
    dim, _, length = part
    return (*shape[:dim], length, *shape[dim + 1 :])


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape)


def _examples(names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f" ({'; '.join(names[:_NAMED])}{more})"

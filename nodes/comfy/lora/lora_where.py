"""Where a LoRA acts: merged into the weights, or beside weights too coarse to hold it (`lora_beside`)."""

from collections.abc import Callable, Mapping

import torch

from .lora_beside import memory, shape_of
from .lora_keys import target_of
from .lora_make import LARGE, NAMES, can_stand, kind_of, layer_of

AUTO, MERGED, BESIDE = HOW = ("auto", "merged", "beside")
"""Beside quantised weights and merged into others; merged into all; beside all."""

GGUF = "GGUF"
_WEIGHT, _BIAS = ".weight", ".bias"


def packing_of(weight: torch.Tensor) -> str | None:
    """How a weight is stored, in a word, if it is quantised; None for the usual dtypes.

    Determined from the tensor's attributes, not its class: ComfyUI's own quantised tensors wrap the stored one, those
    of GGUF loaders name the file's type, and others are plain 8-bit tensors.
    """
    stored = getattr(weight, "_qdata", weight)
    if stored.dtype.is_floating_point and stored.dtype.itemsize > 1:
        return None
    if hasattr(weight, "tensor_type"):
        return GGUF
    if stored.dtype.is_floating_point:
        return "fp8" if "float8" in str(stored.dtype) else "4 bit"
    return "int8" if stored.dtype == torch.int8 else "packed"


def split(model, patches: Mapping, how: str) -> tuple[dict, dict]:
    """Sort a file's patches into those that act beside the weights and those that are merged into them.

    Args:
        model: MODEL.
        patches: ComfyUI's patches, by key.
        how: one of `HOW`.

    Returns:
        Patches beside the weights, and patches to merge.
    """
    beside = {key: patch for key, patch in patches.items() if _stands_beside(model, key, patch, how)}
    return beside, {key: patch for key, patch in patches.items() if key not in beside}


def is_asked(model, key: object, how: str) -> bool:
    """Whether patches of a weight act beside it, if they can."""
    return how != MERGED and (how == BESIDE or _packing(model, key) is not None) and _is_linear(model, key)


def note(model, name: str, beside: Mapping, merged: Mapping, how: str) -> str | None:
    """What a user should know of where a LoRA acts, in one line; None if it is merged into weights of usual dtypes.

    Args:
        model: MODEL, with the LoRA applied.
        name: the LoRA's name.
        beside: patches that act beside the weights.
        merged: patches that are merged into them.
        how: one of `HOW`.
    """
    if not (beside or merged) or (how == AUTO and not beside and not any(_packing(model, key) for key in merged)):
        return None
    texts = []
    if beside:
        size = memory(model) / 2**20
        texts.append(f"beside the weights of {_stored(model, beside)}, {size:.3g} MB in all while sampling")
    if merged:
        texts.append(f"merged into {_stored(model, merged)}")
    return f"LoRA {name}: {'; '.join(texts)}"


def rounded(model, merged: Mapping) -> dict[str, int]:
    """Number of layers that round what is merged into them, by the name of the kind of adapter.

    GGUF loaders merge at run time, in floating point.
    """
    layers: dict[str, set[str]] = {}
    for key, patch in merged.items():
        if _packing(model, key) not in (None, GGUF):
            layers.setdefault(NAMES.get(kind_of(patch), kind_of(patch)), set()).add(layer_of(key))
    return {name: len(own) for name, own in layers.items()}


def _stored(model, patches: Mapping) -> str:
    packings = sorted({packing for key in patches if (packing := _packing(model, key))})
    count = len({layer_of(key) for key in patches})
    stored = f" ({', '.join(packings)})" if packings else ""
    return f"{count} layer{'' if count == 1 else 's'}{stored}"


def _packing(model, key: object) -> str | None:
    _, weight = _place(model, key)
    return None if weight is None else packing_of(weight)


def _place(model, key: object) -> tuple[torch.nn.Module | None, torch.Tensor | None]:
    """The layer and the weight (or bias) that a patch is for; None for what the model lacks."""
    name, _, kind = target_of(key)[0].rpartition(".")
    try:
        module = model.model.get_submodule(name)
    except AttributeError:
        return None, None
    return module, getattr(module, kind, None)


def _stands_beside(model, key: object, patch: object, how: str) -> bool:
    """Whether a patch acts beside its layer; one that needs as much memory as the layer only does so on request."""
    if not is_asked(model, key, how) or not can_stand(key, patch):
        return False
    return how == BESIDE or kind_of(patch) not in LARGE or target_of(key)[0].endswith(_BIAS)


def _is_linear(model, key: object) -> bool:
    """Whether a patch is for a linear layer."""
    target = target_of(key)[0]
    module, weight = _place(model, f"{target.rpartition('.')[0]}{_WEIGHT}")
    return weight is not None and not isinstance(module, torch.nn.Embedding) and len(shape_of(module, weight)) == 2


def stored_weight(model, key: str) -> tuple[torch.Tensor, Callable[..., torch.Tensor]]:
    """A weight of a MODEL as it is stored, and the function by which ComfyUI unpacks a copy of it.

    Where a run has patched it in place, this is the backup that ComfyUI keeps. The MODEL's own `get_key_patches` also
    looks up all entries whose names begin in the same way, and in newer versions the scales of packed weights are
    entries that cannot be looked up.
    """
    from comfy.model_patcher import get_key_weight

    stored, _, convert = get_key_weight(model.model, key)
    kept, hooked = model.backup.get(key), model.hook_backup.get(key)
    if kept is not None:
        stored = kept.weight
    if hooked is not None:
        stored = hooked[0]
    return stored, convert or (lambda weight, **_: weight)

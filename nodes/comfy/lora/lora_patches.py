"""From an adapter file's tensors to ComfyUI's patches: alpha, values, and what ComfyUI itself reads differently."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch

from ....visual_planner.adapters import names, scale, values
from ....visual_planner.errors import plain
from .lora_keys import LoraError, Module, bias_of, target_of
from .lora_make import PeftDora, by_lengths_of_the_sum, layer_of, turned
from .lora_where import stored_weight

_OWN = (names.BIAS, names.UP_BIAS, names.B_NORM, names.MAGNITUDE)
"""Parts that ComfyUI's loader does not read, or does not if a layer is part of a larger one."""

Tensors = Mapping[str, torch.Tensor]


def scales(
    modules: list[Module], tensors: Tensors, metadata: Mapping[str, str], path: Path, name: str
) -> dict[str, float]:
    """Alpha by name of the modules that have pairs of matrices but no alpha tensor; see `adapters.scale`.

    Raises:
        LoraError: the record in the header, or beside the file, cannot be read.
    """
    where = f"LoRA {name}"
    kohya = not any(module.letters or names.ALPHA in module.keys for module in modules)
    alphas = {}
    try:
        settings = scale.settings_of_header(metadata, where)
        if not settings and any(module.letters for module in modules):
            keys = (key for module in modules for key in module.keys.values())
            files = (file.name for file in path.parent.glob("[!.]*.safetensors"))
            beside = partial(path.with_name(scale.PEFT_SETTINGS).open, "rb")
            settings = scale.settings_beside(path.name, files, keys, beside, where)
        for module in modules:
            if module.kind == "lora" and names.ALPHA not in module.keys:
                rank = len(tensors[module.keys[names.DOWN]])
                alpha = scale.alpha_of(settings, metadata, kohya, module.bare, rank, where)
                if alpha is not None:
                    alphas[module.name] = alpha
    except scale.ScaleError as error:
        raise LoraError(str(error)) from None
    return alphas


def check_values(modules: list[Module], tensors: Tensors, alphas: Mapping[str, float], name: str) -> None:
    """Check the values before anything is applied.

    Raises:
        LoraError: a tensor holds NaN, infinity or anything but numbers, alpha switches a layer off, or the file changes
            nothing.
    """
    keys = [(part, key) for module in modules for part, key in module.keys.items()]
    exact = (names.ALPHA, names.RESHAPE)
    _refuse([key for part, key in keys if part not in exact and not values.are_numbers(tensors[key])], name,
            "floating-point numbers", "tensors hold others")  # fmt: skip
    _refuse([key for _, key in keys if not values.is_finite(tensors[key])], name, "finite numbers",
            "tensors hold NaN or infinity")  # fmt: skip
    layers = [(module, {part: tensors[key] for part, key in module.keys.items()}) for module in modules]
    off = [module.name for module, parts in layers
           if values.silenced(module.kind, parts) or alphas.get(module.name) == 0]  # fmt: skip
    _refuse(off, name, "an effect", "layers have an alpha of 0")
    if not any(values.acts(module.kind, parts) for module, parts in layers):
        raise LoraError(
            f"LoRA {name} must change the model, but all of its {len(modules)} layers are zero: it was not trained"
        )
    lost = [
        module.name
        for module, parts in layers
        if "rescale" in parts and parts["oft_blocks"].ndim == 3 and bool((parts["rescale"].float() != 1).any())
    ]
    _refuse(lost, name, "parts that ComfyUI applies", "layers have a rescale beside OFT, which it leaves out")


def layers_of_lengths(
    modules: list[Module], key_map: Mapping[str, object], beside: Callable[[object], bool]
) -> set[str]:
    """Layers in which PEFT's DoRA must set row lengths in the weight itself, including everything merged before.

    Args:
        modules: from `lora_keys.gather`.
        key_map: from `comfy.lora.model_lora_keys_unet`.
        beside: whether patches of a target act beside the weight.
    """
    targets = (key_map[module.name] for module in modules if names.MAGNITUDE in module.keys)
    return {layer_of(target) for target in targets if not beside(target)}


def make_patches(
    model,
    modules: list[Module],
    tensors: Tensors,
    alphas: Mapping[str, float],
    key_map: Mapping[str, object],
    name: str,
    beside: Callable[[object], bool] = lambda target: False,
) -> dict:
    """ComfyUI's patches for a file that has been checked.

    Args:
        model: MODEL, with the patches that precede this file's.
        modules: from `lora_keys.gather`.
        tensors: the file's tensors, by key.
        alphas: from `scales`.
        key_map: from `comfy.lora.model_lora_keys_unet`.
        name: the LoRA's name, for messages.
        beside: whether patches of a target act beside the weight; PEFT's DoRA then does not need the weight.

    Raises:
        LoraError: there are DoRA magnitudes for a base whose weights cannot be read.
    """
    import comfy.lora

    known: dict[str, torch.Tensor] = {}
    own: dict = {}
    magnitudes: dict[object, torch.Tensor] = {}
    for module in modules:
        parts = {part: tensors[key] for part, key in module.keys.items()}
        if module.name in alphas:
            parts[names.ALPHA] = torch.tensor(alphas[module.name])
        if module.kind == "oft" and parts["oft_blocks"].ndim == 4:  # ComfyUI compares alpha, which may be missing
            parts.setdefault(names.ALPHA, torch.tensor(0.0))
        if "lokr_t2" in parts:
            _whole_factor(parts)
        if names.DORA in parts and parts[names.DORA].ndim == 1:
            parts[names.DORA] = parts[names.DORA][:, None]
        target = key_map[module.name]
        if names.MAGNITUDE in parts and beside(target):
            magnitudes[target] = turned(target, parts[names.MAGNITUDE].float().reshape(-1))
        elif names.MAGNITUDE in parts:
            parts[names.DORA] = _rows_of_dora(model, target, parts, name)
        if (bias := _bias(parts)) is not None:
            key, part = bias_of(target_of(target))
            own[key if part is None else (key, part)] = ("diff", (turned(target, bias),))
        known |= {f"{module.name}.{part}": tensor for part, tensor in parts.items() if part not in _OWN}
    patches = {**comfy.lora.load_lora(known, key_map, log_missing=False), **own}
    return patches | {target: PeftDora(patches[target], rows) for target, rows in magnitudes.items()}


def _whole_factor(parts: dict[str, torch.Tensor]) -> None:
    """Multiply out a LoKr's second factor, in place: ComfyUI's own product of three does not work for linear layers."""
    core, a, b = (parts.pop(name).float() for name in ("lokr_t2", "lokr_w2_a", "lokr_w2_b"))
    factor = torch.einsum("ijkl,jr,ip->prkl", core, b, a).flatten(1).contiguous()
    if "lokr_w1_a" not in parts:  # otherwise ComfyUI scales by the rank of whichever factor is a product
        factor = factor * (float(parts.pop(names.ALPHA, torch.tensor(float(len(b))))) / len(b))
    parts["lokr_w2"] = factor


def _bias(parts: Tensors) -> torch.Tensor | None:
    """Change of a layer's bias."""
    if names.UP_BIAS in parts:
        return parts[names.UP_BIAS].float() * _scale(parts)
    return parts.get(names.BIAS, parts.get(names.B_NORM))


def _scale(parts: Tensors) -> float:
    return float(parts[names.ALPHA]) / len(parts[names.DOWN]) if names.ALPHA in parts else 1.0


def _rows_of_dora(model, target: object, parts: Tensors, name: str) -> torch.Tensor:
    """PEFT's magnitudes (out,) as a `dora_scale` (out, 1) with which ComfyUI gives PEFT's result.

    PEFT: `m / |W + s B A| (W + s B A)`, with the lengths of the rows of the sum (arXiv 2402.09353, eq. 5). ComfyUI may
    divide by the lengths of W's own rows; the magnitudes then compensate for the difference.
    """
    import comfy.lora
    import comfy.model_management

    key, part = target_of(target)
    stored, convert = stored_weight(model, key)
    before = model.patches.get(key, [])
    if hasattr(stored, "tensor_shape") or not stored.is_floating_point():
        raise LoraError(
            f"LoRA {name} has DoRA magnitudes, which need a base whose weights are not packed, got {plain(key)}"
        )
    weight = convert(
        comfy.model_management.cast_to_device(stored, stored.device, torch.float32, copy=True), inplace=True
    )
    weight = comfy.lora.calculate_weight(before, weight, key)
    if part is not None:
        weight = weight.narrow(*part)
    magnitude = turned(target, parts[names.MAGNITUDE].float().reshape(-1)).to(weight.device)[:, None]
    if by_lengths_of_the_sum(True):
        return magnitude
    change = parts[names.UP].float().to(weight.device) @ parts[names.DOWN].float().to(weight.device)
    summed = weight + turned(target, change * _scale(parts))
    own, sums = (matrix.norm(dim=1, keepdim=True) for matrix in (weight, summed))
    return magnitude * (own + torch.finfo(weight.dtype).eps) / sums.clamp_min(torch.finfo(weight.dtype).tiny)


def _refuse(found: list[str], name: str, what: str, problem: str) -> None:
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise LoraError(f"LoRA {name} must have {what}, but {len(found)} {problem} ({plain(found[0], 160)}{more})")

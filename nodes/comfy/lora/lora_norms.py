"""What a LoRA changes in a MODEL, weight by weight, without changing the MODEL."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch

from ....visual_planner.adapters.blocks import Strengths
from ....visual_planner.adapters.change import Change
from .lora_beside import shape_of
from .lora_file import LoraFile
from .lora_keys import target_of
from .lora_make import is_product, kind_of, layer_of, pair_of, turn_of, turned
from .lora_patches import make_patches
from .lora_where import packing_of, stored_weight

_ROWS = 1024
"""Number of unit vectors that a packed layer is given at once."""


def changes_of(model, path: Path, name: str, factors: Strengths, relative: bool) -> tuple[list[Change], LoraFile]:
    """Size of a LoRA's change to each weight of a MODEL, as the loader would apply it at strength 1.

    Args:
        model: MODEL, with the patches that are already merged into it.
        path: the file.
        name: its name, for messages.
        factors: strengths by block.
        relative: whether to measure the weights themselves as well.

    Returns:
        The change of each changed weight, in the model's order, and the file.

    Raises:
        LoraError: see `lora.apply_lora`.
    """
    import comfy.model_management
    import comfy.utils

    file = LoraFile.of(model, path, name)
    tensors, alphas = file.load()
    patches = make_patches(model, file.modules, tensors, alphas, file.key_map, name)
    by_weight: dict[str, dict] = {}
    for key, patch in patches.items():
        if not target_of(key)[0].endswith(".bias"):
            by_weight.setdefault(target_of(key)[0], {})[key] = patch
    device = comfy.model_management.get_torch_device()
    bar = comfy.utils.ProgressBar(len(by_weight))
    order = {key: place for place, key in enumerate(model.model.state_dict())}
    changes = []
    for weight_key in sorted(by_weight, key=lambda key: order.get(key, 0)):
        layer = layer_of(weight_key).removeprefix("diffusion_model.")
        own = by_weight[weight_key]
        weight = partial(_weight, model, weight_key, device)
        changes.append(Change(layer, *_norms(own, weight_key, factors.of(weight_key), weight, relative, device)))
        bar.update(1)
    return changes, file


def _norms(
    patches: Mapping,
    key: str,
    factor: float,
    weight_of: Callable[[], torch.Tensor],
    relative: bool,
    device: torch.device,
) -> tuple[float, float | None]:
    """Frobenius norms of a weight's change and, if requested, of the weight."""
    pairs = _are_pairs(patches)
    weight = weight_of() if relative or not pairs else None
    size = float(weight.norm()) if relative else None
    if pairs:
        return abs(factor) * sum(_norm_of_pair(own, patch, device) ** 2 for own, patch in patches.items()) ** 0.5, size
    return _norm_of_patches(patches, key, factor, weight) if factor else 0.0, size


def _norm_of_patches(patches: Mapping, key: str, factor: float, weight: torch.Tensor) -> float:
    """The change as ComfyUI computes it, from the weight."""
    import comfy.lora

    entries = []
    for target, patch in patches.items():
        entries.append((factor, patch, 1.0, target_of(target)[1], turn_of(target)))
    return float((comfy.lora.calculate_weight(entries, weight.clone(), key) - weight).norm())


def _are_pairs(patches: Mapping) -> bool:
    """Whether all patches are low-rank pairs for disjoint parts, whose norms do not depend on the weight."""
    parts = [target_of(key)[1] for key in patches]
    plain = all(kind_of(patch) == "lora" and not is_product(patch) for patch in patches.values())
    return plain and (len(parts) == 1 or (None not in parts and len(set(parts)) == len(parts)))


def _norm_of_pair(key: object, patch, device: torch.device) -> float:
    """||s U D|| from small products of the matrices.

    ||U D||² = tr(U^T U D D^T), in which nothing has the weight's size.
    """
    up, down, scale = pair_of(patch)
    up, down = (matrix.to(device, torch.float64) for matrix in (turned(key, up), down))
    return abs(scale) * float(((up.T @ up) * (down @ down.T).T).sum().clamp_min(0)) ** 0.5


def _weight(model, key: str, device: torch.device) -> torch.Tensor:
    """A weight in float32, including everything merged into it before."""
    import comfy.lora
    import comfy.model_management

    stored, convert = stored_weight(model, key)
    packing, module = packing_of(stored), model.model.get_submodule(layer_of(key))
    before = model.patches.get(key, [])
    if hasattr(stored, "_qdata"):
        weight = stored.dequantize().to(device, torch.float32)
    elif packing in (None, "fp8") or (packing == "int8" and hasattr(module, "convert_weight")):
        weight = comfy.model_management.cast_to_device(stored, device, torch.float32, copy=True)
        weight = convert(weight, inplace=True)
    else:
        weight = unpacked(module, shape_of(module, stored)[1], device)
        before = [] if key in model.backup else before  # already patched in place for a run
    return comfy.lora.calculate_weight(before, weight, key)


def unpacked(module: torch.nn.Module, width: int, device: torch.device) -> torch.Tensor:
    """The unpacked weight (out, in) float32 of a linear layer, in whatever form it is stored.

    The layer is applied to the unit vectors and their negatives: half of the difference of its outputs is the weight,
    without the bias. ComfyUI's layers move their weights to the device of their input.

    Args:
        module: the layer.
        width: number of its inputs.
        device: where to compute, if the layer can follow.
    """
    if not hasattr(module, "comfy_cast_weights"):
        device = next((tensor.device for tensor in (*module.parameters(), *module.buffers())), device)
    columns = []
    for start in range(0, width, _ROWS):
        count = min(_ROWS, width - start)
        units = torch.zeros(count, width, device=device)
        units[range(count), range(start, start + count)] = 1
        columns.append((module(units).float() - module(-units).float()) / 2)
    return torch.cat(columns).T.contiguous()

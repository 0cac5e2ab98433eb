"""Read LoRA files of any trainer, which training starts from or fuses, with diffusers' names and alpha folded in."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from visual_planner.adapters import kinds, names, scale, values
from visual_planner.errors import plain
from visual_planner.planner.layers import Place, bfl_places

from ..errors import TrainingError
from .bases.registry import base_of_module
from .key_map import PREFIX

_log = logging.getLogger(__name__)

Layers = dict[str, list[tuple[str, Place]]]
"""A name in files, without prefixes -> the layers of diffusers that it stands for, with their places in it."""


def read_lora(file: str | Path, transformer: nn.Module) -> dict[str, torch.Tensor]:
    """Tensors of a LoRA file as `transformer.<layer>.lora_A.weight` and `.lora_B.weight`, with a scale of 1.

    Names of all trainers are understood (`visual_planner.adapters.names`); text encoders' keys are left out, with a
    warning. Keys that belong to no layer keep their names, so that `check_loads` can name them.

    Args:
        file: the file.
        transformer: the base, for its layers' names and sizes; may be on the meta device.

    Raises:
        TrainingError: it cannot be read, is not an adapter of matrix pairs, or lacks a part.
    """
    file, where = Path(file), f"LoRA {file}"
    tensors, metadata = _load(file)
    layers = _layers(transformer)
    modules: dict[str, dict[str, str]] = {}
    result, left_out, letters = {}, 0, False
    for key, tensor in tensors.items():
        part = names.parse(key)
        name = _find(part.module, layers) if part else None
        if name is not None:
            if part.part in modules.setdefault(name, {}):
                raise TrainingError(f"LoRA {file} must have one entry per layer, but several of its keys map to {name}")
            modules[name][part.part] = key
            letters = letters or part.letters
        elif names.of_text_encoder(key):
            left_out += 1
        else:
            result[key] = tensor
    if left_out:
        _log.warning("LoRA %s has %d keys of text encoders, which were left out", file, left_out)
    kohya = not letters and not any(names.ALPHA in parts for parts in modules.values())
    try:
        settings = scale.settings_of_header(metadata, where)
        if not settings and letters:
            held = (key for keys in modules.values() for key in keys.values())
            files = (other.name for other in file.parent.glob("[!.]*.safetensors"))
            beside = partial(file.with_name(scale.PEFT_SETTINGS).open, "rb")
            settings = scale.settings_beside(file.name, files, held, beside, where)
        for name, keys in modules.items():
            parts = {part: tensors[key] for part, key in keys.items()}
            result |= _pairs(file, name, layers[name], parts, settings, metadata, kohya)
    except scale.ScaleError as error:
        raise TrainingError(str(error)) from None
    return result


def _load(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(file, framework="pt") as opened:
            return {key: opened.get_tensor(key) for key in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"LoRA {file} cannot be read: {error}") from error


def _layers(transformer: nn.Module) -> Layers:
    """Every name that a file may use for a linear layer, or for several that BFL joins."""
    config = transformer.config
    linear = [
        name.removesuffix(".base_layer")  # peft's suffix for a layer that already has an adapter
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and ".lora_" not in name
    ]
    hidden = config.num_attention_heads * config.attention_head_dim
    family = base_of_module(transformer).family
    found: Layers = {name: [(name, Place(name))] for name in linear}
    joined: Layers = {}
    for name, place in bfl_places(family, config.num_layers, config.num_single_layers, hidden).items():
        if name in found:
            joined.setdefault(place.layer, []).append((name, place))
    found |= {name: parts for name, parts in joined.items() if name not in found}
    found |= {name.replace(".", "_"): parts for name, parts in found.items()}
    return found


def _find(module: str, layers: Layers) -> str | None:
    for candidate in names.candidates(module):
        for prefix in ("transformer.", "diffusion_model.", "lora_transformer_", "lora_unet_", "lycoris_", ""):
            if candidate.startswith(prefix) and candidate.removeprefix(prefix) in layers:
                return candidate.removeprefix(prefix)
    return None


def _pairs(
    file: Path,
    name: str,
    targets: list[tuple[str, Place]],
    parts: Mapping[str, torch.Tensor],
    settings: Mapping,
    metadata: Mapping[str, str],
    kohya: bool,
) -> dict[str, torch.Tensor]:
    """The pairs of one module, alpha folded in; a layer that joins several is split by rows."""
    try:
        kind = kinds.check({part: tuple(tensor.shape) for part, tensor in parts.items()}, None)
    except kinds.Incomplete:  # reported by `check_loads`
        side = {names.UP: "lora_B", names.DOWN: "lora_A"}
        return {f"{PREFIX}{targets[0][0]}.{side[part]}.weight": parts[part] for part in side if part in parts}
    except kinds.Misfit as misfit:
        raise TrainingError(f"LoRA {file} must be whole, but {plain(name)} {misfit}") from None
    if kind != "lora" or parts.keys() - {names.UP, names.DOWN, names.ALPHA}:
        other = ", ".join(sorted(parts.keys() - {names.UP, names.DOWN, names.ALPHA}))
        raise TrainingError(f"LoRA {file} must hold pairs of matrices alone to train on, but {plain(name)} has {other}")
    if values.silenced(kind, parts):
        raise TrainingError(f"LoRA {file} must have an effect, but {plain(name)} has an alpha of 0")
    up, down = (parts[part].flatten(1) for part in (names.UP, names.DOWN))
    alpha = parts.get(names.ALPHA)
    if alpha is None:
        alpha = scale.alpha_of(settings, metadata, kohya, names.bare(name), len(down), f"LoRA {file}")
    if alpha is not None and float(alpha) != len(down):
        up = up.float() * (float(alpha) / len(down))
    result = {}
    for layer, place in targets:
        rows = up if place.rows is None else up[place.rows[0] : sum(place.rows)]
        if place.swapped:
            rows = torch.cat(rows.chunk(2)[::-1])
        result |= {f"{PREFIX}{layer}.lora_A.weight": down, f"{PREFIX}{layer}.lora_B.weight": rows.contiguous()}
    return result

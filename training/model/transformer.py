"""The transformer of a base model, out of a diffusers folder."""

import json
from pathlib import Path

import torch
from torch import nn

from visual_planner.planner.families import Family
from visual_planner.planner.spec import PlannerSpec

from .bases.pretrained import load_weights
from .bases.registry import base_of, base_of_folder, require_base


def load_transformer(base: str | Path, dtype: str = "float32", family: Family | None = None) -> nn.Module:
    """The transformer of a diffusers folder.

    Args:
        base: the folder.
        dtype: of the weights.
        family: that it must be of; None takes any that is known.

    Raises:
        TrainingError: the folder has none, or one of another class.
    """
    found = base_of_folder(base) if family is None else require_base(base, family)
    return load_weights(found.transformer, Path(base) / "transformer", torch_dtype=getattr(torch, dtype))


def load_config_only(base: str | Path) -> nn.Module:
    """The transformer of a diffusers folder on the meta device: shapes and settings, no weights.

    Raises:
        TrainingError: the folder has none, or one of another class.
    """
    kind = base_of_folder(base).transformer
    config = kind.load_config(Path(base) / "transformer", local_files_only=True)
    with torch.device("meta"):
        return kind.from_config(config)


def shape_of(transformer: nn.Module) -> dict:
    """Its configuration as JSON: sizes and kinds of layers, nothing of where it was loaded from."""
    record = json.loads(transformer.to_json_string())
    return {name: value for name, value in record.items() if not name.startswith("_")}


def from_shape(shape: dict, spec: PlannerSpec) -> nn.Module:
    """A transformer of `shape_of` and of a planner's family on the meta device, without weights."""
    with torch.device("meta"):
        return base_of(spec).transformer.from_config(shape)

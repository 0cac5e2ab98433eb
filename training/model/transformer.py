"""Load the transformer of a base model from a diffusers folder."""

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
        dtype: dtype of the weights.
        family: family that it must belong to; None: any known family.

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
    """A transformer's configuration as JSON: sizes and kinds of layers, but not where it was loaded from."""
    record = json.loads(transformer.to_json_string())
    return {name: value for name, value in record.items() if not name.startswith("_")}


def from_shape(shape: dict, spec: PlannerSpec) -> nn.Module:
    """A transformer on the meta device, without weights, from the result of `shape_of` and a planner's family."""
    with torch.device("meta"):
        return base_of(spec).transformer.from_config(shape)

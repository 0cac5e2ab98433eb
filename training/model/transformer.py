"""The transformer of a base model, out of a diffusers folder."""

import json
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel

from ..errors import TrainingError
from .bases.folders import require_class


def load_transformer(base: str | Path, dtype: str = "float32") -> FluxTransformer2DModel:
    """The transformer of a diffusers folder.

    Raises:
        TrainingError: the folder has none, or one of another class.
    """
    return FluxTransformer2DModel.from_pretrained(_transformer_folder(base), torch_dtype=getattr(torch, dtype))


def load_config_only(base: str | Path) -> FluxTransformer2DModel:
    """The transformer of a diffusers folder on the meta device: shapes and settings, no weights.

    Raises:
        TrainingError: the folder has none, or one of another class.
    """
    config = FluxTransformer2DModel.load_config(_transformer_folder(base))
    with torch.device("meta"):
        return FluxTransformer2DModel.from_config(config)


def shape_of(transformer: FluxTransformer2DModel) -> dict:
    """Its configuration as JSON: sizes and kinds of layers, nothing of where it was loaded from."""
    record = json.loads(transformer.to_json_string())
    return {name: value for name, value in record.items() if not name.startswith("_")}


def from_shape(shape: dict) -> FluxTransformer2DModel:
    """A transformer of `shape_of` on the meta device, without weights."""
    with torch.device("meta"):
        return FluxTransformer2DModel.from_config(shape)


def _transformer_folder(base: str | Path) -> Path:
    folder = Path(base) / "transformer"
    if not (folder / "config.json").is_file():
        raise TrainingError(
            f"base model {base} has no transformer/config.json: it must be a FLUX pipeline in diffusers layout"
        )
    # diffusers would read the settings of another class, leave the weights on the meta device, and say nothing
    require_class(folder, (FluxTransformer2DModel.__name__,), f"base model {base}: transformer")
    return folder

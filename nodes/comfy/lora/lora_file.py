"""An adapter's file and the MODEL that it is for: checked before anything is loaded, then loaded and checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ....visual_planner.planner.families import FLUX2
from .. import flux2_names
from ..model_family import family_of_model
from ..safetensors_files import Header, load_tensors, read_header
from . import lora_beside
from .lora_keys import Module, check, gather
from .lora_patches import check_values, scales


@dataclass(frozen=True)
class LoraFile:
    """A file whose keys and shapes fit a MODEL.

    Args:
        path: the file.
        name: its name, for messages.
        header: its header.
        modules: its adapters, by layer.
        left_out: its keys of text encoders.
        key_map: names of the model's layers, from `comfy.lora.model_lora_keys_unet`.
    """

    path: Path
    name: str
    header: Header
    modules: list[Module]
    left_out: list[str]
    key_map: Mapping[str, object]

    @classmethod
    def of(cls, model, path: Path, name: str) -> "LoraFile":
        """Check a file's header.

        Raises:
            LoraError: keys or shapes do not fit the model.
            ModelFileError: the file is missing, truncated or not a safetensors file.
        """
        import comfy.lora

        header = read_header(path, f"LoRA {name}")
        key_map = comfy.lora.model_lora_keys_unet(model.model, {})
        if family_of_model(model) is FLUX2:  # ComfyUI's own map lacks some of its layers
            key_map |= flux2_names.lora_keys(model.model)
        modules, left_out = gather(header.shapes, key_map, name)
        check(modules, header.shapes, key_map, _weight_shapes(model), name)
        return cls(path, name, header, modules, left_out, key_map)

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """The file's tensors by key, and alpha by module name where it is not among the tensors.

        Raises:
            LoraError: values that cannot be applied, or that have no effect.
            ModelFileError: the file has changed since it was checked.
        """
        tensors = load_tensors(self.path, f"LoRA {self.name}")
        alphas = scales(self.modules, tensors, self.header.metadata, self.path, self.name)
        check_values(self.modules, tensors, alphas, self.name)
        return tensors, alphas


def _weight_shapes(model) -> dict[str, tuple[int, ...]]:
    """Shapes of the model's weights, except packed ones whose shape neither they nor their layers tell."""
    shapes, modules = {}, dict(model.model.named_modules())
    for key, weight in model.model.state_dict().items():
        packed = weight.dtype in (torch.uint8, torch.int8)
        name, _, kind = key.rpartition(".")
        if not packed or hasattr(weight, "tensor_shape"):
            shapes[key] = tuple(getattr(weight, "tensor_shape", weight.shape))
        elif kind == "weight" and hasattr(module := modules.get(name), "in_features"):
            shapes[key] = lora_beside.shape_of(module, weight)
    return shapes

"""Where ComfyUI applies a FLUX LoRA: its key map, reproduced so that an exported file can be checked.

ComfyUI holds FLUX in BFL's layout. It maps `transformer.<layer of diffusers>` to a weight or to a part of one (q, k
and v are one matrix there); keys that its map lacks are only logged, and the file silently does less than it should.
A test compares this map with that of the real ComfyUI.
"""

from collections.abc import Mapping

import torch
from torch import nn

from visual_planner.planner.families import FLUX1, Family
from visual_planner.planner.layers import bfl_places

from ..errors import TrainingError
from .bases.registry import base_of_module

PREFIX = "transformer."
"Prefix of each key in the file: diffusers and ComfyUI both read it."
Target = tuple[str, tuple[int, int] | None]
"""Weight in ComfyUI's model, and its rows (start, length); None: all rows."""


def comfyui_key_map(double_blocks: int, single_blocks: int, hidden: int, family: Family = FLUX1) -> dict[str, Target]:
    """ComfyUI's target of each layer's LoRA, by its name in a file without the `lora_A` suffix.

    Args:
        double_blocks: number of double-stream blocks.
        single_blocks: number of single-stream blocks.
        hidden: width of the model.
        family: family of the base model.
    """
    places = bfl_places(family, double_blocks, single_blocks, hidden)
    return {PREFIX + name: (f"diffusion_model.{place.layer}.weight", place.rows) for name, place in places.items()}


def check_loads(tensors: Mapping[str, torch.Tensor], transformer: nn.Module) -> int:
    """Make sure that the planner's loader places all tensors of a file at full strength, and that it changes something.

    Args:
        tensors: tensors of the file, by key.
        transformer: the base, for its layers' sizes; may be on the meta device.

    Returns:
        Number of layers that the file changes.

    Raises:
        TrainingError: a key that ComfyUI does not know, half a pair, another shape, a value that is not finite, or a
            file without effect. The message counts and names them.
    """
    config = transformer.config
    hidden = config.num_attention_heads * config.attention_head_dim
    family = base_of_module(transformer).family
    known = comfyui_key_map(config.num_layers, config.num_single_layers, hidden, family)
    known = known.keys() & {PREFIX + name for name, _ in transformer.named_modules()}
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    unknown = []
    for key, tensor in tensors.items():
        module, _, side = key.removesuffix(".weight").rpartition(".lora_")
        if module not in known or side not in ("A", "B") or not key.endswith(".weight"):
            unknown.append(key)
        pairs.setdefault(module, {})[side] = tensor
    _refuse(unknown, len(tensors), "have no counterpart in ComfyUI's FLUX model")
    _refuse([name for name, pair in pairs.items() if len(pair) < 2], len(pairs), "lack one of their two matrices")
    wrong = []
    for name, pair in pairs.items():
        layer = transformer.get_submodule(name.removeprefix(PREFIX))
        down, up = pair["A"].shape, pair["B"].shape
        if down[1:] != (layer.in_features,) or up[:1] != (layer.out_features,) or up[1:] != down[:1]:
            wrong.append(name)
    _refuse(wrong, len(pairs), "do not fit the base model")
    _refuse(
        [key for key, tensor in tensors.items() if not torch.isfinite(tensor).all()],
        len(tensors),
        "contain NaN or infinity",
    )
    if not any(pair["B"].any() and pair["A"].any() for pair in pairs.values()):
        raise TrainingError("the LoRA has no effect: every pair multiplies to zero, so it has not been trained")
    return len(pairs)


def _refuse(names: list[str], total: int, what: str) -> None:
    if names:
        raise TrainingError(f"{len(names)} of {total} LoRA tensors {what}, first {names[0]!r}")

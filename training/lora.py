"""The adapter: which layers get one, how it is computed, and its key names in a file."""

from pathlib import Path
from types import MethodType

import torch
from diffusers import FluxTransformer2DModel
from peft import LoraConfig
from peft.tuners.lora import Linear as LoraLinear
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from .config import LoraSection
from .errors import TrainingError

ADAPTER = "planner"
PREFIX = "transformer."
"""Before each key in the file: diffusers and ComfyUI both read it."""

_PAPER = (
    "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0",
    "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out",
    "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2",
)  # fmt: skip
"""Layers of the released weights: attention and feed-forwards of the double blocks, attention of the single blocks."""


def target_names(transformer: FluxTransformer2DModel, targets: str) -> list[str]:
    """Names of the linear layers that get an adapter, for a preset of `LoraSection.targets`."""
    names = [name for name, module in transformer.named_modules() if isinstance(module, torch.nn.Linear)]
    if targets == "all_linear":
        return names
    return [name for name in names if name.endswith(_PAPER)]


def add_lora(transformer: FluxTransformer2DModel, section: LoraSection) -> None:
    """Freeze the transformer and add a fresh adapter (float32), in place.

    Args:
        transformer: from diffusers.
        section: rank, alpha, targets.
    """
    transformer.requires_grad_(False)
    names = target_names(transformer, section.targets)
    config = LoraConfig(r=section.rank, lora_alpha=section.alpha, target_modules=names)
    transformer.add_adapter(config, adapter_name=ADAPTER)
    for module in transformer.modules():
        if isinstance(module, LoraLinear):
            module.lora_A[ADAPTER].float()
            module.lora_B[ADAPTER].float()
            if section.merged_forward:
                module.forward = MethodType(_merged_forward, module)


def _merged_forward(self: LoraLinear, x: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
    """The same result as peft's two products, W x + s B (A x), from one with W + s B A.

    Cheaper when tokens outnumber the rank, as in small models.
    """
    base, scale = self.get_base_layer(), self.scaling[ADAPTER]
    weight = torch.addmm(base.weight, self.lora_B[ADAPTER].weight, self.lora_A[ADAPTER].weight, alpha=scale)
    return torch.nn.functional.linear(x, weight, base.bias)


def lora_state(transformer: FluxTransformer2DModel) -> dict[str, torch.Tensor]:
    """The adapter's tensors under the names of the exported file (`transformer.<layer>.lora_A.weight`)."""
    return {
        PREFIX + name: tensor for name, tensor in get_peft_model_state_dict(transformer, adapter_name=ADAPTER).items()
    }


def fold_alpha(tensors: dict[str, torch.Tensor], section: LoraSection) -> dict[str, torch.Tensor]:
    """Fold alpha / rank into B: readers disagree on where alpha is written, a scale of 1 needs none."""
    scale = section.alpha / section.rank
    return {name: tensor * scale if ".lora_B." in name else tensor for name, tensor in tensors.items()}


def check_exported(tensors: dict[str, torch.Tensor], transformer: FluxTransformer2DModel) -> None:
    """Make sure that every tensor of a file belongs to a layer of the model and fits it.

    Raises:
        TrainingError: one does not; the message counts and names them.
    """
    layers = {n: m for n, m in transformer.named_modules() if isinstance(m, torch.nn.Linear)}
    wrong = []
    for key, tensor in tensors.items():
        name, _, part = key.removeprefix(PREFIX).rpartition(".lora_")
        layer = layers.get(name)
        side = 1 if part.startswith("A") else 0
        if layer is None or tensor.shape[side] != layer.weight.shape[1 if side else 0]:
            wrong.append(key)
    if wrong:
        raise TrainingError(
            f"{len(wrong)} of {len(tensors)} LoRA tensors do not fit the base model, first {wrong[0]!r}"
        )


@torch.no_grad()
def fuse_lora(transformer: torch.nn.Module, file: str | Path, strength: float = 1.0) -> None:
    """Add a LoRA of diffusers' key form (`transformer.<layer>.lora_A.weight`) to the weights, in place.

    Raises:
        TrainingError: the file cannot be read, or a tensor belongs to no layer of the model or does not fit it.
    """
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"LoRA {file} cannot be read: {error}") from error
    check_exported(tensors, transformer)
    for key, down in tensors.items():
        if ".lora_A." in key:
            layer = transformer.get_submodule(key.removeprefix(PREFIX).rpartition(".lora_A")[0])
            up = tensors[key.replace(".lora_A.", ".lora_B.")]
            layer.weight += strength * (up.to(layer.weight) @ down.to(layer.weight))

"""The adapter: which layers get one, how it is computed, and its key names in a file."""

from pathlib import Path
from types import MethodType

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear as LoraLinear

from ..errors import TrainingError
from ..sections.planner import LoraSection
from .bases.registry import base_of_module
from .key_map import PREFIX, check_loads
from .lora_files import read_lora
from .quantize import PackedLinear, as_computed, frozen_product, plain_matrix

ADAPTER = "planner"


def target_names(transformer: torch.nn.Module, targets: str) -> list[str]:
    """Names of the linear layers that get an adapter, for a preset of `LoraSection.targets`."""
    names = [name for name, module in transformer.named_modules() if isinstance(module, torch.nn.Linear)]
    if targets == "all_linear":
        return names
    blocks = [name for name in names if name.startswith(("transformer_blocks.", "single_transformer_blocks."))]
    if targets == "blocks":
        return blocks
    endings = base_of_module(transformer).targets[targets]
    return [name for name in blocks if name.endswith(endings)]


def add_lora(transformer: torch.nn.Module, section: LoraSection) -> None:
    """Freeze the transformer and add a fresh adapter (float32), in place.

    Args:
        transformer: diffusers' transformer.
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
            elif section.fused_forward:
                module.forward = MethodType(_fused_forward, module)


@torch.no_grad()
def start_from(transformer: torch.nn.Module, section: LoraSection) -> None:
    """Give a fresh adapter the matrices of `section.init`, an exported planner LoRA (alpha folded in), in place.

    Raises:
        TrainingError: the file cannot be read, or has other layers or another rank than the section asks for.
    """
    tensors = read_lora(section.init, transformer)
    check_loads(tensors, transformer)
    scale, fitting = section.alpha / section.rank, 0
    adapted = {PREFIX + name: module for name, module in transformer.named_modules() if isinstance(module, LoraLinear)}
    for name, module in adapted.items():
        down, up = tensors.get(f"{name}.lora_A.weight"), tensors.get(f"{name}.lora_B.weight")
        if down is None or len(down) != section.rank:
            continue
        module.lora_A[ADAPTER].weight.copy_(down)
        module.lora_B[ADAPTER].weight.copy_(up.float() / scale)
        fitting += 1
    if not fitting == len(adapted) == len(tensors) // 2:
        ranks = sorted({len(tensor) for key, tensor in tensors.items() if ".lora_A." in key})
        raise TrainingError(
            f"lora.init {section.init} has {len(tensors) // 2} layers of rank {', '.join(map(str, ranks))}, the "
            f"configuration has {len(adapted)} ({section.targets}) of rank {section.rank}: they must be the same"
        )


class _MergedProduct(torch.autograd.Function):
    """`x (W + s B A)^T + b`; the backward pass recomputes the sum, so that no second set of weights is kept."""

    @staticmethod
    def forward(ctx, x, weight, bias, down, up, scale):
        ctx.save_for_backward(x, weight, down, up)
        ctx.scale = scale
        return torch.nn.functional.linear(x, torch.addmm(weight, up, down, alpha=scale), bias)

    @staticmethod
    def backward(ctx, gradient):
        x, weight, down, up = ctx.saved_tensors
        kind = gradient.dtype
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (gradient @ torch.addmm(weight, up, down, alpha=ctx.scale).to(kind)).to(x.dtype)
        of_weight = (gradient.flatten(0, -2).mT @ x.flatten(0, -2).to(kind)).to(up.dtype)
        return of_x, None, None, ctx.scale * (up.mT @ of_weight), ctx.scale * (of_weight @ down.mT), None


def _merged_forward(self: LoraLinear, x: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
    """The same result as peft's two products, W x + s B (A x), from a single one with W + s B A.

    Cheaper if tokens outnumber the rank, as in small models; for few rows (an example's modulation), two are cheaper.
    """
    base, down, up = self.get_base_layer(), self.lora_A[ADAPTER].weight, self.lora_B[ADAPTER].weight
    scale, linear = self.scaling[ADAPTER], torch.nn.functional.linear
    if x.numel() <= len(down) * x.shape[-1]:
        return base(x) + scale * linear(linear(x.to(down.dtype), down), up).to(x.dtype)
    return _MergedProduct.apply(_shared_cast(x), base.weight, base.bias, down, up, scale)


def _shared_cast(x: torch.Tensor) -> torch.Tensor:
    """An input in autocast's dtype; layers with a common input (queries, keys, values) share one copy of it.

    Autocast alone would cast it twice for each layer, and keep the input of the larger dtype.
    """
    if torch.compiler.is_compiling():  # the compiler merges common casts by itself
        return as_computed(x)
    copy = getattr(x, "shared_cast", None)
    if copy is None:
        copy = as_computed(x)
        if copy is not x:
            x.shared_cast = copy
    return copy


class _FusedProduct(torch.autograd.Function):
    """`x W^T + b + s (x A^T) B^T`; the matrix products themselves add the adapter and the sums of gradients in place.

    This avoids peft's separate passes over (rows, features): the cast to float32, the scale, the sum.
    """

    @staticmethod
    def forward(ctx, x, down, up, scale, bias, eight, *stored):
        out = frozen_product(x, bias, eight, *stored)
        low = x.flatten(0, -2) @ down.to(x.dtype).mT
        out.view(-1, out.shape[-1]).addmm_(low, up.to(x.dtype).mT, alpha=scale)
        ctx.save_for_backward(x, low, down, up, *stored)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx, gradient):
        x, low, down, up, *stored = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        of_low = (rows @ up.to(rows.dtype)).mul_(ctx.scale)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (rows @ plain_matrix(rows.dtype, *stored)).addmm_(of_low, down.to(rows.dtype)).view(x.shape)
        of_down = (of_low.mT @ x.flatten(0, -2)).to(down.dtype)
        of_up = (rows.mT @ low).to(up.dtype).mul_(ctx.scale)
        return of_x, of_down, of_up, None, None, None, *(None for _ in stored)


def _fused_forward(self: LoraLinear, x: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
    """The same result as peft's, up to rounding, for a plain or packed frozen layer."""
    base = self.get_base_layer()
    if isinstance(base, PackedLinear):
        eight, stored = base.eight, (base.packed, base.scale)
    elif type(base) is torch.nn.Linear:
        eight, stored = False, (base.weight,)
    else:  # bitsandbytes computes its own product
        return type(self).forward(self, x)
    down, up = self.lora_A[ADAPTER].weight, self.lora_B[ADAPTER].weight
    return _FusedProduct.apply(as_computed(x), down, up, self.scaling[ADAPTER], base.bias, eight, *stored)


def computes_fused(module: torch.nn.Module) -> bool:
    """Whether a layer adds its adapter in place."""
    return getattr(module.forward, "__func__", None) is _fused_forward


def fold_alpha(tensors: dict[str, torch.Tensor], section: LoraSection) -> dict[str, torch.Tensor]:
    """Fold alpha / rank into B: readers disagree on where alpha is stored, and a scale of 1 needs none."""
    scale = section.alpha / section.rank
    return {name: tensor * scale if ".lora_B." in name else tensor for name, tensor in tensors.items()}


def file_tensors(weights: dict[str, torch.Tensor], section: LoraSection) -> dict[str, torch.Tensor]:
    """A checkpoint's weights (float32) under the names of the exported file, alpha folded in."""
    # peft puts the adapter's name into parameter names; files do not have it
    tensors = {PREFIX + n.replace(f".{ADAPTER}.weight", ".weight"): t.float() for n, t in weights.items()}
    return fold_alpha(tensors, section)


def stack(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """One LoRA with the effect of two: ranks add up, `B A = B1 A1 + B2 A2`."""
    both = dict(first)
    for key, tensor in second.items():
        along = 0 if ".lora_A." in key else 1
        both[key] = torch.cat([first[key].to(tensor.dtype), tensor], dim=along) if key in first else tensor
    return both


@torch.no_grad()
def fuse_lora(transformer: torch.nn.Module, file: str | Path, strength: float = 1.0) -> None:
    """Add a LoRA, with any trainer's key names, to the weights, in place.

    Raises:
        TrainingError: the file cannot be read, or a tensor belongs to no layer of the model or does not fit its layer.
    """
    tensors = read_lora(file, transformer)
    check_loads(tensors, transformer)
    for key, down in tensors.items():
        if ".lora_A." in key:
            layer = transformer.get_submodule(key.removeprefix(PREFIX).rpartition(".lora_A")[0])
            up = tensors[key.replace(".lora_A.", ".lora_B.")]
            layer.weight.copy_(layer.weight.float() + strength * (up.float() @ down.float()))

"""Frozen matrices stored in fewer bits, so that a 12B base fits a 24 GB GPU; adapters stay in float32.

int8 and fp8 (e4m3) are stored with one scale for each output row and brought back to the computing type where they are
used, so they need no special hardware. nf4 is stored and computed by bitsandbytes. Only the blocks' matrices are
stored so: embedders, modulation of the output and the output itself are small and sensitive.
"""

import importlib

import torch
from torch import nn

from ..errors import TrainingError

_FP8_MAX = 448.0
"""Largest float8_e4m3fn."""
_BLOCKS = ("transformer_blocks.", "single_transformer_blocks.")


class _UpcastProduct(torch.autograd.Function):
    """`x Wᵀ + b` that keeps the packed matrix for the backward pass, not the one it is brought back to."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, packed: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None):
        ctx.save_for_backward(packed, scale)
        return nn.functional.linear(x, _unpack(packed, scale, x.dtype), None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        packed, scale = ctx.saved_tensors
        return gradient @ _unpack(packed, scale, gradient.dtype), None, None, None


def _unpack(packed: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    values = packed.view(torch.float8_e4m3fn) if packed.dtype == torch.uint8 else packed
    return values.to(dtype).mul_(scale.to(dtype))  # in place: two matrices would be the peak of a step


def _as_computed(x: torch.Tensor) -> torch.Tensor:
    """An input in autocast's dtype where that is on: autocast does not look into the products of packed layers."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return x.to(torch.get_autocast_dtype(device))
    return x


class PackedLinear(nn.Module):
    """A frozen linear layer whose matrix is stored as int8 or fp8.

    Args:
        layer: the layer to replace.
        form: "int8" or "fp8".
    """

    def __init__(self, layer: nn.Linear, form: str) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        weight = layer.weight.detach().float()
        largest = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
        if form == "int8":
            scale = largest / 127
            packed = (weight / scale).round().to(torch.int8)
        else:
            scale = largest / _FP8_MAX
            # as bytes: gathering and broadcasting know them everywhere
            packed = (weight / scale).to(torch.float8_e4m3fn).view(torch.uint8)
        self.register_buffer("packed", packed)
        self.register_buffer("scale", scale)
        self.bias = layer.bias

    def dequantized(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """The matrix (out_features, in_features) that the layer multiplies with."""
        return _unpack(self.packed, self.scale, dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in_features) → (..., out_features), in autocast's dtype where it is on, else in that of x."""
        return _UpcastProduct.apply(_as_computed(x), self.packed, self.scale, self.bias)


def quantize_frozen(transformer: nn.Module, form: str, device: torch.device | str = "cpu") -> int:
    """Store the frozen matrices of the blocks in fewer bits, in place; adapters on them stay as they are.

    Args:
        transformer: with its adapter.
        form: "none", "int8", "fp8" or "nf4".
        device: where matrices are packed and stay.

    Returns:
        Number of layers that were replaced.

    Raises:
        TrainingError: this form is not possible here.
    """
    if form == "none":
        return 0
    make = _nf4_layer if form == "nf4" else PackedLinear
    if form == "nf4":
        _require_bitsandbytes()
    layers = [
        (name, module)
        for name, module in transformer.named_modules()
        if type(module) is nn.Linear and name.startswith(_BLOCKS) and not module.weight.requires_grad
    ]
    for name, layer in layers:
        parent, _, last = name.rpartition(".")
        packed = make(layer.to(device), form)
        transformer.get_submodule(parent).register_module(last, packed.to(device))
    return len(layers)


def _require_bitsandbytes() -> None:
    try:
        importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise TrainingError(
            "quantize nf4 needs the package bitsandbytes (pip install bitsandbytes); int8 and fp8 need none"
        ) from error


def _nf4_layer(layer: nn.Linear, form: str) -> nn.Module:
    import bitsandbytes

    packed = bitsandbytes.nn.Linear4bit(
        layer.in_features, layer.out_features, layer.bias is not None, layer.weight.dtype, quant_type=form
    )
    packed.weight = bitsandbytes.nn.Params4bit(layer.weight.detach(), requires_grad=False, quant_type=form)
    packed.bias = layer.bias
    packed.register_forward_pre_hook(_first_as_computed)
    return packed.requires_grad_(False)


def _first_as_computed(layer: nn.Module, given: tuple) -> tuple:
    """What goes into bitsandbytes' layer, which computes and answers in the dtype of that."""
    return _as_computed(given[0]), *given[1:]

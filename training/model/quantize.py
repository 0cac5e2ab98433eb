"""Frozen matrices stored in fewer bits, so that a 12B base fits a 24 GB GPU; adapters stay in float32.

int8 and fp8 (e4m3) are stored with one scale per output row and converted back to the computing dtype when they are
used, so they need no special hardware. nf4 is stored and computed by bitsandbytes. Only the blocks' matrices are
packed: embedders, modulation of the output and the output layer are small and sensitive.

With 8-bit products (W8A8) the activations are rounded too, with one scale per token, so that the product is one of
int8 (sums in int32) or fp8. The gradient of the input is that of the packed matrix in the computing dtype: rounding
counts as the identity (straight-through, Bengio et al. 2013).
"""

import importlib
from functools import partial

import torch
from torch import nn

from ..errors import TrainingError

_FP8_MAX = 448.0
"""Largest float8_e4m3fn."""
_BLOCKS = ("transformer_blocks.", "single_transformer_blocks.")


_FEWEST_ROWS = 17
"""Fewer rows (an example's modulation) are multiplied in the computing dtype: CUDA's int8 product needs at least 17."""


class _PackedProduct(torch.autograd.Function):
    """`x W^T + b` that keeps the packed matrix for the backward pass, not the unpacked one."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, bias: torch.Tensor | None, eight: bool, *stored: torch.Tensor):
        ctx.save_for_backward(*stored)
        return frozen_product(x, bias, eight, *stored)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        packed, scale = ctx.saved_tensors
        return gradient @ _unpack(packed, scale, gradient.dtype), None, None, None, None


def frozen_product(x: torch.Tensor, bias: torch.Tensor | None, eight: bool, *stored: torch.Tensor) -> torch.Tensor:
    """`x W^T + b` in the dtype of x, (..., in_features) -> (..., out_features).

    Args:
        x: activations.
        bias: (out_features,).
        eight: multiply in 8 bits.
        stored: the plain matrix (out_features, in_features), or a packed one and its scales (out_features, 1).
    """
    bias = None if bias is None else bias.to(x.dtype)
    if eight and x.numel() >= _FEWEST_ROWS * x.shape[-1]:
        product = _product_of_8_bits(x.flatten(0, -2), *stored).unflatten(0, x.shape[:-1])
        return product if bias is None else product.add_(bias)
    return nn.functional.linear(x, plain_matrix(x.dtype, *stored), bias)


def plain_matrix(dtype: torch.dtype, *stored: torch.Tensor) -> torch.Tensor:
    """The matrix (out_features, in_features) in `dtype` of the `stored` argument of `frozen_product`."""
    return _unpack(*stored, dtype) if len(stored) == 2 else stored[0].to(dtype)


def _product_of_8_bits(x: torch.Tensor, packed: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """`x W^T` (rows, out_features) of x (rows, in_features), rounded with one scale per row."""
    largest = x.abs().amax(dim=1, keepdim=True).float().clamp_min(1e-12)
    if packed.dtype == torch.int8:
        of_row = largest / 127
        sums = torch._int_mm((x.float() / of_row).round_().to(torch.int8), packed.mT)
        return (sums * of_row).mul_(scale.mT).to(x.dtype)
    of_row = largest / _FP8_MAX
    rounded, matrix = (x.float() / of_row).to(torch.float8_e4m3fn), packed.view(torch.float8_e4m3fn)
    if x.device.type == "cuda":
        # row-wise scales are supported only for results in bfloat16
        return torch._scaled_mm(rounded, matrix.mT, of_row, scale.mT.contiguous(), out_dtype=torch.bfloat16).to(x.dtype)
    # the same numbers without hardware support
    return (rounded.float() @ matrix.float().mT).mul_(of_row).mul_(scale.mT).to(x.dtype)


def _unpack(packed: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    values = packed.view(torch.float8_e4m3fn) if packed.dtype == torch.uint8 else packed
    return values.to(dtype).mul_(scale.to(dtype))  # in place: two matrices would be the peak of a step


def as_computed(x: torch.Tensor) -> torch.Tensor:
    """An input in autocast's dtype if autocast is on: it does not cast for the products of packed layers."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return x.to(torch.get_autocast_dtype(device))
    return x


class PackedLinear(nn.Module):
    """A frozen linear layer whose matrix is stored as int8 or fp8.

    Args:
        layer: the layer to replace.
        form: "int8" or "fp8".
        eight: multiply in 8 bits.
    """

    def __init__(self, layer: nn.Linear, form: str, eight: bool = False) -> None:
        super().__init__()
        self.eight = eight
        self.in_features, self.out_features = layer.in_features, layer.out_features
        weight = layer.weight.detach().float()
        largest = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
        if form == "int8":
            scale = largest / 127
            packed = (weight / scale).round().to(torch.int8)
        else:
            scale = largest / _FP8_MAX
            # as bytes, which every backend can gather and broadcast
            packed = (weight / scale).to(torch.float8_e4m3fn).view(torch.uint8)
        self.register_buffer("packed", packed)
        self.register_buffer("scale", scale)
        self.bias = layer.bias

    def dequantized(self, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """The matrix (out_features, in_features) that the layer multiplies with."""
        return _unpack(self.packed, self.scale, dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in_features) -> (..., out_features), in autocast's dtype if it is on, otherwise in that of x."""
        return _PackedProduct.apply(as_computed(x), self.bias, self.eight, self.packed, self.scale)


def quantize_frozen(transformer: nn.Module, form: str, device: torch.device | str = "cpu", eight: bool = False) -> int:
    """Store the frozen matrices of the blocks in fewer bits, in place; adapters on them stay as they are.

    Args:
        transformer: the transformer with its adapter.
        form: "none", "int8", "fp8" or "nf4".
        device: where matrices are packed and kept.
        eight: multiply in 8 bits.

    Returns:
        Number of layers that were replaced.

    Raises:
        TrainingError: this form is not possible here.
    """
    if eight:
        _require_products_of_8_bits(form, torch.device(device))
    if form == "none":
        return 0
    make = _nf4_layer if form == "nf4" else partial(PackedLinear, eight=eight)
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


def _require_products_of_8_bits(form: str, device: torch.device) -> None:
    if form not in ("int8", "fp8"):
        raise TrainingError(f"quantized_products needs quantize int8 or fp8, but quantize is {form}")
    if form == "fp8" and device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 9):
        raise TrainingError(
            f"quantized_products in fp8 needs a GPU of compute capability 8.9 or more, "
            f"{torch.cuda.get_device_name(device)} has less: set quantize to int8"
        )


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
    """The input of a bitsandbytes layer in autocast's dtype: the layer computes in the dtype of its input."""
    return as_computed(given[0]), *given[1:]

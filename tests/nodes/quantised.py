"""Quantised base models for tests: linear layers stored in 8 bits, as ComfyUI and packs of its users store them."""

from __future__ import annotations

import torch

STORED = ("fp8", "scaled fp8", "int8")
"""Cast to e4m3; e4m3 with a scale, in ComfyUI's own quantised tensor; int8 with scales."""
WORD = {"fp8": "fp8", "scaled fp8": "fp8", "int8": "int8"}
"""What the loader calls them."""


class Int8Linear(torch.nn.Module):
    """Layer of a pack that stores int8 rows with a scale each, and gives ComfyUI's patcher what it asks for."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.register_buffer("row_scale", weight.float().abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127)
        self.set_weight(weight.float())
        self.bias = bias

    def forward(self, x):
        return torch.nn.functional.linear(x, self.convert_weight(self.weight.float()).to(x), self.bias)

    def convert_weight(self, weight, inplace=False, **_):
        return weight * self.row_scale

    def set_weight(self, weight, inplace_update=False, seed=None, return_weight=False, **_):
        packed = (weight / self.row_scale).round().clamp(-127, 127).to(torch.int8)
        if return_weight:
            return packed
        self.weight = torch.nn.Parameter(packed, requires_grad=False)


def layer(linear: torch.nn.Linear, stored: str, compute: torch.dtype = torch.float32) -> torch.nn.Module:
    """The layer with its weight stored otherwise; ComfyUI's own classes where it has some for it."""
    import comfy.ops
    import comfy.quant_ops

    weight, bias = linear.weight.detach(), linear.bias
    if stored == "fp8":
        made = comfy.ops.manual_cast.Linear(*weight.shape[::-1], bias=bias is not None, dtype=torch.float8_e4m3fn)
        made.weight, made.bias = _fixed(weight.to(torch.float8_e4m3fn)), bias
        return made
    own = {"scaled fp8": "float8_e4m3fn", "int8": "int8_tensorwise"}[stored]
    if own not in comfy.quant_ops.QUANT_ALGOS:
        return Int8Linear(weight, bias)
    ops = comfy.ops.mixed_precision_ops({}, compute, full_precision_mm=True)
    made = ops.Linear(*weight.shape[::-1], bias=bias is not None)
    made.quant_format, made.layout_type = own, comfy.quant_ops.QUANT_ALGOS[own]["comfy_tensor_layout"]
    made.weight, made.bias = _fixed(_packed(weight.to(compute), made.layout_type, stored)), bias
    return made


def unpacked(module: torch.nn.Module) -> torch.Tensor:
    """(out, in) float32: what a layer's stored weight stands for."""
    if isinstance(module, Int8Linear):
        return module.convert_weight(module.weight.float())
    weight = module.weight
    return (weight.dequantize() if hasattr(weight, "_qdata") else weight).float()


def quantise(model, stored: str) -> None:
    """Store all linear layers of a MODEL otherwise, in place."""
    for parent in list(model.model.diffusion_model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.Linear):
                setattr(parent, name, layer(child, stored))


def round_as(model, packed) -> None:
    """Give a MODEL of usual weights those that a quantised one stands for, in place."""
    for name, module in packed.model.diffusion_model.named_modules():
        if hasattr(module, "weight") and hasattr(module, "in_features"):
            model.model.diffusion_model.get_submodule(name).weight = _fixed(unpacked(module))


def _packed(weight: torch.Tensor, layout: str, stored: str):
    from comfy.quant_ops import QuantizedTensor

    try:
        return QuantizedTensor.from_float(weight, layout, scale="recalculate")
    except TypeError:  # ComfyUI up to 0.3.75 takes a number, and computes it from the weight without one
        return QuantizedTensor.from_float(weight, layout)


def _fixed(weight: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(weight, requires_grad=False)

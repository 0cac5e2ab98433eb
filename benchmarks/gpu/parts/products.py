"""8-bit matrix products against bfloat16 on the released models' shapes: what a training step could gain from them."""

from __future__ import annotations

import torch

from ..measuring.clock import Meter
from ..size import Report, Size

HIDDEN = 3072
SHAPES = {"attention": (1, 1), "feed-forward up": (1, 4), "feed-forward down": (4, 1), "single block's input": (1, 7)}
"""Inputs and outputs of the linear layers, in units of the width."""


def products(report: Report, size: Size) -> None:
    """Rates of `x W^T` for one example's tokens and for eight."""
    meter = Meter(size.device, size.repeats, size.warmup)
    width, tokens = (HIDDEN, (3512, 8 * 3512)) if size.released else (64, (32, 64))
    for name, (inputs, outputs) in SHAPES.items():
        for count in tokens:
            shape = count // 16 * 16, inputs * width, outputs * width  # fp8 products need multiples of 16
            report(**{f"{name}, {shape[0]} tokens": _compare(meter, size.device, *shape)})


def _compare(meter: Meter, device: str, rows: int, inputs: int, outputs: int) -> dict[str, object]:
    """TFLOP/s of each kind of product, or the reason why it is not possible here."""
    left, right = torch.randn(rows, inputs, device=device), torch.randn(outputs, inputs, device=device)
    operations, found = 2 * rows * inputs * outputs / 1e12, {}
    for kind, make in {"bfloat16": _bfloat16, "fp8": _fp8, "int8": _int8}.items():
        try:
            found[f"{kind}_tflop_per_s"] = operations / meter.median(make(left, right))
        except (RuntimeError, NotImplementedError, AttributeError, ValueError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            found[kind] = f"not possible here: {str(error).splitlines()[0][:160]}"
    return found


def _bfloat16(left: torch.Tensor, right: torch.Tensor):
    a, b = left.bfloat16(), right.bfloat16()
    return lambda: torch.nn.functional.linear(a, b)


def _fp8(left: torch.Tensor, right: torch.Tensor):
    """e4m3 with one scale per row, as it would be used."""
    (a, of_a), (b, of_b) = (_scaled(x, 448.0) for x in (left, right))
    a, b = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn)
    return lambda: torch._scaled_mm(a, b.T, scale_a=of_a, scale_b=of_b.T.contiguous(), out_dtype=torch.bfloat16)


def _int8(left: torch.Tensor, right: torch.Tensor):
    (a, _), (b, _) = (_scaled(x, 127.0) for x in (left, right))
    a, b = a.round().to(torch.int8), b.round().to(torch.int8)
    return lambda: torch._int_mm(a, b.T)


def _scaled(x: torch.Tensor, most: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows scaled to a range, and their scales (rows, 1)."""
    scale = x.abs().amax(dim=1, keepdim=True) / most
    return x / scale, scale

"""Rates of measured times, relative to the peak of the GPU."""

from __future__ import annotations

import torch

from .cards import peak_of


def rate(operations: float, seconds: float, device: str) -> dict[str, float | None]:
    """TFLOP, TFLOP/s, and the fraction of the GPU's dense bfloat16 peak; None on a CPU or an unknown GPU.

    Args:
        operations: number of operations by formula.
        seconds: measured time [s].
        device: "cuda" or "cpu".
    """
    found = peak_of(torch.cuda.get_device_name()) if device == "cuda" else None
    speed = operations / seconds / 1e12
    fraction = None if found is None else speed / found[0]
    return {"tflop": operations / 1e12, "tflop_per_s": speed, "fraction_of_peak": fraction}

"""Values of an adapter's tensors: numbers, finite, and not without effect."""

from collections.abc import Mapping

import torch

from .names import ALPHA, B_NORM, BIAS, DIFF, DOWN, MID, SET, UP, UP_BIAS, W_NORM

Tensors = Mapping[str, torch.Tensor]
"""The parts of one module."""
_SCALED = ("lora", "loha", "glora")
"""Kinds whose alpha is a factor; for OFT it is a bound, and LoKr uses it only with factors that are products."""


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether all numbers of a tensor are finite, whatever their dtype."""
    return bool(torch.isfinite(tensor.float() if tensor.is_floating_point() else tensor).all())


def are_numbers(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds real floating-point numbers, as matrices must."""
    return tensor.is_floating_point()


def silenced(kind: str, parts: Tensors) -> bool:
    """Whether an alpha of 0 switches a module off."""
    if ALPHA not in parts or parts[ALPHA].numel() != 1 or float(parts[ALPHA]) != 0:
        return False
    return kind in _SCALED or (kind == "lokr" and ("lokr_w1_a" in parts or "lokr_w2_a" in parts))


def acts(kind: str, parts: Tensors) -> bool:
    """Whether a module's adapter changes a weight (or a bias) at all."""
    if any(name in parts and _any(parts[name]) for name in (BIAS, UP_BIAS, B_NORM, W_NORM, DIFF)):
        return True
    if kind == "lora":
        return all(_any(parts[name]) for name in (UP, DOWN, MID) if name in parts)
    if kind == "loha":
        return all(_any(tensor) for name, tensor in parts.items() if name.startswith("hada_"))
    if kind == "lokr":
        return all(_any(tensor) for name, tensor in parts.items() if name.startswith("lokr_"))
    if kind == "glora":
        first, second = (("a1.weight", "a2.weight"), ("b1.weight", "b2.weight"))
        return any(all(_any(parts[name]) for name in pair) for pair in (first, second))
    if kind == "oft":
        blocks = parts["oft_blocks"].float()
        rescaled = "rescale" in parts and bool((parts["rescale"].float() != 1).any())
        return rescaled or _any(blocks - blocks.transpose(-1, -2))
    return kind == "set" and SET in parts


def _any(tensor: torch.Tensor) -> bool:
    return bool((tensor.float() if tensor.is_floating_point() else tensor).any())

"""Optimizers and the learning-rate schedule of a run."""

import importlib
from collections.abc import Iterable
from types import ModuleType

import torch
from torch.distributed.tensor import DTensor

from ..errors import TrainingError
from ..sections.run import OptimizerSection
from .muon import Muon

_NOT_HIDDEN = ("embed", "shared", "proj_out", "wte")
"""Parts of names whose matrices stay with AdamW: Muon is meant for hidden layers (and their adapters' factors),
not for inputs and outputs."""


def make_optimizers(named: Iterable[tuple[str, torch.nn.Parameter]], section: OptimizerSection) -> list:
    """The optimizers of a run, each group remembering its full rate as `full_lr`.

    Args:
        named: (name, parameter) of everything that is trained.
        section: names and rates.

    Raises:
        TrainingError: the optimizer's package is not installed, or Muon would get parts of matrices.
    """
    matrices, rest = [], []
    for name, parameter in named:
        hidden = parameter.ndim == 2 and not any(part in name for part in _NOT_HIDDEN)
        (matrices if section.name == "muon" and hidden else rest).append(parameter)
    optimizers = []
    if any(isinstance(matrix, DTensor) for matrix in matrices):
        raise TrainingError(
            "optimizer muon needs whole matrices, but shard (FSDP) gives each process a part: use adamw"
        )
    if matrices:
        optimizers.append(Muon(matrices, lr=section.muon_learning_rate, weight_decay=section.weight_decay))
    if rest:
        optimizers.append(_for_all(rest, section))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["full_lr"] = group["lr"]
    return optimizers


def _for_all(parameters: list[torch.nn.Parameter], section: OptimizerSection) -> torch.optim.Optimizer:
    """The optimizer of everything that Muon does not take."""
    settings = {"lr": section.learning_rate, "betas": section.betas, "weight_decay": section.weight_decay}
    if section.name == "adamw8bit":
        return _package("bitsandbytes", section.name).optim.AdamW8bit(parameters, **settings)
    if section.name == "prodigy":
        # safeguard_warmup: otherwise Prodigy would mistake the warm-up for a small distance
        return _package("prodigyopt", section.name).Prodigy(parameters, safeguard_warmup=True, **settings)
    return torch.optim.AdamW(parameters, **settings)


def _package(package: str, optimizer: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise TrainingError(
            f"optimizer {optimizer} needs the package {package}: pip install {package}, or choose adamw"
        ) from error


def rate_factor(step: int, max_steps: int, section: OptimizerSection, hours_left: float | None = None) -> float:
    """Fraction of the full learning rate at a step: linear warm-up, constant, linear decay at the end.

    Args:
        step: step from 0.
        max_steps: steps of the whole run.
        section: warm-up and decay.
        hours_left: hours of training left, in a run with a time limit.
    """
    up = min(1.0, (step + 1) / section.warmup_steps) if section.warmup_steps else 1.0
    down = min(1.0, (max_steps - step) / (section.decay_steps + 1)) if section.decay_steps else 1.0
    if section.decay_hours and hours_left is not None:
        down = min(down, hours_left / section.decay_hours)
    return up * max(0.0, down)


def set_rates(optimizers: list, factor: float) -> None:
    """Set every group to `factor` times its full rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["full_lr"] * factor

"""Random numbers of a run: functions of (seed, step, process), so that there is no generator state to save."""

import torch


def step_generator(seed: int, index: int, process: int = 0) -> torch.Generator:
    """The CPU generator of one batch, a function of its arguments only."""
    return torch.Generator().manual_seed((seed * 1_000_003 + index) * 4_093 + process)

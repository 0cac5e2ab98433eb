"""Decide whether a run compiles its base's blocks, and compile them."""

import os
import shutil
import sys
from importlib.util import find_spec

import torch
from torch import nn

from ..sections.planner import TrainSection
from .offload import blocks_of

WORTH_STEPS = 1000
"""Number of steps from which "auto" compiles: one to two minutes of compiling pay off after some 500 steps."""


def compile_blocks(transformer: nn.Module, backend: str = "inductor") -> None:
    """Compile every block, in place; blocks of the same kind share the compiled code."""
    for block in blocks_of(transformer):
        block.compile(backend=backend, dynamic=False)


def compiles(section: TrainSection, device: torch.device | str) -> bool:
    """Whether a run compiles its blocks, according to its setting `compile_blocks`.

    "auto" compiles in runs of at least `WORTH_STEPS` steps, if torch finds a compiler for the device and no weights are
    offloaded.
    """
    if section.compile_blocks != "auto":
        return section.compile_blocks
    return section.max_steps >= WORTH_STEPS and not section.offload and has_compiler(torch.device(device))


def has_compiler(device: torch.device) -> bool:
    """Whether torch.compile's backend is installed: Triton on a GPU, a C++ compiler on a CPU."""
    if device.type != "cpu":
        return find_spec("triton") is not None
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX") or usual) is not None

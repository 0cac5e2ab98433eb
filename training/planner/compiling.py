"""Compiled blocks: whether a run compiles its base's blocks, and compiling them."""

import os
import shutil
import sys
from importlib.util import find_spec

import torch
from torch import nn

from ..sections.planner import TrainSection
from .offload import blocks_of

WORTH_STEPS = 1000
"""From how many steps on "auto" compiles: one to two minutes of compiling are won back after some 500 of them."""


def compile_blocks(transformer: nn.Module, backend: str = "inductor") -> None:
    """Compile every block, in place; blocks of a kind share the code."""
    for block in blocks_of(transformer):
        block.compile(backend=backend, dynamic=False)


def compiles(section: TrainSection, device: torch.device | str) -> bool:
    """Whether a run compiles its blocks, as `compile_blocks` says.

    "auto": a run of `WORTH_STEPS` steps or more does, where torch finds the compiler for the device and no weights are
    offloaded.
    """
    if section.compile_blocks != "auto":
        return section.compile_blocks
    return section.max_steps >= WORTH_STEPS and not section.offload and has_compiler(torch.device(device))


def has_compiler(device: torch.device) -> bool:
    """Whether there is what torch.compile writes its code for: Triton on a GPU, a C++ compiler on a CPU."""
    if device.type != "cpu":
        return find_spec("triton") is not None
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX") or usual) is not None

"""The processes that a launcher (`accelerate launch`, `torchrun`) started side by side."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch.distributed


@dataclass(frozen=True)
class Process:
    """This process among them.

    Args:
        rank: its number.
        count: how many there are.
        local_rank: its number on this machine, which is that of its GPU.
        wait: returns when all processes have come so far.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    wait: Callable[[], None] = lambda: None


@contextmanager
def join() -> Iterator[Process]:
    """Meet the other processes; alone when no launcher has set `WORLD_SIZE`."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Process()
        return
    torch.distributed.init_process_group("gloo")  # nothing but waiting is exchanged: works without GPUs
    try:
        yield Process(int(os.environ["RANK"]), count, int(os.environ.get("LOCAL_RANK", "0")), torch.distributed.barrier)
    finally:
        torch.distributed.destroy_process_group()

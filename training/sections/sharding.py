"""A command's work in several processes: those of one launcher, or shards that any scheduler starts one by one.

`accelerate launch` and `torchrun` start processes that can wait for each other: each makes its part, the first one
merges. `--shard I/N` makes one part and ends; `--merge N` combines them and refuses parts that are missing, surplus,
made from something else, or damaged. Either gives what one process gives, byte for byte.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from runtime.parts import MOST, Part, parse_part

from ..errors import TrainingError

Result = TypeVar("Result")
_PATIENCE = timedelta(days=30)
"""How long the processes of a launcher wait for the slowest; torch's default of 30 min is too short for data sets."""


@dataclass(frozen=True)
class Asked:
    """What the command line asks for.

    Args:
        part: the only part to make; None: the whole work, or a launcher's division of it.
        merge: number of finished parts to merge; 0: none.
    """

    part: Part | None = None
    merge: int = 0


ALL = Asked()
"""The whole work."""


@dataclass(frozen=True)
class Process:
    """This process among those that a launcher started side by side.

    Args:
        part: its part of the work.
        local_rank: its number on this machine, which is that of its GPU.
        wait: returns when all processes have called it.
    """

    part: Part = field(default_factory=Part)
    local_rank: int = 0
    wait: Callable[[], None] = lambda: None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add `--shard` and `--merge`."""
    one = parser.add_mutually_exclusive_group()
    one.add_argument(
        "--shard",
        metavar="I/N",
        help="make part I (from 0) of N of the work and end; auto: the part that srun, mpirun or torchrun names",
    )
    one.add_argument("--merge", metavar="N", help="put N finished shards together")


def asked_of(options: argparse.Namespace) -> Asked:
    """What `--shard` and `--merge` ask for.

    Raises:
        TrainingError: a value is out of range.
    """
    if options.merge is not None:
        if not (options.merge.isascii() and options.merge.isdigit() and 1 <= int(options.merge[:9]) <= MOST):
            raise TrainingError(f"--merge must be the number of shards, 1 to {MOST}, got {options.merge[:40]!r}")
        return Asked(merge=int(options.merge))
    if options.shard is None:
        return ALL
    try:
        return Asked(part=parse_part(options.shard))
    except ValueError as error:
        raise TrainingError(str(error)) from None


def divide(
    command: str,
    asked: Asked,
    make: Callable[[Process], None],
    merge: Callable[[int], Result],
    alone: Callable[[Process], Result] | None = None,
) -> Result | None:
    """Make the requested part and, if nothing else is left to do, merge.

    Args:
        command: its name, for what is printed.
        asked: what the command line asks for.
        make: makes the part of a process.
        merge: merges the given number of parts.
        alone: does the whole work, if a single process does not do so by making one part and merging it.

    Returns:
        The result of `merge`; None in a process that did not merge.
    """
    if asked.merge:
        return merge(asked.merge)
    if asked.part is not None:
        make(Process(asked.part, _local_rank()))
        count = asked.part.count
        print(
            f"{command}: shard {asked.part} is finished (when all {count} are: the same command with --merge {count})"
        )
        return None
    with join() as process:
        if alone is not None and process.part.count == 1:
            return alone(process)
        make(process)
        process.wait()
        return merge(process.part.count) if process.part.number == 0 else None


@contextmanager
def join() -> Iterator[Process]:
    """Join the other processes of a launcher; a process is alone unless a launcher has set `WORLD_SIZE`."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Process(local_rank=_local_rank())
        return
    import torch.distributed

    # processes only wait for each other, so this works without GPUs
    torch.distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        part = Part(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
        yield Process(part, _local_rank(), torch.distributed.barrier)
    finally:
        torch.distributed.destroy_process_group()


def device_of(process: Process, wanted: str = "auto") -> str:
    """The torch device of a process: its own one if its machine has several GPUs."""
    import torch

    device = wanted if wanted != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    return f"cuda:{process.local_rank % max(1, torch.cuda.device_count())}" if device == "cuda" else device


def _local_rank() -> int:
    for name in ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0

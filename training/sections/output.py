"""Lock what each command writes while it runs: any other command that writes to the same place is refused."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path

from runtime.locks import output_lock
from runtime.parts import Part, part_folder

from .config import Config

_RESULTS = {
    "pretrain": "base", "decoder": "vae", "readout": "model", "video_baseline": "model", "cloning_baseline": "model",
}  # fmt: skip
"""Where the result of a training goes, by command, if not into its run's folder."""


def output_of(command: str, config: Config, part: Part | None = None) -> AbstractContextManager[None]:
    """The locks on what a configured command writes; none for commands that write nothing.

    A command that makes one part of its work locks only that part.
    """
    section = getattr(config, command) if command in Config.model_fields else None
    if part is not None and section is not None:
        return hold_part(section.out, part, command)
    return hold_all(command, getattr(section, "out", None), getattr(section, _RESULTS.get(command, ""), None))


@contextmanager
def hold_all(command: str, *outs: str | Path | None) -> Iterator[None]:
    """The locks on several outputs; one that is named twice is locked once."""
    with ExitStack() as held:
        for out in dict.fromkeys(os.path.abspath(out) for out in outs if out is not None):
            held.enter_context(hold(out, command))
        yield


def hold(out: str | Path | None, command: str) -> AbstractContextManager[None]:
    """The lock on one output.

    Of several processes that `accelerate launch` starts for one run, the first holds it for all.
    """
    if out is None or os.environ.get("RANK", "0") != "0":
        return nullcontext()
    return output_lock(out, f"training {command}")


def hold_part(out: str | Path, part: Part, command: str) -> AbstractContextManager[None]:
    """The lock on one part of an output; an object store has no locks."""
    if "://" in str(out):
        return nullcontext()
    return output_lock(part_folder(out, part), f"training {command} --shard {part}")

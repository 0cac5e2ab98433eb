"""What each command writes, held while it runs: any other command that writes the same place is refused."""

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from runtime.locks import output_lock

from .config import Config


def output_of(command: str, config: Config) -> AbstractContextManager[None]:
    """The lock on what a command of a configuration writes; nothing to hold for commands that write nothing."""
    section = getattr(config, command) if command in Config.model_fields else None
    return hold(getattr(section, "out", None), command)


def hold(out: str | Path | None, command: str) -> AbstractContextManager[None]:
    """The lock on one output.

    Of several processes that `accelerate launch` starts for one run, the first holds it for all.
    """
    if out is None or os.environ.get("RANK", "0") != "0":
        return nullcontext()
    return output_lock(out, f"training {command}")

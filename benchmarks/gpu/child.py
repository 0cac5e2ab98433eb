"""One part in its process: reports figures, and how it ended, to the runner."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

from .plan import Part
from .size import NotHereError, Size, UnfinishedError

DONE, SKIPPED, FAILED, NO_MEMORY, UNFINISHED = "done", "skipped", "failed", "out of memory", "unfinished"


def work(connection: Connection, part: Part, size: Size, log: Path) -> None:
    """Run a part; messages are ("figures", dict) and finally ("end", status, text)."""
    if hasattr(os, "setsid"):
        os.setsid()  # processes that the part starts end with it
    _redirect(log)
    if size.device == "cpu":
        _use_one_thread()

    def report(**figures: object) -> None:
        connection.send(("figures", figures))

    try:
        module, _, name = part.function.partition(":")
        getattr(importlib.import_module(module), name)(report, size, **part.arguments)
    except NotHereError as error:
        connection.send(("end", SKIPPED, str(error)))
    except UnfinishedError as error:
        connection.send(("end", UNFINISHED, str(error)))
    except BaseException as error:
        traceback.print_exc()
        connection.send(("end", NO_MEMORY if is_out_of_memory(error) else FAILED, one_line(error)))
    else:
        connection.send(("end", DONE, ""))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.close()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, whoever raised it, says that memory is exhausted."""
    return (
        isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "out of memory" in str(error).lower()
    )


def one_line(error: BaseException) -> str:
    """Kind and first line of an exception."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:400]}" if lines else type(error).__name__


def _use_one_thread() -> None:
    """Use one thread: tiny networks gain nothing from more, and wait for them on a busy machine."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def _redirect(log: Path) -> None:
    """Redirect the output of the part and of native libraries to the log file."""
    sys.stdout.flush()
    sys.stderr.flush()
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)

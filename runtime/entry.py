"""How a command ends: with its exit code, and one line for whatever went wrong."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable

from .locks import BusyError

DEBUG_VARIABLE = "VISUAL_PLANNER_DEBUG"
"""Environment variable under which an unexpected error keeps its traceback on the screen."""
INTERRUPTED = 130
_LONGEST = 300


def describe_os_error(error: OSError) -> str:
    """One line for an error of the operating system, naming the file and, for a full disk, what to do."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return f"the disk is full{where}: free some space and run the command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write{where}: {error.strerror}"
    return f"{error.strerror or error}{where}"


def run_command(
    step: Callable[[], int | None], known: tuple[type[Exception], ...], failed: int = 2, stopped: str = "stopped"
) -> int:
    """Run a command and turn its end, however it comes, into an exit code, and errors into one line on stderr.

    Args:
        step: the command; None means 0.
        known: errors whose message is for the user.
        failed: exit code for those, and for errors of the operating system.
        stopped: printed after Ctrl-C and other signals that end a process.

    Returns:
        What the step returns; `failed`; 130 after Ctrl-C, 128 plus its number after another signal; 1 for an unexpected
        error, whose traceback is in a file that the line names.
    """
    try:
        return step() or 0
    except (*known, BusyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return failed
    except OSError as error:
        print(f"error: {describe_os_error(error)}", file=sys.stderr)
        return failed
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return INTERRUPTED
    except SystemExit as end:
        if not isinstance(end.code, int) or end.code <= 128:
            raise
        print(stopped, file=sys.stderr)  # a signal ended it, see end_on_signals
        return end.code
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        print(f"error: {unexpected(error)}", file=sys.stderr)
        return 1


def unexpected(error: BaseException) -> str:
    """One line for an unexpected error; its traceback is written to a file that the line names."""
    text = " ".join(str(error).split())
    text = "".join(character if character.isprintable() else "?" for character in text)
    text = f"{text[: _LONGEST - 3]}..." if len(text) > _LONGEST else text
    line = f"unexpected {type(error).__name__}" + (f": {text}" if text else "")
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="visual-planner-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as log:
            traceback.print_exception(error, file=log)
    except OSError:
        return f"{line} (set {DEBUG_VARIABLE}=1 to see where)"
    return f"{line} (where it happened: {log.name})"


def end_on_signals() -> None:
    """Let Ctrl-C, SIGTERM and SIGHUP end the process through its `finally` blocks, in the background as well.

    A script's background job inherits SIGINT as ignored, but whoever sends it to a command means it. The other signals
    end the process with 128 plus the signal's number, as a shell reports them.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda number, frame: sys.exit(128 + number))

"""Errors of the launcher."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable


class LauncherError(Exception):
    """A problem that the user can act on: one line that names what was wrong and what it must be."""


def describe_os_error(error: OSError) -> str:
    """One line for an error of the operating system, naming the file and, for a full disk, what to do."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return f"the disk is full{where}: free some space and run the command again"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission to write{where}: {error.strerror}"
    return f"{error.strerror or error}{where}"


def exit_code_of(step: Callable[[], int]) -> int:
    """Run a step and turn what the user can act on into one line on stderr.

    Returns:
        What the step returns; 1 for a problem that was said in one line, 130 after Ctrl-C.
    """
    try:
        return step()
    except LauncherError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {describe_os_error(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130

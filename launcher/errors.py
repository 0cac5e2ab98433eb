"""Errors of the launcher."""

from __future__ import annotations

import errno


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

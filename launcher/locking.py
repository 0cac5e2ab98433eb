"""A lock between processes, held through a file: two commands started at once must not make the same folder twice."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .console import note

if os.name == "nt":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


@contextmanager
def file_lock(path: Path, what: str, poll: float = 0.5) -> Iterator[None]:
    """Hold the lock on `path`; the operating system frees it when the process ends, however it ends.

    Args:
        path: Lock file; made if absent, never deleted (deleting it would let a third process in).
        what: What the other process is doing, for the note that is printed while waiting.
        poll: Seconds between two attempts.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _try_lock(descriptor):
            note(f"Another command is {what}; waiting for it.")
            while not _try_lock(descriptor):
                time.sleep(poll)
        try:
            yield
        finally:
            _unlock(descriptor)
    finally:
        os.close(descriptor)

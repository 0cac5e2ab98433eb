"""Locks between processes, held through files: two commands at once must not write the same folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
        path: Lock file; created if absent, never deleted (deleting it would let a third process in).
        what: What the other process is doing, for the note that is printed while waiting.
        poll: Seconds between two attempts.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _try_lock(descriptor):
            print(f"Another command is {what}; waiting for it.", file=sys.stderr, flush=True)
            while not _try_lock(descriptor):
                time.sleep(poll)
        try:
            yield
        finally:
            _unlock(descriptor)
    finally:
        os.close(descriptor)


class BusyError(Exception):
    """Another command is writing to the same output; the message says which."""


@contextmanager
def output_lock(out: str | Path, command: str) -> Iterator[None]:
    """Hold an output (a folder or a file) for one command, or refuse; the lock ends with the process, however it ends.

    The lock file `.NAME.lock` lies beside the output, so that an output that its command renames or recreates stays
    locked; it is removed at the end, together with folders that were made for it and are still empty. If it cannot be
    created, nothing is locked: the command's own writing then reports what is wrong with the place.
    Files that a killed run left half written in the output, under temporary names, are removed first.

    Args:
        out: what the command writes.
        command: its name, for the message to a second command.

    Raises:
        BusyError: another process holds it; the message has its id, its command and the time of its start.
    """
    out = Path(os.path.abspath(out))
    file = out.parent / f".{out.name}.lock"
    made = [folder for folder in out.parents if not folder.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open_locked(file)
    except OSError:
        _remove_empty(made)
        yield
        return
    if descriptor is None:
        raise BusyError(f"{out} is being written by {_holder(file)}: wait for it, or choose another output")
    try:
        note = {"pid": os.getpid(), "command": command, "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        # On Windows the first byte is locked, even for reading; the note follows it.
        with suppress(OSError):  # on a full disk the file is locked without the note
            os.ftruncate(descriptor, 0)
            os.write(descriptor, b" " + json.dumps(note).encode())
        _remove_strays(out)
        yield
    finally:
        if os.name != "nt":  # an open file cannot be removed there
            with suppress(OSError):  # a disk that has become read-only: the first error is reported
                file.unlink(missing_ok=True)
        os.lseek(descriptor, 0, os.SEEK_SET)
        _unlock(descriptor)
        os.close(descriptor)
        _remove_empty(made)


def _open_locked(file: Path) -> int | None:
    """Descriptor of the locked file; None where another process has it.

    The previous holder may have removed the file after we opened it and before we locked it: then it is opened again.
    """
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        if not _try_lock(descriptor):
            os.close(descriptor)
            return None
        try:
            if os.path.samestat(os.fstat(descriptor), os.stat(file)):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)


def _remove_strays(out: Path) -> None:
    """Remove what a killed run of a command was writing into this output: files and folders with temporary names.

    Folders `.NAME.part` stay, without such files in them: `prepare` resumes its own, checkpoints are cleaned up by
    their run.
    """
    name = re.escape(out.name)
    # the second name is that of the file in which a long evaluation notes what it has finished
    beside = re.compile(rf"\.(?:{name}|\.{name}\.runs\.jsonl)\.(?:[a-z0-9_]{{8}}\.part|part-\d+)")
    with suppress(OSError):
        for path in [path for path in out.parent.iterdir() if beside.fullmatch(path.name)]:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        for folder in (out, out.parent / f".{out.name}.part"):
            for pattern in (".*.part", "*/.*.part", "*/*/.*.part"):
                for path in [path for path in folder.glob(pattern) if path.is_file()]:
                    path.unlink(missing_ok=True)


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:  # the innermost first
        with suppress(OSError):
            folder.rmdir()


def _holder(file: Path) -> str:
    try:
        note = json.loads(file.read_bytes()[1:])
        return f"process {int(note['pid'])} ({str(note['command'])[:40]}, since {str(note['since'])[:19]})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"

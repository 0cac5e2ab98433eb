"""A command whose disk takes no more ends with one line that names the place, and loses nothing.

Faults are made in the command's process alone: a limit on the size of files is kept by the operating system, whoever
writes, in Python or not; an audit hook sees what Python itself opens, makes, renames and removes. By hand, as root,
they are made on a disk of its own: a tmpfs or an ext4 with little room, with few inodes, or read-only (`DISKS`).
"""

import errno
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from .world import STRAY, World, nothing

FULL, NO_FILE, READ_ONLY = "full", "no file", "read-only"
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
_LINE = re.compile(r"error: .*(?:cannot be written: .+|the disk is full \(.+\).*|no permission to write \(.+\).*)")
_RESUMED = re.compile(r"\.pairs\.part(?:/.*)?|\.divided\.shards/[^/]*/.*|\.closed_loop\.json\.runs\.jsonl")
"""Work in progress that the same command goes on with: of `prepare`, its shards and the closed loop."""


@dataclass
class Tally:
    """What came of one command's faults."""

    refused: int = 0
    "Runs that ended with an error."
    unharmed: int = 0
    "Runs that the fault did not reach."
    broken: list[str] = field(default_factory=list)


def break_disk(kind: str, number: int, folder: str) -> None:
    """Break the disk of this process.

    Args:
        kind: FULL: no file grows beyond `number` bytes; NO_FILE: from the `number`-th on no file or folder can be made
            in `folder`; READ_ONLY: from the `number`-th change on nothing can be changed there.
        number: see `kind`.
        folder: the disk.
    """
    if kind == FULL:
        resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))
        return
    seen = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal seen
        if event == "open":
            path, _, flags = arguments
            new = isinstance(flags, int) and flags & _WRITES
            if kind == NO_FILE:
                new = new and flags & os.O_CREAT and isinstance(path, (str, bytes)) and not os.path.exists(path)
        else:
            path, new = arguments[0], event in (_CHANGES if kind == READ_ONLY else {"os.mkdir"})
        if not new or not isinstance(path, (str, bytes)) or not os.fsdecode(path).startswith(folder):
            return
        seen += 1
        if seen >= number:
            code = errno.EROFS if kind == READ_ONLY else errno.ENOSPC
            raise OSError(code, os.strerror(code), os.fsdecode(path))

    sys.addaudithook(watch)


Setup = Callable[[], None]
BrokenDisk = Callable[[World, str, int], AbstractContextManager[Setup]]
"""(world, kind, number) -> while it is entered the disk is broken, for a command that is run with the given setup."""


@contextmanager
def own_disk(world: World, kind: str, number: int) -> Iterator[Setup]:
    """The disk as only the command's process sees it, broken by `break_disk`."""
    yield partial(break_disk, kind, number, str(world.folder))


@contextmanager
def broken_tmpfs(world: World, kind: str, number: int) -> Iterator[Setup]:
    """The tmpfs that the world's folder is on, with `number` bytes or inodes left, or read-only.

    Raises:
        OSError: there is no tmpfs of its own, or no right to mount.
    """
    place = world.folder.parent
    now = os.statvfs(place)
    options = {
        FULL: f"size={(now.f_blocks - now.f_bfree) * now.f_frsize + number}",
        NO_FILE: f"nr_inodes={now.f_files - now.f_ffree + number}",
        READ_ONLY: "ro",
    }
    remount(place, options[kind])
    try:
        yield nothing
    finally:
        remount(place, f"rw,{ROOMY}")


@contextmanager
def broken_ext4(world: World, kind: str, number: int) -> Iterator[Setup]:
    """The ext4 that the world's folder is on, filled up to `number` bytes or inodes, or read-only.

    Raises:
        OSError: it has not so much room, or there is no right to mount.
    """
    place = world.folder.parent
    filler = place / "filler"
    now = os.statvfs(place)
    if kind == READ_ONLY:
        remount(place, "ro")
    elif kind == FULL:
        with filler.open("wb", buffering=0) as file:
            # A large file needs blocks for the list of its blocks as well: the last ones are written one by one.
            os.posix_fallocate(file.fileno(), 0, max(1, now.f_bavail * now.f_frsize - number - 2**20))
            file.seek(0, os.SEEK_END)
            while (left := os.statvfs(place)).f_bavail * left.f_frsize >= number + left.f_frsize:
                file.write(bytes(left.f_frsize))
    else:
        filler.mkdir()
        for name in range(now.f_ffree - 1 - number):
            (filler / str(name)).touch()
    try:
        yield nothing
    finally:
        remount(place, "rw")
        if kind == NO_FILE:
            shutil.rmtree(filler)
        filler.unlink(missing_ok=True)


ROOMY = "size=1g,nr_inodes=100000"
"""Options of a tmpfs that takes whatever the commands write."""
EXT4_BYTES, EXT4_INODES = 2**30, 4096
DISKS = {"tmpfs": broken_tmpfs, "ext4": broken_ext4}
"""File system -> how it is broken."""


@contextmanager
def mounted(place: Path, file_system: str) -> Iterator[Path]:
    """A folder on a disk of its own, made at `place`; of an ext4 the file lies beside it.

    Raises:
        subprocess.CalledProcessError: there is no right to mount, or no mkfs.ext4.
    """
    place.mkdir()
    image = place.with_suffix(".image")
    if file_system == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", ROOMY, "tmpfs"]
    else:
        with image.open("wb") as file:
            file.truncate(EXT4_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-N", str(EXT4_INODES), str(image)], check=True)
        command = ["mount", "-o", "loop", str(image)]
    subprocess.run([*command, str(place)], check=True)
    try:
        yield place / "world"
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)
        image.unlink(missing_ok=True)


def remount(place: Path, options: str) -> None:
    """Change the options of a mounted disk.

    Raises:
        OSError: it could not be done.
    """
    done = subprocess.run(["mount", "-o", f"remount,{options}", str(place)], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"mount -o remount,{options} {place}: {done.stderr.strip()}")


def try_faults(world: World, command: str, faults: list[tuple[str, int]], broken_disk: BrokenDisk = own_disk) -> Tally:
    """Run a command on broken disks, and then on a good one; the world is then after it."""
    tally = Tally()
    world.save()
    before = world.digests()
    code, text = world.run(command)
    if code:
        tally.broken.append(f"on a good disk: exit code {code}, {text[-300:]}")
        return tally
    wanted = world.digests()
    for kind, number in faults:
        world.restore()
        with broken_disk(world, kind, number) as setup:
            code, text = world.run(command, setup)
        if code == 0:
            tally.unharmed += 1
            what = world.differences(wanted)
        else:
            tally.refused += 1
            what = _faults_of_end(code, text, world, before, may_leave=kind == READ_ONLY)
            code, text = world.run(command)
            what += [f"then exit code {code} ({text[-200:]})"] if code else []
            what += [f"then {line}" for line in world.differences(wanted)]
        if what:
            tally.broken.append(f"{kind} {number}: {', '.join(what[:6])}")
    return tally


def _faults_of_end(code: int, text: str, world: World, before: dict[str, str], may_leave: bool) -> list[str]:
    """What is wrong with how a command ended on a broken disk; from one that is read-only nothing can be removed."""
    errors = [line for line in re.split(r"[\r\n]", text) if "error" in line.lower() or line.startswith("Traceback")]
    what = [] if code == 2 else [f"exit code {code}"]
    if len(errors) != 1 or not _LINE.fullmatch(errors[0]) or str(world.folder) not in errors[0]:
        what.append(f"said {errors}")
    found = world.digests()
    what += [f"{name} is lost" for name in before if found.get(name) != before[name]]
    what += [f"left {name}" for name in world.strays() if not may_leave and not _RESUMED.fullmatch(name)]
    halves = [
        name
        for name in found
        if name not in before and not _RESUMED.fullmatch(name) and not _is_whole(world.folder / name)
    ]
    return what + [f"half written {name}" for name in halves if not STRAY.fullmatch(Path(name).name)]


def _is_whole(file: Path) -> bool:
    from PIL import Image
    from safetensors import SafetensorError, safe_open

    try:
        if file.suffix == ".safetensors":
            with safe_open(file, "pt") as opened:
                return list(opened.keys()) != []
        if file.suffix in (".png", ".jpg"):
            with Image.open(file) as picture:
                return picture.load() is not None
        data = file.read_bytes()
        return data.endswith((b"\n", b"}", b"]"))
    except (SafetensorError, OSError):
        return False

"""A few kills and broken disks of each command; `python -m tests.kills` tries as many as it is told."""

import errno
import resource
import sys
from pathlib import Path

import pytest

from runtime import writing

from . import disks
from .disks import FULL, NO_FILE, READ_ONLY, break_disk, try_faults
from .law import try_kills
from .world import COMMANDS, World

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits and signals")
FAULTS = {
    "prepare": [(FULL, 600)],
    "cache": [(NO_FILE, 5)],
    "train": [(FULL, 300)],
    "export": [(FULL, 3000)],
    "scene": [(READ_ONLY, 1)],
}
"""Command -> what happens to its disk; the first number lets it come as far as it is while it writes."""


@pytest.mark.timeout(900)
def test_no_command_loses_anything(tmp_path):
    """Each in a process of its own, in the order in which they build on each other."""
    world, refused, kills = World(tmp_path), 0, 0
    for command in COMMANDS:
        if command in ("shard", "evaluate", "readout", "closed_loop", "study", "demonstrate"):
            continue  # by hand alone: they take longer, and write through the same functions
        if command in FAULTS:
            tally = try_faults(world, command, FAULTS[command])
            refused += tally.refused
        else:
            tally = try_kills(world, command, int(command == "vae"), 0)
            kills += tally.kills
        assert not tally.broken, (command, tally.broken)
    assert (refused, kills) == (5, 1)


class Refused(Exception):
    """What the writers raise here."""


def _replace(path: Path) -> None:
    with writing.replacing(path, Refused) as part:
        part.write_bytes(b"new" * 1000)


def _append(path: Path) -> None:
    writing.append(path, "new\n" * 1000, Refused)


def _fill(path: Path) -> None:
    with writing.filling(path.parent, Refused) as part:
        (part / path.name).write_bytes(b"new" * 1000)


def _make(path: Path) -> None:
    with writing.new_folder(path.parent / "made", Refused) as part:
        (part / path.name).write_bytes(b"new" * 1000)


WRITERS = [_replace, _append, _fill, _make]


def _files(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_leaves_what_was_there(tmp_path, writer, there):
    path = tmp_path / "results" / "a.txt"
    if there or writer is _append:  # which makes no folder
        path.parent.mkdir()
    if there:
        path.write_text("old\n")
    before, limits = _files(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, 1, 2000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(Refused, match=r"results.* cannot be written: File too large"):
                writer(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert _files(tmp_path) == before
    path.parent.mkdir(exist_ok=True)
    writer(path)
    assert _files(tmp_path) != before


@pytest.mark.parametrize("writer", [_replace, _fill, _make])
def test_a_disk_without_room_for_another_file_says_so(tmp_path, writer, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing.tempfile, "mkstemp", full)
    monkeypatch.setattr(writing.Path, "mkdir", full)
    monkeypatch.setattr(writing, "_no_inode", lambda place: True)
    with pytest.raises(Refused, match=r"cannot be written: No space left on device \(no room for another file\)"):
        writer(tmp_path / "a.txt")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match=r"a\.txt cannot be written: .*/file is a file, not a folder"):
        _replace(tmp_path / "file" / "deeper" / "a.txt")


def test_a_failed_command_is_looked_at(tmp_path):
    """The law finds a traceback, a wrong code, a lost file, a stray and half a file."""

    class Broken:
        folder = tmp_path

        def digests(self):
            return {"half.json": "1"}

        def strays(self):
            return [".a.txt.abcdefgh.part"]

    (tmp_path / "half.json").write_text('{"a":')
    found = disks._faults_of_end(1, "Traceback (most recent call last):\n", Broken(), {"kept.txt": "0"}, False)
    assert found == [
        "exit code 1", "said ['Traceback (most recent call last):']", "kept.txt is lost", "left .a.txt.abcdefgh.part",
        "half written half.json",
    ]  # fmt: skip
    assert callable(break_disk)

"""What a run over many episodes has finished, so that a killed one continues where it stopped."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...files import write_text

_STAMP, _DONE = "stamp.txt", "done.jsonl"


class Progress:
    """A working folder with a line for each finished episode; the lines stay on the disk.

    Args:
        folder: hidden folder beside the result; kept as long as the run is not finished.
        stamp: digest of everything that the work depends on; with another one the folder is started over.

    Attributes:
        done: id of each finished episode -> where its record begins in the file [bytes].
        begun_anew: whether another run's work was thrown away.
    """

    def __init__(self, folder: Path, stamp: str) -> None:
        self.folder = folder
        self.done: dict[str, int] = {}
        kept = folder / _STAMP
        self.begun_anew = folder.exists() and not (kept.is_file() and kept.read_text(encoding="utf-8") == stamp)
        if self.begun_anew:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not kept.is_file():
            write_text(kept, stamp)
        self._end = self._read_lines()
        self._stream = (folder / _DONE).open("r+b" if (folder / _DONE).exists() else "wb")
        self._stream.truncate(self._end)
        self._stream.seek(0, os.SEEK_END)

    def add(self, record: dict) -> None:
        """Note a finished episode; it survives a kill from here on."""
        line = json.dumps(record).encode() + b"\n"
        self._stream.write(line)
        self._stream.flush()
        self.done[record["id"]] = self._end
        self._end += len(line)

    def records(self, ids: Sequence[str], others: dict[str, dict]) -> Iterator[dict]:
        """The episodes' records in the given order, one in memory at a time; `others` has those of unfinished ones."""
        with (self.folder / _DONE).open("rb") as stream:
            for name in ids:
                if name in others:
                    yield others[name]
                else:
                    stream.seek(self.done[name])
                    yield json.loads(stream.readline())

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def finish(self) -> None:
        """Remove the notes, so that the folder holds the result alone."""
        self.close()
        for name in (_STAMP, _DONE):
            (self.folder / name).unlink()

    def _read_lines(self) -> int:
        """Read the finished lines; returns where they end [bytes], since a kill may have truncated the last one."""
        file, whole = self.folder / _DONE, 0
        if file.is_file():
            with file.open("rb") as stream:
                for line in stream:
                    if not line.endswith(b"\n"):
                        break
                    self.done[json.loads(line)["id"]] = whole
                    whole += len(line)
        return whole


def forget_empty(folder: Path) -> bool:
    """Remove a working folder without finished episodes; returns whether there is no such folder any more."""
    done = folder / _DONE
    if not (done.is_file() and done.stat().st_size and _has_line(done)):
        shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _has_line(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.readline().endswith(b"\n")


def stamp_of(settings: dict, files: list[str | Path]) -> str:
    """Digest of settings (ready for JSON) and of the size and time of files."""
    total = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for file in files:
        try:
            status = os.stat(file)
            total.update(os.fsencode(f"{file}:{status.st_size}:{status.st_mtime_ns}"))
        except OSError:
            total.update(os.fsencode(f"{file}:none"))
    return total.hexdigest()

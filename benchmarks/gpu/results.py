"""The results file: one line of JSON for each part, written as soon as the part has ended."""

from __future__ import annotations

import json
import os
from pathlib import Path

NAME, LOG = "results.jsonl", "log.txt"
FINISHED = ("done",)
"""Statuses of parts that `--resume` does not repeat; those that failed, were skipped or had no time are tried again."""


class Results:
    """The results file of a folder.

    Args:
        folder: created if it does not exist.
        keep: continue the file; otherwise an earlier file is renamed with a number.
    """

    def __init__(self, folder: Path, keep: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file, self.log = folder / NAME, folder / LOG
        if not keep:
            for file in (self.file, self.log):
                _set_aside(file)
        self.lines = read_results(self.file)
        if keep and self.file.is_file():
            self._write_again()  # otherwise a line that a killed run left half written would corrupt the next one

    def finished(self, size: str, machine: str) -> set[str]:
        """Names of the parts that are finished at a size, on a machine."""
        last = {line["part"]: line for line in self.latest(size, machine)}
        return {name for name, line in last.items() if line["status"] in FINISHED}

    def add(self, line: dict) -> None:
        """Append a part's line, synchronised to disk."""
        self.lines.append(line)
        with self.file.open("a", encoding="utf-8") as opened:
            opened.write(json.dumps(line) + "\n")
            opened.flush()
            os.fsync(opened.fileno())

    def latest(self, size: str, machine: str) -> list[dict]:
        """The last line of each part at a size on a machine, in the order in which parts were first run."""
        own = [line for line in self.lines if (line.get("size"), line.get("machine")) == (size, machine)]
        return list({line["part"]: line for line in own}.values())

    def _write_again(self) -> None:
        temporary = self.file.with_name(f".{NAME}.partial")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in self.lines), encoding="utf-8")
        os.replace(temporary, self.file)


def read_results(file: Path) -> list[dict]:
    """Lines of a results file; those that are not a part's record (such as a half-written last one) are left out."""
    if not file.is_file():
        return []
    found = []
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and isinstance(line.get("part"), str) and isinstance(line.get("status"), str):
            found.append(line)
    return found


def _set_aside(file: Path) -> None:
    if not file.exists():
        return
    number = 1
    while (other := file.with_name(f"{file.stem}.{number}{file.suffix}")).exists():
        number += 1
    os.replace(file, other)

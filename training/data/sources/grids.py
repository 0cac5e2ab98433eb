"""JSON lines of ready grids, as the released training code reads them: {source, target, text | caption}."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from visual_planner.text import text_lines

from ...errors import TrainingError
from ...files import json_object, read_json_lines, read_text
from .base import Entry, Source
from .names import inside, is_hidden, safe_id
from .pictures import read_picture
from .records import Index, Record, SomeText, Text, checked


class GridsSource(Source):
    """Pairs of a condition grid and a target grid with their prompts, which are taken as they are."""

    format = "grids"
    ready_grids = True

    @classmethod
    def open(cls, path: Path, camera: str = "", instructions: Path | None = None) -> "GridsSource":
        """Read the lines; pictures must lie in the folder of the file.

        A line may also have `id`, `episode` and `mode`.

        Raises:
            TrainingError: the file is no JSON lines. A line that lacks a key or names a file that does not exist is a
                problem of its episode.
        """
        file = path if path.is_file() else find_lines(path)
        if file is None:
            raise TrainingError(f"grids data set {path} must be a .jsonl file, or a folder with exactly one")
        entries = []
        for number, row in read_json_lines(file, "grids"):
            what = f"grids {file} line {number}"
            try:
                entries.append(_entry(file, row, what))
            except TrainingError as error:
                entries.append(Entry(f"line-{number:06d}", "", 1, what, problem=str(error)))
        return cls(path, entries)

    def frames(self, entry: Entry, indices: Sequence[int]) -> np.ndarray:
        """Condition and target grid, (2, H, W, 3): a ready pair has no frames of its own."""
        condition, target = (read_picture(file, f"grid {file}") for file in entry.place)
        if condition.shape != target.shape:
            raise TrainingError(
                f"grid {entry.place[0]} is {condition.shape[:2]} (height, width), its target {entry.place[1]} is "
                f"{target.shape[:2]}: both must be equal"
            )
        return np.stack([condition, target])


class _Row(Record):
    """A line, with the key names of the released training code."""

    source: SomeText
    target: SomeText
    text: Text | None = None
    caption: Text | None = None
    id: Text | Index | None = None
    episode: Text | Index | None = None
    mode: Text | None = None


def _entry(file: Path, row: dict, what: str) -> Entry:
    """Episode of a line; see `GridsSource.open`."""
    line = checked(_Row, row, what)
    text = line.caption if line.text is None else line.text
    if text is None:
        raise TrainingError(f"{what} must have source, target and text (or caption)")
    pair = [inside(file.parent, getattr(line, key), f"{key} of {what}") for key in ("source", "target")]
    name = safe_id(str(line.id or Path(line.target).stem))
    record = {key: row[key] for key in ("mode", "episode") if row.get(key) is not None}
    return Entry(name, text, 1, str(pair[1]), pair, record)


def find_lines(folder: Path) -> Path | None:
    """The single visible .jsonl file of a folder."""
    found = [file for file in sorted(folder.iterdir()) if file.suffix.lower() == ".jsonl" and not is_hidden(file.name)]
    return found[0] if len(found) == 1 else None


def is_grids(file: Path) -> bool:
    """Whether the first line of a file is one of ready grids."""
    try:
        rows = text_lines(read_text(file, "grids"))
        row = json_object(next((row for row in rows if row.strip()), ""), "line")
    except TrainingError:
        return False
    return {"source", "target"} <= row.keys()

"""JSON lines of ready grids, as the released training code reads them: {source, target, text | caption}."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import TrainingError
from ...files import read_json_lines
from .base import Entry, Source, inside, safe_id
from .pictures import read_picture


class GridsSource(Source):
    """Pairs of a condition grid and a target grid with their prompts, which are taken as they are."""

    format = "grids"
    ready_grids = True

    @classmethod
    def open(cls, path: Path, camera: str = "", instructions: Path | None = None) -> "GridsSource":
        """Read the lines; pictures must lie in the folder of the file.

        A line may also have `id`, `episode` and `mode`.

        Raises:
            TrainingError: a line lacks a key or names a file that does not exist.
        """
        file = path if path.is_file() else find_lines(path)
        if file is None:
            raise TrainingError(f"grids data set {path} must be a .jsonl file, or a folder with exactly one")
        entries = []
        for number, row in read_json_lines(file, "grids"):
            text = row.get("text", row.get("caption"))
            if not isinstance(text, str) or not {"source", "target"} <= row.keys():
                raise TrainingError(f"grids {file} line {number} must have source, target and text (or caption)")
            what = f"{file} line {number}"
            pair = [inside(file.parent, str(row[key]), f"{key} of {what}") for key in ("source", "target")]
            name = safe_id(str(row.get("id") or f"{Path(row['target']).stem}"))
            record = {key: row[key] for key in ("mode", "episode") if key in row}
            entries.append(Entry(name, text, 1, str(pair[1]), pair, record))
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


def find_lines(folder: Path) -> Path | None:
    """The single .jsonl file of a folder."""
    found = sorted(folder.glob("*.jsonl"))
    return found[0] if len(found) == 1 else None

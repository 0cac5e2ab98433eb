"""Paths that people drew: trajectory JSON."""

from pathlib import Path

import numpy as np

from visual_planner.errors import TrajectoryError
from visual_planner.trajectory.parse import parse_trajectory
from visual_planner.trajectory.trajectory import Trajectory

from ...errors import TrainingError
from ...files import read_json_lines, read_text
from ..sources import Entry, Source
from ..sources.names import named_file, safe_id


class DrawnPaths:
    """Trajectory JSON: EPISODE.json in a folder, or lines `{"episode": ID, "trajectory": {...}}`.

    Raises:
        TrainingError: a line is broken, or an episode has two.
    """

    of_whole = True

    def __init__(self, data: Path, states: str) -> None:
        self.data = data
        self.lines: dict[str, object] | None = None
        if data.is_file():
            self.lines = {}
            for number, row in read_json_lines(data, "trajectories"):
                name = row.get("episode")
                if not isinstance(name, str) or "trajectory" not in row or name in self.lines:
                    raise TrainingError(f"trajectories {data} line {number} must have a new episode and its trajectory")
                self.lines[name] = row["trajectory"]

    def __call__(self, source: Source, entry: Entry, chosen: np.ndarray, size: tuple[int, int]) -> Trajectory:
        """See `OverlayMaker`."""
        if self.lines is not None:
            alike = [name for name in self.lines if entry.id in (name, safe_id(name))]
            where, text = f"{self.data} (episode {entry.id})", self.lines[alike[0]] if len(alike) == 1 else None
        else:
            file = named_file(self.data, entry.id, ".json")
            where, text = str(file), read_text(file, "drawn path") if file.is_file() else None
        if text is None:
            raise TrainingError(f"episode {entry.id} ({entry.file}) has no drawn path: {where} does not exist")
        try:
            trajectory = parse_trajectory(text, size[1], size[0])
        except TrajectoryError as error:
            raise TrainingError(f"drawn path {where}: {error}") from error
        return trajectory.scaled(size[1], size[0])

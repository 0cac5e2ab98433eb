"""Episodes of `python -m simulation demonstrate`: strips of frames with the end effector's path."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import TrainingError
from ..episodes import Episode, EpisodeSet
from .base import Entry, Source
from .records import instruction_of


class SimulatedSource(Source):
    """An episode data set of the simulator."""

    format = "simulated"

    @classmethod
    def open(cls, path: Path, camera: str = "", instructions: Path | None = None) -> "SimulatedSource":
        """Read the records of a folder; there is one camera and each record has its instruction."""
        data = EpisodeSet.open(path, strict=False)
        source = cls(path, [_entry(episode) for episode in data.episodes], "table", ("table",))
        source.keyframes = str(data.info.get("keyframes", "time"))
        source.frame_size = data.info["height"], data.info["width"]
        return source

    def recorded_path(self, entry: Entry) -> tuple[np.ndarray, tuple[int, int]]:
        """See `Source.recorded_path`."""
        if not entry.has_path:
            return super().recorded_path(entry)
        return np.array(entry.place.record["path_px"], float), self.frame_size

    def frames(self, entry: Entry, indices: Sequence[int]) -> np.ndarray:
        """See `Source.frames`."""
        episode: Episode = entry.place
        return episode.load_frames()[list(indices)]

    def positions(self, entry: Entry, states: str) -> np.ndarray:
        """See `Source.positions`; the fourth column is the gripper [0 open, 1 closed]."""
        record = entry.place.record
        try:
            places, gripper = (np.array(record[name], float) for name in ("end_effector_m", "gripper"))
            return np.column_stack([places, gripper])
        except (KeyError, TypeError, ValueError) as error:
            raise TrainingError(f"episode {entry.id} of {self.path} has no usable states: {error}") from error


def _entry(episode: Episode) -> Entry:
    record = episode.record
    text, has_path = instruction_of(record.get("instruction", "")), record.get("path_px") is not None
    return Entry(
        episode.id, text, episode.frames, str(episode.strip), episode,
        problem=episode.problem, has_path=has_path and not episode.problem,
    )  # fmt: skip

"""Episodes of `python -m simulation demonstrate`: strips of frames with the end effector's path."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..episodes import Episode, EpisodeSet
from .base import Entry, Source


class SimulatedSource(Source):
    """An episode data set of the simulator."""

    format = "simulated"

    @classmethod
    def open(cls, path: Path, camera: str = "", instructions: Path | None = None) -> "SimulatedSource":
        """Read the records of a folder; there is one camera and each record has its instruction."""
        data = EpisodeSet.open(path)
        entries = [
            Entry(
                episode.id, episode.record.get("instruction", ""), episode.frames, str(episode.strip), episode,
                {"path_px": episode.record["path_px"], "frame_size": [data.info["height"], data.info["width"]]}
                if "path_px" in episode.record else {},
            )
            for episode in data.episodes
        ]  # fmt: skip
        return cls(path, entries, "table", ("table",))

    def frames(self, entry: Entry, indices: Sequence[int]) -> np.ndarray:
        """See `Source.frames`."""
        episode: Episode = entry.place
        return episode.load_frames()[list(indices)]

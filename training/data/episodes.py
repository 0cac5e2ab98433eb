"""Reading an episode data set: one strip of frames and one record per episode."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import TrainingError
from ..files import read_json

_FORMAT = "visual_planner.episodes"


@dataclass(frozen=True)
class Episode:
    """One episode.

    Args:
        id: name, unique in its data set.
        record: its line of episodes.jsonl.
        strip: picture of the frames side by side.
        frames: number of frames.
    """

    id: str
    record: dict
    strip: Path
    frames: int

    def load_frames(self) -> np.ndarray:
        """The frames (F, H, W, 3), uint8.

        Raises:
            TrainingError: the picture is missing, broken or of the wrong size.
        """
        try:
            with Image.open(self.strip) as image:
                pixels = np.array(image.convert("RGB"))
        except (OSError, SyntaxError) as error:
            raise TrainingError(f"frames {self.strip} of episode {self.id} cannot be read: {error}") from error
        height, width = pixels.shape[:2]
        if width % self.frames:
            raise TrainingError(f"frames {self.strip}: {width} px do not divide into {self.frames} frames")
        return np.ascontiguousarray(pixels.reshape(height, self.frames, width // self.frames, 3).swapaxes(0, 1))


@dataclass(frozen=True)
class EpisodeSet:
    """A folder of episodes.

    Args:
        folder: where it is.
        info: its dataset.json.
        episodes: in file order.
    """

    folder: Path
    info: dict
    episodes: tuple[Episode, ...]

    @classmethod
    def open(cls, folder: str | Path) -> "EpisodeSet":
        """Read the records of a data set (no pictures yet).

        Raises:
            TrainingError: the folder is no episode data set, or a line of it is broken.
        """
        folder = Path(folder)
        info = read_json(folder / "dataset.json", "episode data set")
        if info.get("format") != _FORMAT or info.get("version") != 1:
            raise TrainingError(
                f"{folder / 'dataset.json'}: format must be {_FORMAT!r} version 1, got {info.get('format')!r} "
                f"version {info.get('version')!r}"
            )
        episodes = []
        for number, line in enumerate((folder / "episodes.jsonl").read_text(encoding="utf-8").splitlines(), 1):
            try:
                record = json.loads(line)
                name = record["id"]
            except (ValueError, KeyError, TypeError) as error:
                raise TrainingError(
                    f"{folder / 'episodes.jsonl'} line {number} is not an episode record: {error}"
                ) from error
            episodes.append(Episode(name, record, folder / "frames" / f"{name}.png", info["frames"]))
        if not episodes:
            raise TrainingError(f"episode data set {folder} contains no episode")
        return cls(folder, info, tuple(episodes))

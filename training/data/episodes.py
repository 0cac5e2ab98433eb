"""Read an episode data set: one strip of frames and one record per episode."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from runtime.names import is_file_name
from visual_planner.errors import brief

from ..errors import TrainingError
from ..files import each_json_line, file_name, read_json
from .sources.names import safe_id
from .sources.pictures import read_picture
from .sources.records import Count, Finite, Record, SomeText, Text, checked

_FORMAT = "visual_planner.episodes"
_Place = Annotated[list[Finite], Field(min_length=3, max_length=3)]


class _Info(Record):
    """dataset.json."""

    frames: Count
    height: Count
    width: Count


class _Record(Record):
    """The part of a line of episodes.jsonl that training needs."""

    id: SomeText
    instruction: Text = ""
    path_px: Annotated[list[_Place], Field(min_length=2)] | None = None


@dataclass(frozen=True)
class Episode:
    """One episode.

    Args:
        id: name, unique in its data set.
        line: its line of episodes.jsonl, which takes much less memory than the parsed record.
        strip: picture of the frames side by side.
        frames: number of frames.
        problem: why it cannot be used, as far as its line shows.
    """

    id: str
    line: str
    strip: Path
    frames: int
    problem: str = ""

    @property
    def record(self) -> dict:
        """The line's object, parsed each time."""
        return json.loads(self.line)

    def load_frames(self) -> np.ndarray:
        """The frames (F, H, W, 3), uint8.

        Raises:
            TrainingError: the picture is missing, broken or of the wrong size.
        """
        pixels = read_picture(self.strip, f"frames {self.strip} of episode {self.id}")
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
        episodes: its episodes, in file order.
    """

    folder: Path
    info: dict
    episodes: tuple[Episode, ...]

    def instructions(self) -> set[str]:
        """The distinct instructions of its episodes."""
        return {text for episode in self.episodes if (text := episode.record.get("instruction", ""))}

    @classmethod
    def open(cls, folder: str | Path, strict: bool = True) -> "EpisodeSet":
        """Read the records of a data set (no pictures yet).

        Args:
            folder: where it is.
            strict: whether an episode whose line cannot be used is an error; otherwise it has a `problem`.

        Raises:
            TrainingError: the folder is not an episode data set, or a line of it is broken.
        """
        folder = Path(folder)
        file = folder / "dataset.json"
        info = read_json(file, "episode data set")
        if info.get("format") != _FORMAT or info.get("version") != 1:
            raise TrainingError(
                f"{file}: format must be {_FORMAT!r} version 1, got {brief(info.get('format'))} "
                f"version {brief(info.get('version'))}"
            )
        count = checked(_Info, info, f"episode data set {file}").frames
        file = folder / "episodes.jsonl"
        lines = each_json_line(file, "episodes")
        episodes = tuple(_episode(folder, line, record, count, f"{file} line {n}") for n, line, record in lines)
        if not episodes:
            raise TrainingError(f"episode data set {folder} contains no episode")
        if strict and (problem := next((episode.problem for episode in episodes if episode.problem), "")):
            raise TrainingError(problem)
        return cls(folder, info, episodes)


def _episode(folder: Path, line: str, record: dict, frames: int, what: str) -> Episode:
    """The episode of a line; one that cannot be used gets a safe name and the reason."""
    name = record.get("id")
    name = name if is_file_name(name) else safe_id(name if isinstance(name, str) else what.rpartition("/")[2])
    problem = ""
    try:
        file_name(checked(_Record, record, what).id, f"{what}: 'id'")
    except TrainingError as error:
        problem = str(error)
    return Episode(name, line, folder / "frames" / f"{name}.png", frames, problem)

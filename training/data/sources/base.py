"""Interface of every format of episodes: entries that describe them, and frames on demand."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from visual_planner.errors import brief, listed
from visual_planner.execution.keyframe_choice import RULES

from ...errors import TrainingError
from ...files import file_name
from .names import folded

THUMBNAIL_PX = 64
"Height of the greyscale images that motion is measured on [px]."
_NO_PICTURES = re.compile(
    r"(?<![a-z])(?:depths?|disparity|ir|infra\w*|masks?|segmentations?|normals?)(?![a-z])", re.IGNORECASE
)
"Names of streams that are not colour images."


@dataclass(frozen=True)
class Entry:
    """One episode of a source, as far as it is known without reading its pictures.

    Args:
        id: name, unique in its source and usable as a file name.
        instruction: the robot's instruction; may be empty.
        length: number of frames.
        file: where its frames are, for messages.
        place: what its source needs to find the frames.
        record: further facts, ready for JSON.
        problem: why the episode cannot be used, as far as opening its source shows; its frames are never read.
        scene: identifier shared by all recordings of the same scene, such as another camera's; empty: unknown.
        has_path: whether its source has the end effector's path, see `Source.recorded_path`.
    """

    id: str
    instruction: str
    length: int
    file: str
    place: object = None
    record: dict = field(default_factory=dict)
    problem: str = ""
    scene: str = ""
    has_path: bool = False


class Source(ABC):
    """A set of episodes in some format. It can be pickled, so that each process can read from it.

    Attributes:
        format: name of the format.
        path: folder or file that was opened.
        entries: its episodes.
        camera: the one whose pictures are read.
        cameras: all cameras.
        ready_grids: whether it holds ready-made grids.
        keyframes: how its frames are spaced, one of `keyframe_choice.RULES`.
        notes: how the data was interpreted and what was left out, one line each.
    """

    format: str = ""
    ready_grids = False
    keyframes = RULES[0]

    def __init__(
        self,
        path: Path,
        entries: Sequence[Entry],
        camera: str = "",
        cameras: Sequence[str] = (),
        notes: Sequence[str] = (),
    ) -> None:
        self.path, self.camera, self.cameras, self.notes = path, camera, tuple(cameras), tuple(notes)
        self.entries = tuple(entries)
        if not self.entries:
            raise TrainingError(f"{self.format} data set {path} contains no episode")
        for entry in self.entries:
            file_name(entry.id, f"{self.format} data set {path}: the id of an episode")
        count = Counter(folded(entry.id) for entry in self.entries)
        twice = list(dict.fromkeys(entry.id for entry in self.entries if count[folded(entry.id)] > 1))
        if twice:
            raise TrainingError(
                f"{self.format} data set {path} names {len(twice)} episodes more than once: {listed(twice, 5)}"
            )

    @property
    def has_paths(self) -> bool:
        """Whether every episode that can be used comes with its end effector's path."""
        return all(entry.has_path for entry in self.entries if not entry.problem)

    def check_entries(self) -> None:
        """Raise TrainingError if an episode cannot be used; the message lists all of them."""
        problems = [entry.problem for entry in self.entries if entry.problem]
        if problems:
            raise TrainingError(in_one_line(problems))

    def times(self, entry: Entry) -> np.ndarray | None:
        """When each frame was taken (T,) [s], never descending; None where frames are known to be evenly spaced.

        Raises:
            TrainingError: the times cannot be read.
        """
        return None

    def recorded_path(self, entry: Entry) -> tuple[np.ndarray, tuple[int, int]]:
        """The end effector's path of an episode that has one, and the size (h, w) of the frames it is drawn on [px].

        The path is (P, 3): x, y [px] and the time t, from the first frame (0) to the last (1).

        Raises:
            TrainingError: the episode has none.
        """
        raise TrainingError(f"episode {entry.id} ({entry.file}) has no recorded path: choose another overlay")

    @abstractmethod
    def frames(self, entry: Entry, indices: Sequence[int]) -> np.ndarray:
        """Frames (N, H, W, 3) uint8 RGB.

        Args:
            entry: the episode.
            indices: which frames, ascending, counted from 0; may repeat.

        Raises:
            TrainingError: a file is missing or broken; the message names it.
        """

    def thumbnails(self, entry: Entry) -> np.ndarray:
        """Every frame, small and grey, (T, h, w) uint8."""
        return np.stack([shrink(frame) for frame in self.each(entry)])

    def each(self, entry: Entry) -> Iterator[np.ndarray]:
        """Every frame (H, W, 3) uint8 in order, a few in memory at a time."""
        for start in range(0, entry.length, 16):
            yield from self.frames(entry, range(start, min(start + 16, entry.length)))

    def positions(self, entry: Entry, states: str) -> np.ndarray:
        """States (T, D) of the robot, one row per frame; the first three columns are the end effector's place [m].

        Args:
            entry: the episode.
            states: name of the feature; empty: the format's usual one.

        Raises:
            TrainingError: there is no such feature.
        """
        raise TrainingError(f"{self.format} data sets contain no states from which an end effector could be projected")


def shrink(frame: np.ndarray) -> np.ndarray:
    """Small grey picture (h, w) uint8 of a frame (H, W, 3)."""
    import cv2

    height = min(THUMBNAIL_PX, frame.shape[0])
    width = max(1, round(frame.shape[1] * height / frame.shape[0]))
    return cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (width, height), interpolation=cv2.INTER_AREA)


def choose_camera(cameras: Sequence[str], wanted: str, where: Path) -> str:
    """The camera that is wanted, by its name or the name's last part; by default, the first one that takes pictures.

    Many recordings list depth, infrared and masks beside the pictures as further "cameras".

    Raises:
        TrainingError: there is none of that name; the message lists all names.
    """
    if not cameras:
        raise TrainingError(f"{where} contains no images: no camera found")
    if not wanted:
        return next((name for name in cameras if not _NO_PICTURES.search(name)), cameras[0])
    found = [name for name in cameras if name == wanted] or [
        name for name in cameras if re.split(r"[./]", name)[-1] == wanted
    ]
    if len(found) != 1:
        raise TrainingError(f"camera must be one of {listed(cameras, 20)} in {where}, got {brief(wanted)}")
    return found[0]


def in_one_line(problems: Sequence[str], most: int = 20) -> str:
    """Problems as one message, the first ones in full."""
    more = f"; and {len(problems) - most} more" if len(problems) > most else ""
    return f"{'; '.join(problems[:most])}{more}"

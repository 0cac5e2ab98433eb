"""What every format of episodes offers: entries that say what there is, and frames on demand."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from visual_planner.execution.keyframe_choice import RULES

from ...errors import TrainingError

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
THUMBNAIL_PX = 64
"Height of the greyscale images that motion is measured on [px]."


@dataclass(frozen=True)
class Entry:
    """One episode of a source, as far as it is known without reading its pictures.

    Args:
        id: name, unique in its source and usable as a file name.
        instruction: what the robot was told; may be empty.
        length: number of frames.
        file: where its frames are, for messages.
        place: what its source needs to find them.
        record: further facts, ready for JSON.
    """

    id: str
    instruction: str
    length: int
    file: str
    place: object = None
    record: dict = field(default_factory=dict)


class Source(ABC):
    """A set of episodes in some format. It can be pickled, so that each process reads for itself.

    Attributes:
        format: name of the format.
        path: folder or file that was opened.
        entries: its episodes.
        camera: whose pictures are read.
        cameras: all there are.
        ready_grids: whether it holds grids that are made already.
        keyframes: how its frames are spaced, one of `keyframe_choice.RULES`.
    """

    format: str = ""
    ready_grids = False
    keyframes = RULES[0]

    def __init__(self, path: Path, entries: Sequence[Entry], camera: str = "", cameras: Sequence[str] = ()) -> None:
        self.path, self.camera, self.cameras = path, camera, tuple(cameras)
        self.entries = tuple(entries)
        if not self.entries:
            raise TrainingError(f"{self.format} data set {path} contains no episode")
        twice = [name for name, count in Counter(entry.id for entry in self.entries).items() if count > 1]
        if twice:
            raise TrainingError(
                f"{self.format} data set {path} names {len(twice)} episodes more than once: {', '.join(twice[:5])}"
            )

    @abstractmethod
    def frames(self, entry: Entry, indices: Sequence[int]) -> np.ndarray:
        """Frames (N, H, W, 3) uint8 RGB.

        Args:
            entry: of which episode.
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
        """States (T, D) of the robot, one row a frame; the first three are the end effector's place [m].

        Args:
            entry: of which episode.
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
    """The camera of a name, whole or its last part; the first one when none is asked for.

    Raises:
        TrainingError: there is none of that name; the message lists those there are.
    """
    if not cameras:
        raise TrainingError(f"{where} contains no images: no camera found")
    if not wanted:
        return cameras[0]
    found = [name for name in cameras if name == wanted] or [
        name for name in cameras if re.split(r"[./]", name)[-1] == wanted
    ]
    if len(found) != 1:
        raise TrainingError(f"camera must be one of {', '.join(cameras)} in {where}, got {wanted!r}")
    return found[0]


def safe_id(text: str) -> str:
    """A name that can stand in a file name: letters, digits, dot, dash, underscore."""
    return _UNSAFE.sub("_", text).strip("._") or "episode"


def inside(folder: Path, name: str, what: str) -> Path:
    """Path of a file that data names, which must lie in the data's own folder.

    Raises:
        TrainingError: it leads elsewhere, or the file does not exist.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise TrainingError(f"{what} must lie in {folder}, got {name!r}")
    if not path.is_file():
        raise TrainingError(f"{what} {path} does not exist")
    return path

"""Paths by optical flow: points at a click or in a mask of the first frame, followed through the episode."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from visual_planner.errors import brief
from visual_planner.trajectory.trajectory import Trajectory

from ...errors import TrainingError
from ...files import read_json
from ..choice.rules import clock_of
from ..sources import Entry, Source
from ..sources.names import named_file
from ..sources.pictures import read_picture
from .recorded import path_over

_AROUND = 0.05
"Points are sought within this fraction of the frame's shorter side around a click."
_POINTS = 24
_FEW = 6
"With fewer points left, new ones are sought around the position."
_ROUND_TRIP_PX = 1.0
"A point is lost if tracking it back misses its start by more than this [px]."


class TrackedPaths:
    """Paths from `{"EPISODE": [x, y], "*": [x, y]}` (pixels of the first frame), or from a folder of EPISODE.png masks.

    A mask's pixels above 127 are the end effector.

    Raises:
        TrainingError: the file is broken.
    """

    of_whole = False

    def __init__(self, data: Path, states: str) -> None:
        self.data = data
        self.clicks = None if data.is_dir() else read_json(data, "clicks")

    def __call__(self, source: Source, entry: Entry, chosen: np.ndarray, size: tuple[int, int]) -> Trajectory:
        """See `OverlayMaker`."""
        # from the first frame, to which the click or the mask belongs, even if the chosen ones begin later
        shown = (source.frames(entry, [index])[0] for index in range(int(chosen[-1]) + 1))
        grey = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in shown)
        places = follow(grey, self._mask(entry, size), f"episode {entry.id} ({entry.file})")
        return path_over(places, chosen, size, clock_of(source.times(entry)))

    def _mask(self, entry: Entry, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Place (2,) [px] and mask (h, w) uint8 of where to seek points."""
        if self.clicks is None:
            file = named_file(self.data, entry.id, ".png")
            mask = (read_picture(file, f"mask {file}")[..., 0] > 127).astype(np.uint8)
            if mask.shape != size or not mask.any():
                raise TrainingError(f"mask {file} must be {size} (height, width) with white in it, got {mask.shape}")
            ys, xs = np.nonzero(mask)
            return np.array([xs.mean() + 0.5, ys.mean() + 0.5]), mask
        click = self.clicks.get(entry.id, self.clicks.get("*"))
        if not isinstance(click, list) or len(click) != 2 or not all(_is_number(v) for v in click):
            raise TrainingError(
                f"clicks {self.data} must have [x, y] for episode {entry.id} (or *), got {brief(click)}"
            )
        place = np.array(click, float)
        if not ((place >= 0).all() and place[0] <= size[1] and place[1] <= size[0]):
            raise TrainingError(f"clicks {self.data}: {click} of episode {entry.id} lies outside the frame of {size}")
        return place, _disc(place, size)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def follow(grey: Iterable[np.ndarray], start: tuple[np.ndarray, np.ndarray], what: str) -> np.ndarray:
    """Places (T, 2) [px] of something in grey frames (h, w), by pyramidal Lucas-Kanade flow of points on it.

    The place moves by the median of the points' steps. A point whose return path misses its start is dropped.

    Args:
        grey: the frames in order.
        start: place (2,) and mask (h, w) in the first of them.
        what: names the episode in messages.

    Raises:
        TrainingError: all points are lost.
    """
    frames = iter(grey)
    before = next(frames)
    place, mask = start
    points = _seek(before, mask, place)
    places = [place]
    for number, frame in enumerate(frames, 1):
        moved, found, _ = cv2.calcOpticalFlowPyrLK(before, frame, points, None)
        back, found_back, _ = cv2.calcOpticalFlowPyrLK(frame, before, moved, None)
        trip = np.linalg.norm((back - points).reshape(-1, 2), axis=1)
        good = (found.ravel() == 1) & (found_back.ravel() == 1) & (trip < _ROUND_TRIP_PX)
        if not good.any():
            raise TrainingError(
                f"the end effector of {what} is lost at frame {number}: click on a spot with more texture"
            )
        place = place + np.median((moved - points).reshape(-1, 2)[good], axis=0)
        places.append(place)
        points, before = moved[good], frame
        if len(points) < _FEW:
            points = np.concatenate([points, _seek(frame, _disc(place, frame.shape), place)])
    return np.stack(places)


def _seek(grey: np.ndarray, mask: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Points (N, 1, 2) float32 that can be followed, or the place itself where there is no texture."""
    found = cv2.goodFeaturesToTrack(grey, _POINTS, 0.05, 2, mask=mask)
    return np.float32(place).reshape(1, 1, 2) if found is None else found


def _disc(place: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    radius = max(4, round(_AROUND * min(size)))
    return cv2.circle(mask, tuple(int(v) for v in place), radius, 1, -1)

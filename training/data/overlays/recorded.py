"""Paths that the episodes' own records hold."""

from pathlib import Path

import numpy as np

from visual_planner.trajectory.path import DrawnPath, Point
from visual_planner.trajectory.trajectory import Trajectory

from ..choice.rules import plan_time
from ..sources import Entry, Source

_CONTROL_POINTS = 17
"Number of points of a drawn path: enough to follow the motion, few enough for a smooth line."


def timed_trajectory(places: np.ndarray, times: np.ndarray, size: tuple[int, int]) -> Trajectory:
    """Path of the end effector through places (N, 2) [px] at ascending times (N,), on a frame of size (h, w) [px]."""
    keep = np.unique(np.linspace(0, len(places) - 1, _CONTROL_POINTS).round().astype(int))
    points = tuple(Point(float(x), float(y), float(t)) for (x, y), t in zip(places[keep], times[keep], strict=True))
    return Trajectory(size[1], size[0], (DrawnPath("gripper", points, "polyline"),))


def episode_trajectory(path: np.ndarray, size: tuple[int, int]) -> Trajectory:
    """A path (P, 3) of x, y [px] and times on a frame of size (h, w) [px], cut at the frame's edge."""
    return timed_trajectory(path[:, :2], path[:, 2], size).clipped("clamp")


def path_over(
    places: np.ndarray, chosen: np.ndarray, size: tuple[int, int], clock: np.ndarray | None = None
) -> Trajectory:
    """Path through the places (T, 2) [px] of every frame, from the first chosen frame to the last.

    Args:
        places: places in every frame [px].
        chosen: numbers of the chosen frames.
        size: (h, w) of a frame [px].
        clock: as `choice.rules.clock_of` gives it.
    """
    first, last = int(chosen[0]), int(chosen[-1])
    frames = np.arange(first, last + 1) if last > first else np.array([first, first])
    times = plan_time(frames, chosen, clock) if last > first else np.array([0.0, 1.0])
    return timed_trajectory(places[frames], times, size)


class RecordedPaths:
    """The sources' own paths, see `Source.recorded_path`."""

    of_whole = False

    def __init__(self, data: Path | None, states: str) -> None:
        pass

    def __call__(self, source: Source, entry: Entry, chosen: np.ndarray, size: tuple[int, int]) -> Trajectory:
        """See `OverlayMaker`."""
        path, drawn_on = source.recorded_path(entry)
        whole = episode_trajectory(path, drawn_on)
        if not np.array_equal(chosen, np.linspace(0, entry.length - 1, len(chosen)).round()):
            frames = path[:, 2] * (entry.length - 1)
            inside = (frames >= chosen[0]) & (frames <= chosen[-1])
            whole = timed_trajectory(path[inside, :2], plan_time(frames[inside], chosen), drawn_on)
        return whole if drawn_on == size else whole.scaled(size[1], size[0])

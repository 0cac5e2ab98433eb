"""Which frames of an episode a pair shows: from its start, or from a later moment on."""

import hashlib
from dataclasses import replace
from functools import cached_property

import numpy as np

from visual_planner.trajectory.path import DrawnPath, Point
from visual_planner.trajectory.trajectory import Trajectory

from ...errors import TrainingError
from ...sections.data import PrepareSection
from ..sources import Entry, Source
from .rules import active_span, choose_frames, clock_of, motion_of, path_of_states, plan_time

_FINE = 512
"Half the number of moments among which a cut path's new start is sought."


class Choice:
    """The frames of one episode that fill a grid's cells.

    Args:
        source: the episode's source.
        entry: the episode.
        section: the settings, of which `frames` is the rule.
        count: cells of a grid.
    """

    def __init__(self, source: Source, entry: Entry, section: PrepareSection, count: int) -> None:
        self._source, self._entry, self._section, self._count = source, entry, section, count

    def frames(self, start: int = 0) -> np.ndarray:
        """Numbers (count,) of the chosen frames from frame `start` on, ascending.

        Raises:
            TrainingError: the rule needs states that the episode lacks.
        """
        rule, motion, last = self._section.frames, self._motion, self._entry.length - 1
        if start and rule == "trim":
            rule, last = "uniform", self.span()[1]
        if start and motion is not None:
            motion = np.concatenate([[0.0], motion[start + 1 : last + 1]])
        later = start and self._times is not None
        clock = clock_of(self._times[start : last + 1]) if later else self.clock
        path = None if self._path is None else self._path[start:]
        return start + choose_frames(last + 1 - start, self._count, rule, motion, path, clock)

    def span(self) -> tuple[int, int]:
        """First and last frame of what the rule chooses from."""
        if self._section.frames == "trim" and self._motion is not None and self._motion.any():
            return active_span(self._motion, self._count)
        return 0, self._entry.length - 1

    @cached_property
    def clock(self) -> np.ndarray | None:
        """Times of all frames as `clock_of` gives them."""
        return clock_of(self._times)

    @cached_property
    def _times(self) -> np.ndarray | None:
        return self._source.times(self._entry)

    @cached_property
    def _motion(self) -> np.ndarray | None:
        if self._section.frames in ("uniform", "shape") or self._entry.length <= self._count:
            return None
        return motion_of(self._source.thumbnails(self._entry))

    @cached_property
    def _path(self) -> np.ndarray | None:
        if self._section.frames != "shape":
            return None
        entry, column = self._entry, self._section.gripper_column
        states = self._source.positions(entry, self._section.states)
        if column is None and self._source.format == "simulated":
            column = 3
        path = path_of_states(states, column, self._section.gripper_range)
        if len(path) != entry.length:
            raise TrainingError(
                f"states of episode {entry.id} ({entry.file}) must have {entry.length} rows, got {len(path)}"
            )
        return path


def later_starts(section: PrepareSection, entry: Entry, first: int, last: int, count: int) -> list[int]:
    """Frames, ascending, at which further pairs of an episode begin; they depend only on the seed and its name.

    Args:
        section: the settings, of which `later_starts` is the mean number of starts.
        entry: the episode.
        first: its first frame of interest.
        last: its last one.
        count: frames that a pair needs; at least this many are left after each start.
    """
    room = last - first - count + 1
    if room < 1 or not section.later_starts:
        return []

    def draw(what: str) -> float:
        digest = hashlib.sha256(f"later:{section.seed}:{entry.id}:{what}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48

    wanted = int(section.later_starts) + (draw("count") < section.later_starts % 1)
    return sorted({first + 1 + int(room * draw(str(number))) for number in range(wanted)})


def rest_of(
    trajectory: Trajectory, whole: np.ndarray, chosen: np.ndarray, clock: np.ndarray | None
) -> Trajectory | None:
    """The part of a path of the whole episode that is still ahead, with the times of a plan that begins later.

    Args:
        trajectory: trajectory with times in the plan of the whole episode.
        whole: numbers of the frames of that plan.
        chosen: numbers of the frames of the later one.
        clock: as `rules.clock_of` gives it.

    Returns:
        The rest; None if a path has no times, or nothing of it is left.
    """
    if not is_timed(trajectory):
        return None
    start = float(plan_time(chosen[:1], whole, clock)[0])
    numbers, cells = np.unique(whole, return_index=True)
    paths = []
    for path in trajectory.paths:
        first, last = path.points[0].t, path.points[-1].t
        if last <= start:
            return None
        x, y = path.resample(2 * _FINE + 1)[round(2 * _FINE * max(start, first))]
        ahead = [Point(x, y, max(start, first)), *(point for point in path.points if point.t > max(start, first))]
        frames = np.interp([point.t for point in ahead], cells / max(len(whole) - 1, 1), numbers)
        times = plan_time(frames, chosen, clock)
        new = np.concatenate([[True], np.diff(times) > 0])  # whatever follows the last chosen frame ends with it
        points = tuple(replace(point, t=float(t)) for point, t, keep in zip(ahead, times, new, strict=True) if keep)
        if len(points) < 2:
            return None
        paths.append(DrawnPath(path.name, points, path.interpolation))
    return replace(trajectory, paths=tuple(paths))


def is_timed(trajectory: Trajectory) -> bool:
    """Whether every point of every path has its time."""
    return all(point.t is not None for path in trajectory.paths for point in path.points)

"""A drawn path: control points on the first frame, joined by a curve, passed at certain times.

Coordinates are pixels of one frame, continuous, origin in the top-left corner (the first pixel's centre is (0.5,
0.5)). Times run from 0 (first frame of the plan) to 1 (last frame).
"""

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from ..errors import TrajectoryError, brief
from ..grid.layout import whole_number
from .curves import arc_key, arc_lengths, dense_curve, fill_times, resample_by, spread_times

INTERPOLATIONS = ("spline", "polyline")
"""spline: centripetal Catmull-Rom through the points; polyline: straight lines between them."""
RESAMPLE_BY = ("time", "arc")
MAX_POINTS = 100_000
"""Most control points of a trajectory."""
MAX_PLACE_PX = 1e12
"""Farthest place of a point [px]; beyond it, lengths and times would lose all precision."""


@dataclass(frozen=True)
class Point:
    """A control point.

    Args:
        x: [px] from the left edge.
        y: [px] from the top edge.
        t: time in [0, 1], or None to have it filled in.

    Raises:
        TrajectoryError: a value is not a finite number, a place is beyond `MAX_PLACE_PX`, or t lies outside [0, 1].
    """

    x: float
    y: float
    t: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", _finite(self.x, "x"))
        object.__setattr__(self, "y", _finite(self.y, "y"))
        if not (-MAX_PLACE_PX <= self.x <= MAX_PLACE_PX and -MAX_PLACE_PX <= self.y <= MAX_PLACE_PX):
            raise TrajectoryError(f"x and y must be at most {MAX_PLACE_PX:g} px, got ({self.x:g}, {self.y:g})")
        if self.t is not None:
            time = _finite(self.t, "t")
            if not 0.0 <= time <= 1.0:
                raise TrajectoryError(f"t must be between 0 (first frame) and 1 (last frame), got {time:g}")
            object.__setattr__(self, "t", time)


@dataclass(frozen=True)
class DrawnPath:
    """One path, such as that of the gripper.

    Two points at the same place with different times are a hold. Before the first point's time the path waits at its
    start, after the last one's it rests at its end.

    Args:
        name: what moves along it.
        points: two or more control points in the order of time.
        interpolation: one of `INTERPOLATIONS`.

    Raises:
        TrajectoryError: fewer than two points, times that do not strictly increase, unknown interpolation.
    """

    name: str
    points: tuple[Point, ...]
    interpolation: str = "spline"

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple(self.points))
        if not isinstance(self.name, str):
            raise TrajectoryError(f"path name must be text, got {brief(self.name)}")
        if self.interpolation not in INTERPOLATIONS:
            raise TrajectoryError(
                f"path {brief(self.name)}: interpolation must be one of {', '.join(INTERPOLATIONS)}, "
                f"got {brief(self.interpolation)}"
            )
        if len(self.points) < 2:
            raise TrajectoryError(
                f"path {brief(self.name)} must have at least 2 points, got {len(self.points)} (to hold still, give the "
                "same position at two times)"
            )
        if len(self.points) > MAX_POINTS:
            raise TrajectoryError(
                f"path {brief(self.name)} must have at most {MAX_POINTS} points, got {len(self.points)}"
            )
        self._check_times()

    @classmethod
    def from_array(
        cls, points: Sequence | np.ndarray, name: str = "gripper", interpolation: str = "polyline"
    ) -> "DrawnPath":
        """DrawnPath from rows (x, y) or (x, y, t).

        Raises:
            TrajectoryError: rows of another length, or as the class.
        """
        rows = [tuple(row) for row in points]
        if any(len(row) not in (2, 3) for row in rows):
            raise TrajectoryError(f"path {brief(name)}: each point must be (x, y) or (x, y, t)")
        return cls(name, tuple(Point(*row) for row in rows), interpolation)

    def times(self) -> np.ndarray:
        """Time of every control point, (P,), strictly increasing; those not given are filled in by arc length."""
        return self._timed[0].copy()

    @property
    def length(self) -> float:
        """Length along the curve [px]."""
        return float(self._timed[3][-1])

    def polyline(self) -> tuple[np.ndarray, np.ndarray]:
        """The curve as straight pieces: points (M, 2) [px] with the control points among them, and their times (M,)."""
        _, points, times, _ = self._timed
        return points.copy(), times.copy()

    def curve(self, samples: int) -> tuple[np.ndarray, np.ndarray]:
        """Dense curve, evenly spaced along its length, for drawing.

        Returns:
            (points (samples, 2) [px], times (samples,)), from the first control point to the last.
        """
        samples = whole_number(samples, "samples", 2, TrajectoryError)
        _, points, times, arc = self._timed
        key = arc_key(arc, times)
        wanted = np.linspace(key[0], key[-1], samples)
        x, y, moments = resample_by(key, wanted, points[:, 0], points[:, 1], times)
        return np.stack([x, y], axis=1), moments

    def resample(self, n: int, by: str = "time") -> np.ndarray:
        """Places (n, 2) float64 [px]; the first and the last are the path's ends (n = 1: its start).

        Args:
            n: number of places, such as the number of frames.
            by: "time": at n even times from 0 to 1 (where the path is in each frame); "arc": evenly along the curve.

        Raises:
            TrajectoryError: n < 1, or unknown `by`.
        """
        n = whole_number(n, "number of samples", 1, TrajectoryError)
        if by not in RESAMPLE_BY:
            raise TrajectoryError(f"by must be one of {', '.join(RESAMPLE_BY)}, got {brief(by)}")
        _, points, times, arc = self._timed
        if by == "time":
            key, wanted = times, np.linspace(0.0, 1.0, n)
        else:
            key = arc_key(arc, times)
            wanted = np.linspace(key[0], key[-1], n)
        return np.stack(resample_by(key, wanted, points[:, 0], points[:, 1]), axis=1)

    @cached_property
    def _timed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Times of the control points (P,); the polyline of the curve: points (M, 2), times (M,), arc lengths (M,)."""
        rows = np.array([(p.x, p.y, np.nan if p.t is None else p.t) for p in self.points])
        points, places = dense_curve(rows[:, :2], smooth=self.interpolation == "spline")
        arc = arc_lengths(points)
        times = fill_times(rows[:, 2], arc[places])
        return times, points, spread_times(times, places, arc), arc

    def _check_times(self) -> None:
        given = [(number, point.t) for number, point in enumerate(self.points, 1) if point.t is not None]
        # Points without a time before the first given one need some time to pass, and so do those after the last.
        open_start = given and given[0][0] > 1 and given[0][1] == 0.0
        open_end = given and given[-1][0] < len(self.points) and given[-1][1] == 1.0
        for (before, earlier), (number, later) in pairwise(given):
            if not later > earlier:
                raise TrajectoryError(
                    f"path {brief(self.name)}: times must strictly increase, got t={later:g} at point {number} after "
                    f"t={earlier:g} at point {before}"
                )
        if open_start or open_end:
            number, time = given[0] if open_start else given[-1]
            side = "before" if open_start else "after"
            raise TrajectoryError(
                f"path {brief(self.name)}: point {number} has t={time:g}, which leaves no time for the points {side} it"
            )


def _finite(value: object, name: str) -> float:
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TrajectoryError(f"{name} must be a number, got {brief(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise TrajectoryError(f"{name} must be a finite number, got {number}")
    return number

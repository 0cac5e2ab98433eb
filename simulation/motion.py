"""Motions of the tool: way points at fixed frames, joined by minimum-jerk segments with an optional sideways bow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FRAMES = 9


def minimum_jerk(s):
    """Return the minimum-jerk progress 10 s^3 - 15 s^4 + 6 s^5 for s in [0, 1] (Flash and Hogan, 1985)."""
    s = np.clip(s, 0.0, 1.0)
    return s**3 * (10.0 - 15.0 * s + 6.0 * s**2)


@dataclass(frozen=True)
class WayPoint:
    """Where the tool is at a frame: time [frames, 0..8], position (3,) [m], gripper command [0 open, 1 closed].

    ``bow_m`` is the sideways and upward offset (3,) [m] in the middle of the segment that ends here.
    """

    frame: float
    position_m: tuple[float, float, float]
    gripper: float
    bow_m: tuple[float, float, float] = (0.0, 0.0, 0.0)


class Motion:
    """The commanded motion through way points.

    Args:
        points: way points in time order, the first at frame 0.
    """

    def __init__(self, points: list[WayPoint]) -> None:
        self.points = tuple(points)
        self._frames = np.array([point.frame for point in points])

    def at(self, frame: float) -> tuple[np.ndarray, float]:
        """Return the commanded tool position (3,) [m] and gripper [0..1] at a time in frames."""
        index = int(np.clip(np.searchsorted(self._frames, frame, side="right") - 1, 0, len(self.points) - 2))
        a, b = self.points[index], self.points[index + 1]
        s = float(minimum_jerk((frame - a.frame) / (b.frame - a.frame)))
        start, end = np.asarray(a.position_m), np.asarray(b.position_m)
        position = start + s * (end - start) + np.sin(np.pi * s) * np.asarray(b.bow_m)
        return position, a.gripper + s * (b.gripper - a.gripper)


def sideways_bow(start_m, end_m, offset_m: float) -> tuple[float, float, float]:
    """Return a horizontal bow (3,) [m] of ``offset_m`` perpendicular to the line from ``start_m`` to ``end_m``."""
    way = np.asarray(end_m)[:2] - np.asarray(start_m)[:2]
    length = float(np.hypot(*way))
    if length < 1e-6:
        return (float(offset_m), 0.0, 0.0)
    return (float(-way[1] / length * offset_m), float(way[0] / length * offset_m), 0.0)

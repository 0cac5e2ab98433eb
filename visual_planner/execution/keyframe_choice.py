"""Which moments of a recorded motion are its keyframes: those whose polyline lies nearest to the path."""

import numpy as np

from ..errors import PlannerError

RULES = ("time", "shape")
"""How the frames of a plan are spaced: evenly in time, or so that the line through them lies nearest to the path."""
GRIPPER_LENGTH_M = 0.1
"""Path length of the end effector that a full opening of the gripper is equivalent to [m]."""


def choose_by_shape(path: np.ndarray, count: int, step: int = 1) -> np.ndarray:
    """Numbers (count,) of the moments, ascending, first and last included.

    The polyline through the chosen points has the least sum of squared distances from all points to the part of it
    that spans their time, found by dynamic programming (Bellman 1961, "On the approximation of curves by line segments
    using dynamic programming"). Even times miss the lowest point of a grasp; this does not.

    Args:
        path: (T, C) points in time order, such as x, y, z [m] and the gripper's opening times `GRIPPER_LENGTH_M`.
        count: moments to choose. With fewer points each is taken once and the last is repeated.
        step: only every `step`-th point (and the last) may be chosen; the cost grows with (T / step)^2 T.

    Raises:
        PlannerError: the path is not a (T, C) array of finite numbers, or fewer than two moments are wanted.
    """
    path = np.asarray(path, dtype=np.float64)
    if path.ndim != 2 or not len(path) or not np.isfinite(path).all():
        raise PlannerError(f"path must be (T, C) finite numbers, got shape {path.shape}")
    if count < 2 or step < 1:
        raise PlannerError(f"count must be 2 or more and step 1 or more, got {count} and {step}")
    last = len(path) - 1
    allowed = np.unique(np.append(np.arange(0, last, step), last))
    if len(allowed) < count:
        allowed = np.arange(last + 1)
    if len(allowed) <= count:
        return np.append(allowed, np.full(count - len(allowed), last))
    cost = _segment_costs(path, allowed)
    best = np.full(len(allowed), np.inf)
    best[0] = 0.0
    came_from = np.zeros((count, len(allowed)), dtype=np.int64)
    for number in range(1, count):
        through = best[:, None] + cost
        came_from[number] = through.argmin(axis=0)
        best = through.min(axis=0)
    chosen = [len(allowed) - 1]
    for number in range(count - 1, 0, -1):
        chosen.append(int(came_from[number, chosen[-1]]))
    return allowed[chosen[::-1]]


def _segment_costs(path: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """(M, M) sum of squared distances of the points between two allowed ones to the segment that joins them."""
    costs = np.full((len(allowed), len(allowed)), np.inf)
    for row, first in enumerate(allowed[:-1]):
        ends = path[allowed[row + 1 :]]
        along = ends - path[first]  # (E, C)
        points = path[first : allowed[-1] + 1] - path[first]  # (P, C)
        share = points @ along.T / np.maximum((along**2).sum(axis=1), 1e-12)  # (P, E)
        share = np.clip(share, 0.0, 1.0)
        distance = ((points[:, None] - share[..., None] * along) ** 2).sum(axis=2)
        total = np.cumsum(distance, axis=0)
        reach = allowed[row + 1 :] - first
        costs[row, row + 1 :] = total[reach, np.arange(len(reach))]
    return costs

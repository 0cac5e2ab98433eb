"""A path from a stroke that was painted as a mask."""

import numpy as np
import torch

from ..errors import TrajectoryError
from .path import DrawnPath
from .trajectory import Trajectory

STROKE_STARTS = ("left", "right", "top", "bottom")
"Which end of a stroke is its start: a mask does not define it."


def read_stroke(mask: "torch.Tensor | np.ndarray", start: str = "left", tolerance_px: float = 1.0) -> Trajectory:
    """Trajectory from a painted stroke: the longest way along the mask's middle line.

    Args:
        mask: (h, w) or (1, h, w), 1 = painted (a value above 0.5 counts).
        start: one of `STROKE_STARTS`: which of its two ends is where the path begins.
        tolerance_px: how far the path's few control points may leave the middle line [px].

    Raises:
        TrajectoryError: unknown start, another shape, or nothing painted that is longer than one pixel.
    """
    import cv2

    if start not in STROKE_STARTS:
        raise TrajectoryError(f"start must be one of {', '.join(STROKE_STARTS)}, got {start!r}")
    painted = np.asarray(mask) > 0.5
    painted = painted[0] if painted.ndim == 3 and painted.shape[0] == 1 else painted
    if painted.ndim != 2:
        raise TrajectoryError(f"mask must have shape (h, w) or (1, h, w), one stroke at a time, got {np.shape(mask)}")
    way = _longest_way(_thinned(painted))
    if len(way) < 2:
        raise TrajectoryError("mask must hold a stroke longer than one pixel, got none")
    line = (np.array(way)[:, ::-1] + 0.5).astype(np.float32)  # (x, y) of the pixels' centres
    line = cv2.approxPolyDP(line[:, None], tolerance_px, False)[:, 0].astype(np.float64)
    axis, sign = {"left": (0, 1), "right": (0, -1), "top": (1, 1), "bottom": (1, -1)}[start]
    if sign * line[0, axis] > sign * line[-1, axis]:
        line = line[::-1]
    height, width = painted.shape
    return Trajectory(width, height, (DrawnPath.from_array(line.tolist(), "gripper", "spline"),))


def _thinned(mask: np.ndarray) -> np.ndarray:
    """One pixel wide middle lines of a mask (Zhang and Suen, "A fast parallel algorithm for thinning", 1984)."""
    kept = np.pad(mask, 1)
    while True:
        before = kept.sum()
        for first in (True, False):
            # Neighbours clockwise from the one above.
            around = [np.roll(kept, shift, axis=(0, 1)) for shift in
                      ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))]  # fmt: skip
            count = np.sum(around, axis=0)
            turns = np.sum([~a & b for a, b in zip(around, around[1:] + around[:1], strict=True)], axis=0)
            up, right, down, left = around[0], around[2], around[4], around[6]
            free = (
                ~(up & right & down) & ~(right & down & left) if first else ~(up & right & left) & ~(up & down & left)
            )
            kept = kept & ~((count >= 2) & (count <= 6) & (turns == 1) & free)
        if kept.sum() == before:
            return kept[1:-1, 1:-1]


def _longest_way(lines: np.ndarray) -> list[tuple[int, int]]:
    """Pixels (row, column) along the longest of the shortest methods, in its largest connected part."""
    left = {(int(row), int(column)) for row, column in zip(*np.nonzero(lines), strict=True)}
    best: list[tuple[int, int]] = []
    while left:
        reached = _ways_from(next(iter(left)), left)
        far = max(reached, key=lambda pixel: reached[pixel][0])
        back = _ways_from(far, left)
        pixel: tuple[int, int] | None = max(back, key=lambda other: back[other][0])
        way = []
        while pixel is not None:
            way.append(pixel)
            pixel = back[pixel][1]
        if len(way) > len(best):
            best = way
        left -= reached.keys()
    return best


def _ways_from(start: tuple[int, int], pixels: set[tuple[int, int]]) -> dict:
    """Steps from a pixel to each that it is connected with, and the pixel before: `{pixel: (steps, before)}`."""
    found: dict = {start: (0, None)}
    queue = [start]
    for row, column in queue:
        for neighbour in ((row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
            if neighbour in pixels and neighbour not in found:
                found[neighbour] = (found[row, column][0] + 1, (row, column))
                queue.append(neighbour)
    return found

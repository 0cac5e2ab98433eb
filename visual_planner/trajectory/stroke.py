"""A path from a stroke that was painted as a mask."""

from collections.abc import Container
from functools import lru_cache

import numpy as np
import torch

from ..errors import TrajectoryError, brief
from .path import DrawnPath
from .trajectory import Trajectory

STROKE_STARTS = ("left", "right", "top", "bottom")
"Which end of a stroke is its start: a mask does not define it."
MAX_SIDE_PX = 16384
_MOST_PIXELS = 60_000
_MOST_WORK = 2e8
"""Pixels times rounds of thinning that take about one second; a mask that needs more is made smaller first."""


def read_stroke(mask: "torch.Tensor | np.ndarray", start: str = "left", tolerance_px: float = 1.0) -> Trajectory:
    """Trajectory from a painted stroke: the longest path along the mask's middle line.

    Args:
        mask: (h, w) or (1, h, w), 1 = painted (a value above 0.5 counts).
        start: one of `STROKE_STARTS`: which of its two ends is where the path begins.
        tolerance_px: how far the path's few control points may leave the middle line [px].

    Raises:
        TrajectoryError: unknown start, another shape, or nothing painted that is longer than one pixel.
    """
    import cv2

    if start not in STROKE_STARTS:
        raise TrajectoryError(f"start must be one of {', '.join(STROKE_STARTS)}, got {brief(start)}")
    painted = np.asarray(mask) > 0.5
    painted = painted[0] if painted.ndim == 3 and painted.shape[0] == 1 else painted
    if painted.ndim != 2:
        raise TrajectoryError(f"mask must have shape (h, w) or (1, h, w), one stroke at a time, got {np.shape(mask)}")
    if max(painted.shape, default=0) > MAX_SIDE_PX:
        raise TrajectoryError(f"mask must have sides of at most {MAX_SIDE_PX} px, got {painted.shape}")
    whole = painted.shape
    painted, (top, left), factor = _reduced(painted)
    lines = _thinned(painted)
    if lines.sum() > _MOST_PIXELS:
        raise TrajectoryError(f"mask must hold one stroke, got {lines.sum()} pixels of middle lines")
    way = _longest_way(lines, (top, left) if factor == 1 else (0, 0))
    if len(way) < 2:
        raise TrajectoryError("mask must hold a stroke longer than one pixel, got none")
    line = (np.array(way)[:, ::-1] + 0.5).astype(np.float32)  # (x, y) of the pixels' centres
    if factor > 1:
        line = line * factor + np.float32((left, top))
    line = cv2.approxPolyDP(line[:, None], tolerance_px * factor, False)[:, 0].astype(np.float64)
    axis, sign = {"left": (0, 1), "right": (0, -1), "top": (1, 1), "bottom": (1, -1)}[start]
    if sign * line[0, axis] > sign * line[-1, axis]:
        line = line[::-1]
    height, width = whole
    return Trajectory(width, height, (DrawnPath.from_array(line.tolist(), "gripper", "spline"),))


def _reduced(mask: np.ndarray) -> tuple[np.ndarray, tuple[int, int], int]:
    """The painted part of a mask, its corner (top, left) [px], and the factor by which it was reduced, usually 1."""
    import cv2

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return mask[:1, :1], (0, 0), 1
    top, left = int(rows[0]), int(columns[0])
    mask = np.ascontiguousarray(mask[top : rows[-1] + 1, left : columns[-1] + 1])
    thickness = float(cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_C, 3).max())
    factor = max(1, int(np.ceil((mask.size * thickness / _MOST_WORK) ** (1 / 3))))
    if factor > 1:
        height, width = (-(-side // factor) for side in mask.shape)
        grown = np.zeros((height * factor, width * factor), bool)
        grown[: mask.shape[0], : mask.shape[1]] = mask
        mask = grown.reshape(height, factor, width, factor).mean(axis=(1, 3)) >= 0.5
    return mask, (top, left), factor


_WEIGHTS = ((128, 1, 2), (64, 0, 4), (32, 16, 8))
"""Bit of each neighbour, clockwise from the one above."""


@lru_cache(maxsize=1)
def _removed() -> tuple[np.ndarray, np.ndarray]:
    """Whether a painted pixel is removed in the first and second half of a round, by its neighbours (256 bit sets)."""
    bits = np.arange(256)[:, None] >> np.arange(8) & 1
    count = bits.sum(axis=1)
    turns = ((bits == 0) & (np.roll(bits, -1, axis=1) == 1)).sum(axis=1)
    up, right, down, left = (bits[:, place] == 1 for place in (0, 2, 4, 6))
    edge = (count >= 2) & (count <= 6) & (turns == 1)
    return edge & ~(up & right & down) & ~(right & down & left), edge & ~(up & right & left) & ~(up & down & left)


def _thinned(mask: np.ndarray) -> np.ndarray:
    """One pixel wide middle lines of a mask (Zhang and Suen, "A fast parallel algorithm for thinning", 1984)."""
    import cv2

    kept = np.pad(mask, 1).astype(np.uint8)
    weights = np.array(_WEIGHTS, np.uint8).astype(np.float32)
    tables = [np.where(table, 0, 1).astype(np.uint8) for table in _removed()]
    while True:
        before = cv2.countNonZero(kept)
        for table in tables:
            neighbours = cv2.filter2D(kept, -1, weights, borderType=cv2.BORDER_CONSTANT)
            kept = kept & cv2.LUT(neighbours, table)
        if cv2.countNonZero(kept) == before:
            return kept[1:-1, 1:-1].astype(bool)


def _longest_way(lines: np.ndarray, corner: tuple[int, int]) -> list[tuple[int, int]]:
    """Pixels (row, column) along the longest of all shortest paths in the largest connected part."""
    left = {(int(row) + corner[0], int(column) + corner[1]) for row, column in zip(*np.nonzero(lines), strict=True)}
    best: list[tuple[int, int]] = []
    for start in list(left):
        if start not in left:  # part of a component that was searched already
            continue
        reached = _ways_from(start, left)
        left.difference_update(reached)
        if len(reached) <= len(best):
            continue  # it cannot have a longer path than the best one
        far = max(reached, key=lambda pixel: reached[pixel][0])
        back = _ways_from(far, reached)
        pixel: tuple[int, int] | None = max(back, key=lambda other: back[other][0])
        way = []
        while pixel is not None:
            way.append(pixel)
            pixel = back[pixel][1]
        if len(way) > len(best):
            best = way
    return best


def _ways_from(start: tuple[int, int], pixels: Container[tuple[int, int]]) -> dict:
    """Steps from a pixel to every pixel connected with it, and the previous pixel: `{pixel: (steps, before)}`."""
    found: dict = {start: (0, None)}
    queue = [start]
    for row, column in queue:
        for neighbour in ((row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
            if neighbour in pixels and neighbour not in found:
                found[neighbour] = (found[row, column][0] + 1, (row, column))
                queue.append(neighbour)
    return found

"""Draw a trajectory on a frame, in the way that a planner was trained to read it.

- gradient: the path as one line, from red at its start to blue at its end (the paper's description). The colour may
  run with time (red at t = 0, blue at t = 1, so that speed shows) or with arc length.
- arrows_bridge, arrows_rt1: one or two straight arrows, first blue, then red, as in the weights published with
  arXiv 2512.00532 (the figures are those of their drawing scripts).

A pixel is covered by `radius + 0.5 - distance` of its centre from the line, between 0 and 1: anti-aliased, and exact to
a fraction of a pixel. Coordinates are continuous: the first pixel's centre is (0.5, 0.5).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import ImageError, TrajectoryError, brief
from .curves import arc_key, arc_lengths, cut_to_frame, resample_by
from .path import DrawnPath
from .trajectory import Trajectory

OVERLAY_STYLES = ("gradient", "arrows_bridge", "arrows_rt1")
COLOR_BY = ("time", "arc")
START_RGB = (255, 0, 0)
END_RGB = (0, 0, 255)

LINE_SHARE = 1.5 / 64
"Default line width as a fraction of the frame's shorter side: 1.5 px at 64 px."
BEND_SHARE = 0.08
"A single path is drawn as two arrows if it leaves its straight line by more than this fraction of the shorter side."


@dataclass(frozen=True)
class ArrowStyle:
    """How published weights' arrows look, in pixels of the frame they were drawn on.

    Args:
        colors: RGB of the first arrow and of the later ones.
        drawn_on: (height, width) of that frame [px].
        thickness: width of the shaft [px].
        head_length: distance from the tip to a filled diamond's widest place, or length of an open fork's strokes [px].
        head_half_width: half of the diamond's width [px]; None for an open fork.
        diamond_tail: how far the diamond reaches behind its widest place, as a fraction of `head_length`.
        fork_degrees: angle between the fork's strokes and the shaft.
    """

    colors: tuple[tuple[int, int, int], tuple[int, int, int]]
    drawn_on: tuple[int, int]
    thickness: float
    head_length: float
    head_half_width: float | None = None
    diamond_tail: float = 0.6
    fork_degrees: float = 30.0


ARROW_STYLES = {
    "arrows_bridge": ArrowStyle(((135, 206, 235), (255, 0, 0)), (480, 640), 3.0, 13.0, head_half_width=6.0),
    "arrows_rt1": ArrowStyle(((74, 161, 241), (254, 0, 0)), (256, 320), 2.0, 8.0, fork_degrees=30.0),
}


def draw_overlay(
    image: np.ndarray,
    trajectory: Trajectory,
    style: str = "gradient",
    color_by: str = "time",
    thickness: float | None = None,
) -> np.ndarray:
    """Draw every path of a trajectory on a frame.

    Args:
        image: (H, W, 3) RGB, uint8 or float32 in [0, 1]; not changed.
        trajectory: paths for a frame of exactly this size (`Trajectory.scaled` brings them to another).
        style: one of `OVERLAY_STYLES`.
        color_by: one of `COLOR_BY`: what the gradient's colour stands for; arrows have no gradient.
        thickness: width of the line [px]; None: 1.5 px at 64 px, in proportion to the frame (arrows: as published).

    Returns:
        A new (H, W, 3) array of the same dtype.

    Raises:
        ImageError: another shape or dtype, or a thickness that is not positive.
        TrajectoryError: the trajectory is for a frame of another size; unknown style or colouring.
    """
    _check(image, trajectory, style, color_by, thickness)
    result = np.array(image, order="C")
    if style == "gradient":
        width = thickness or LINE_SHARE * min(image.shape[:2])
        for path in trajectory.paths:
            _draw_gradient(result, path, color_by, width)
        return result
    arrows = ARROW_STYLES[style]
    for number, (start, end) in enumerate(arrow_ends(trajectory)):
        _draw_arrow(result, start, end, arrows, arrows.colors[min(number, 1)], thickness)
    return result


def arrow_ends(trajectory: Trajectory) -> list[tuple[np.ndarray, np.ndarray]]:
    """Straight arrows (start (2,), end (2,)) [px] that stand for the paths.

    Several paths give an arrow each, from their first place to their last. A lone path gives one arrow if it is
    nearly straight, and otherwise two that meet where it is farthest from its straight line.
    """
    if len(trajectory.paths) > 1:
        return [(places[0], places[-1]) for places in (path.resample(2, "arc") for path in trajectory.paths)]
    places, _ = trajectory.paths[0].curve(129)
    start, end = places[0], places[-1]
    chord, away = end - start, places - start
    length = float(np.hypot(*chord))
    # A path that comes back to its start has no line to leave: then it turns where it is farthest from the start.
    distance = np.abs(away @ np.array([-chord[1], chord[0]])) / length if length > 1.0 else np.hypot(*away.T)
    corner = int(distance.argmax())
    if distance[corner] <= BEND_SHARE * min(trajectory.width, trajectory.height):
        return [(start, end)]
    return [(start, places[corner]), (places[corner], end)]


def _draw_gradient(image: np.ndarray, path: DrawnPath, color_by: str, thickness: float) -> None:
    points, times = path.polyline()
    if color_by == "arc":
        arc = arc_lengths(points)
        times = arc / arc[-1] if arc[-1] > 0.0 else times
    for stations, shares in _stations(points, times, image.shape[:2], thickness):
        pixels, cover, share = _stroke(image.shape[:2], stations, shares, thickness / 2.0)
        share = share[:, None]
        _blend(image, pixels, cover, (1.0 - share) * START_RGB + share * END_RGB)


def _draw_arrow(
    image: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    style: ArrowStyle,
    color: tuple[int, int, int],
    thickness: float | None,
) -> None:
    scale = min(image.shape[0] / style.drawn_on[0], image.shape[1] / style.drawn_on[1])
    width = thickness or style.thickness * scale
    length = float(np.hypot(*(end - start)))
    along = (end - start) / length if length > 1e-6 else np.array([1.0, 0.0])
    across = np.array([-along[1], along[0]])
    head = style.head_length * scale
    lines = [(start, end)]
    if style.head_half_width is None:
        angle = math.radians(style.fork_degrees)
        back = end - along * head * math.cos(angle)
        lines += [(back + side * across * head * math.sin(angle), end) for side in (-1.0, 1.0)]
    cover = np.zeros(image.shape[0] * image.shape[1])
    for tail, tip in lines:
        for stations, shares in _stations(np.stack([tail, tip]), np.array([0.0, 1.0]), image.shape[:2], width):
            pixels, part, _ = _stroke(image.shape[:2], stations, shares, width / 2.0)
            cover[pixels] = np.maximum(cover[pixels], part)
    if style.head_half_width is not None:
        waist, wing = end - along * head, across * style.head_half_width * scale
        diamond = np.stack([end, waist + wing, waist - along * head * style.diamond_tail, waist - wing])
        pixels, part = _polygon(image.shape[:2], diamond)
        cover[pixels] = np.maximum(cover[pixels], part)
    pixels = np.flatnonzero(cover)
    _blend(image, pixels, cover[pixels], np.array(color, dtype=np.float64))


def _stations(
    points: np.ndarray, shares: np.ndarray, size: tuple[int, int], thickness: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The visible parts of a line, with points so close that the pieces between are short compared to its width.

    Args:
        points: (M, 2) polyline [px].
        shares: (M,) a value that never decreases along it.
        size: (H, W) of the image [px].
        thickness: width of the line [px].

    Yields:
        Points (S, 2) and values (S,) of each part.
    """
    margin = thickness + 1.0
    limit = np.array([size[1], size[0]]) + margin
    parts = [(points, shares)]
    if (points < -margin).any() or (points > limit).any():
        # Otherwise the parts of a path far outside the frame would be drawn as well, at great cost.
        parts = cut_to_frame(points + margin, shares, *(limit + margin))
        parts = [(place - margin, share) for place, share in parts]
    for place, share in parts:
        arc = arc_lengths(place)
        key = arc_key(arc, share)
        count = math.ceil(arc[-1] / max(thickness / 2.0, 0.5)) + 1
        x, y, value = resample_by(key, np.linspace(key[0], key[-1], max(count, 2)), *place.T, share)
        yield np.stack([x, y], axis=1), value


def _stroke(
    size: tuple[int, int], points: np.ndarray, shares: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels that a round-ended line covers.

    Looks only at the pixels around each of its short pieces. Where the line crosses itself its later part is on top.

    Args:
        size: (H, W) of the image [px].
        points: (S, 2) along the line [px].
        shares: (S,) a value that runs along the line.
        radius: half of the line's width [px].

    Returns:
        Of each covered pixel: flat index, cover in (0, 1], and the line's value there.
    """
    height, width = size
    start, step = points[:-1], np.diff(points, axis=0)
    square = np.maximum((step**2).sum(axis=1), 1e-12)
    reach = radius + 0.5
    around = reach + math.sqrt(float(square.max())) / 2.0
    first = np.ceil(start + step / 2.0 - around - 0.5).astype(np.int64)
    patch = np.arange(int(2.0 * around) + 1)
    xs = (first[:, :1] + patch)[:, None, :]
    ys = (first[:, 1:] + patch)[:, :, None]
    dx, dy = xs + 0.5 - start[:, 0, None, None], ys + 0.5 - start[:, 1, None, None]
    step_x, step_y = step[:, 0, None, None], step[:, 1, None, None]
    along = np.clip((dx * step_x + dy * step_y) / square[:, None, None], 0.0, 1.0)
    away = (dx - along * step_x) ** 2 + (dy - along * step_y) ** 2
    near = (away < reach**2) & (xs >= 0) & (xs < width) & (ys >= 0) & (ys < height)
    index = (ys * width + xs)[near]
    away = np.sqrt(away[near])
    value = (shares[:-1, None, None] + along * np.diff(shares)[:, None, None])[near]
    nearest = np.full(height * width, np.inf)
    np.minimum.at(nearest, index, away)
    # Of the pieces that cover a pixel wholly, or else nearest, the last one gives the value (later writes win).
    wins = away <= np.maximum(nearest[index], radius - 0.5)
    values = np.zeros(height * width)
    values[index[wins]] = value[wins]
    pixels = np.flatnonzero(nearest < reach)
    return pixels, np.minimum(reach - nearest[pixels], 1.0), values[pixels]


def _polygon(size: tuple[int, int], corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flat index and cover of each pixel that a filled convex polygon with corners (N, 2) [px] covers."""
    height, width = size
    left, top = np.floor(corners.min(axis=0) - 1.0).clip(0, (width, height)).astype(int)
    right, bottom = np.ceil(corners.max(axis=0) + 1.0).clip(0, (width, height)).astype(int)
    ys, xs = np.mgrid[top:bottom, left:right]
    middle = corners.mean(axis=0)
    outside = np.full(ys.shape, -np.inf)
    for corner, following in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        edge = following - corner
        normal = np.array([edge[1], -edge[0]]) / max(float(np.hypot(*edge)), 1e-9)
        normal *= -1.0 if normal @ (middle - corner) > 0 else 1.0
        outside = np.maximum(outside, (xs + 0.5 - corner[0]) * normal[0] + (ys + 0.5 - corner[1]) * normal[1])
    inside = outside < 0.5
    return (ys * width + xs)[inside], np.minimum(0.5 - outside[inside], 1.0)


def _blend(image: np.ndarray, pixels: np.ndarray, cover: np.ndarray, colors: np.ndarray) -> None:
    """Lay colours (P, 3) or (3,) in 0..255 over the given flat pixels of a contiguous image, in place."""
    flat, cover = image.reshape(-1, 3), cover[:, None]
    if image.dtype == np.uint8:
        flat[pixels] = np.rint(flat[pixels] * (1.0 - cover) + colors * cover)
    else:
        flat[pixels] = flat[pixels] * (1.0 - cover) + colors * (cover / 255.0)


def _check(image: np.ndarray, trajectory: Trajectory, style: str, color_by: str, thickness: float | None) -> None:
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        got = tuple(image.shape) if hasattr(image, "shape") else type(image).__name__
        raise ImageError(f"image must be a numpy array of shape (H, W, 3), got {got}")
    if image.dtype not in (np.uint8, np.float32):
        raise ImageError(f"image must be uint8 or float32, got {image.dtype}")
    if style not in OVERLAY_STYLES:
        raise TrajectoryError(f"overlay style must be one of {', '.join(OVERLAY_STYLES)}, got {brief(style)}")
    if color_by not in COLOR_BY:
        raise TrajectoryError(f"overlay colour must go by one of {', '.join(COLOR_BY)}, got {brief(color_by)}")
    if thickness is not None and not (math.isfinite(thickness) and thickness > 0):
        raise ImageError(f"overlay thickness must be more than 0 px, got {thickness}")
    height, width = image.shape[:2]
    if (trajectory.height, trajectory.width) != (height, width):
        raise TrajectoryError(
            f"trajectory must be for the image's size of {width} x {height} px, got one for "
            f"{trajectory.width} x {trajectory.height} px (scale it first)"
        )

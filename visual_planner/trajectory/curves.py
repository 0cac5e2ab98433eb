"""Curves through points: the geometry under `trajectory`. Arrays (N, 2) of (x, y), float64."""

from itertools import pairwise

import numpy as np

SAMPLES_PER_SEGMENT = 24
"Straight pieces that approximate one segment of a spline; at 640 px the error stays below 0.1 px."

SAME_PLACE_PX = 1e-6
"Points closer than this coincide."


def dense_curve(points: np.ndarray, smooth: bool) -> tuple[np.ndarray, np.ndarray]:
    """Polyline that stands for the curve through control points.

    Args:
        points: (N, 2), N >= 2.
        smooth: a centripetal Catmull-Rom spline instead of straight lines.

    Returns:
        (polyline (M, 2), places (N,)): `polyline[places]` are the control points.
    """
    moves = np.hypot(*np.diff(points, axis=0).T) > SAME_PLACE_PX
    if not smooth or moves.sum() < 2:
        return points, np.arange(len(points))
    # The spline runs through distinct places; a hold between two equal points keeps one straight step.
    curved = _centripetal_catmull_rom(points[np.concatenate([[True], moves])], SAMPLES_PER_SEGMENT)
    counts = np.where(moves, SAMPLES_PER_SEGMENT, 1)
    on_curve = np.repeat(moves, counts)
    steps = np.empty((len(on_curve), 2))
    steps[on_curve], steps[~on_curve] = curved[:, 1:].reshape(-1, 2), points[1:][~moves]
    return np.concatenate([points[:1], steps]), np.concatenate([[0], np.cumsum(counts)])


def _centripetal_catmull_rom(points: np.ndarray, samples: int) -> np.ndarray:
    """Centripetal Catmull-Rom spline, (N - 1, samples + 1, 2), through distinct points (N, 2).

    Knots grow by the square root of the distance, which excludes cusps and loops inside a segment (Yuksel et al.,
    "Parameterization and applications of Catmull-Rom curves", 2011). The end tangents point at the neighbours.
    """
    before, after = 2 * points[0] - points[1], 2 * points[-1] - points[-2]
    padded = np.vstack([before, points, after])
    steps = np.diff(padded, axis=0)
    knots = np.sqrt(np.hypot(steps[:, 0], steps[:, 1]))[:, None]
    chords = padded[2:] - padded[:-2]
    tangents = steps[:-1] / knots[:-1] - chords / (knots[:-1] + knots[1:]) + steps[1:] / knots[1:]
    width = knots[1:-1]
    start, end = points[:-1, None], points[1:, None]
    out, into = (tangents[:-1] * width)[:, None], (tangents[1:] * width)[:, None]
    u = np.linspace(0.0, 1.0, samples + 1)[None, :, None]
    curve = (
        (2 * u**3 - 3 * u**2 + 1) * start
        + (u**3 - 2 * u**2 + u) * out
        + (3 * u**2 - 2 * u**3) * end
        + (u**3 - u**2) * into
    )
    curve[:, 0], curve[:, -1] = points[:-1], points[1:]  # exact, whatever the rounding
    return curve


def arc_lengths(points: np.ndarray) -> np.ndarray:
    """Length along a polyline up to each point, (N,), starting at 0 [px]."""
    lengths = np.zeros(len(points))
    np.cumsum(np.hypot(*np.diff(points, axis=0).T), out=lengths[1:])
    return lengths


def fill_times(given: np.ndarray, arc: np.ndarray) -> np.ndarray:
    """Times of all control points, strictly increasing.

    Args:
        given: (N,) time of each point, NaN where not given; the given ones increase and leave room at the ends.
        arc: (N,) length along the curve up to each point [px].

    Returns:
        (N,) times: 0 and 1 at open ends, and between given times in proportion to arc length.
    """
    times = given.copy()
    times[0] = 0.0 if np.isnan(given[0]) else times[0]
    times[-1] = 1.0 if np.isnan(given[-1]) else times[-1]
    known = np.flatnonzero(~np.isnan(times))
    for left, right in pairwise(known):
        if right - left > 1:
            spans = np.diff(arc[left : right + 1])
            # A segment without length still takes a moment, so that times stay strictly increasing.
            weights = np.maximum(spans, spans.sum() * 1e-6) if spans.sum() > SAME_PLACE_PX else np.ones(right - left)
            share = np.cumsum(weights)[:-1] / weights.sum()
            times[left + 1 : right] = times[left] + share * (times[right] - times[left])
    return times


def spread_times(times: np.ndarray, places: np.ndarray, arc: np.ndarray) -> np.ndarray:
    """Time of every point of the polyline, (M,): even speed between neighbouring control points.

    Args:
        times: (N,) times of the control points.
        places: (N,) their places in the polyline.
        arc: (M,) length along the polyline [px].
    """
    if len(places) == len(arc):
        return times
    segment = np.repeat(np.arange(len(places) - 1), np.diff(places))
    start, span = arc[places[:-1]][segment], np.diff(arc[places])[segment]
    moving = span > 0  # the single step of a hold ends at the segment's end
    share = np.where(moving, (arc[1:] - start) / np.where(moving, span, 1.0), 1.0)
    spread = np.concatenate([times[:1], times[segment] + share * np.diff(times)[segment]])
    spread[places] = times
    return spread


def resample_by(key: np.ndarray, wanted: np.ndarray, *columns: np.ndarray) -> list[np.ndarray]:
    """Each column interpolated at `wanted` values of the increasing `key`; beyond its ends the end values hold."""
    return [np.interp(wanted, key, column) for column in columns]


def arc_key(arc: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Arc length made strictly increasing, (M,): a hold counts as a vanishing length and so keeps its two times."""
    return arc + 1e-7 * max(arc[-1], 1.0) * times


def cut_to_frame(
    points: np.ndarray, times: np.ndarray, width: float, height: float
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pieces of a timed polyline that lie within [0, width] x [0, height], cut exactly at the frame's edge.

    Returns:
        One (points (P, 2), times (P,)) per piece, P >= 2, in the order of time.
    """
    start, step = points[:-1], np.diff(points, axis=0)
    enter, leave = _inside_share(start, step, np.array([width, height], dtype=np.float64))
    inside = enter < leave
    whole = leave == 1.0
    connected = np.concatenate([[False], (inside & whole)[:-1]]) & (enter == 0.0)
    first, last = start + enter[:, None] * step, np.where(whole[:, None], points[1:], start + leave[:, None] * step)
    begins, ends = times[:-1] + enter * np.diff(times), times[:-1] + leave * np.diff(times)
    held = np.flatnonzero(inside)
    heads = np.flatnonzero(inside & ~connected)
    limit = np.array([width, height])
    pieces = []
    for rows in np.split(held, np.searchsorted(held, heads[1:])) if len(held) else []:
        place = np.concatenate([first[rows[:1]], last[rows]])
        moment = np.concatenate([begins[rows[:1]], ends[rows]])
        pieces.append((np.clip(place, 0.0, limit), moment))
    return pieces


def _inside_share(start: np.ndarray, step: np.ndarray, limit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Part (enter, leave), each (N,), of each straight piece that is inside the frame (Liang-Barsky).

    Args:
        start: (N, 2) their starts.
        step: (N, 2) from start to end.
        limit: (2,) width and height; a piece lies wholly outside if enter is not below leave.
    """
    still = step == 0.0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        one, other = (0.0 - start) / step, (limit - start) / step
    first, last = np.minimum(one, other), np.maximum(one, other)
    missed = (still & ~((start >= 0.0) & (start <= limit))).any(axis=1)
    enter = np.maximum(np.where(still, 0.0, first).max(axis=1), 0.0)
    leave = np.minimum(np.where(still, 1.0, last).min(axis=1), 1.0)
    return enter, np.where(missed, -1.0, leave)

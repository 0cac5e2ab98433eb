"""The tool's path: keyframes -> places and gripper states, one per control step, in the plan's own rhythm."""

from __future__ import annotations

import numpy as np

from .model import CONTROL_HZ
from .motion import FRAMES

# The rhythm of a plan of nine frames: half a second from frame to frame.
STEPS_PER_FRAME = CONTROL_HZ // 2
# Duration of a plan [control steps], whatever the number of its frames.
PLAN_STEPS = (FRAMES - 1) * STEPS_PER_FRAME
# How long the arm waits while the gripper opens or closes, whatever the plan's rhythm [s].
GRIPPER_SECONDS = 0.4
_DWELL_STEPS = round(GRIPPER_SECONDS * CONTROL_HZ)
# Frames that show nearly the same place are still separated in time [control steps].
_LEAST_STEPS = 4


def frame_steps(frames: int, begins: float = 0.0) -> np.ndarray:
    """Return the control steps (frames,) at which a plan's frames are, evenly spaced, first and last included.

    Args:
        frames: number of frames.
        begins: fraction of the motion that is over at the first frame.
    """
    return np.linspace(begins * PLAN_STEPS, PLAN_STEPS, frames).round().astype(int)


def steps_between(frames: int) -> int:
    """Control steps from one frame to the next in a whole plan of `frames` frames; 1 or more."""
    return max(1, round(PLAN_STEPS / max(1, frames - 1)))


def steps_between_each(keyframes: np.ndarray, frames: int, by_shape: bool = False) -> np.ndarray:
    """Return the control steps (F - 1,) from each keyframe (F, 4) to the next, 1 or more.

    Args:
        keyframes: x, y, z [m] and gripper.
        frames: frames of a whole plan; these keyframes may be a part of one.
        by_shape: whether the plan's frames are where its path bends, at times that no picture shows. The steps of
            evenly spaced frames are then distributed by distance, with the gripper's opening counted as 10 cm.
    """
    even = np.full(len(keyframes) - 1, steps_between(frames))
    if not by_shape:
        return even
    lengths = np.linalg.norm(np.diff(np.asarray(keyframes, dtype=np.float64) * (1, 1, 1, 0.1), axis=0), axis=1)
    if not lengths.any():
        return even
    return np.maximum(_LEAST_STEPS, even.sum() * lengths / lengths.sum()).round().astype(int)


def monotone_slopes(values: np.ndarray, spans: np.ndarray | None = None) -> np.ndarray:
    """Return slopes (N, C) for a cubic Hermite curve through rows (N, C) that never overshoots.

    Formula: harmonic mean of the neighbouring differences, zero where they change sign (Fritsch and Butland, 1984);
    zero at both ends, where the arm rests.

    Args:
        values: the rows.
        spans: (N - 1,) times between them; slopes are per unit of time. None: all are 1.
    """
    if spans is None or (spans == spans[0]).all():
        before, after = np.diff(values, axis=0)[:-1], np.diff(values, axis=0)[1:]
        product = before * after
        total = before + after
        inner = np.where(product > 0, 2.0 * product / np.where(product > 0, total, 1.0), 0.0)
        inner = inner if spans is None else inner / spans[0]
    else:
        rates = np.diff(values, axis=0) / spans[:, None]
        one, two = (2 * spans[1:] + spans[:-1])[:, None], (spans[1:] + 2 * spans[:-1])[:, None]
        same = rates[:-1] * rates[1:] > 0
        safe = np.where(same[None], [rates[:-1], rates[1:]], 1.0)
        inner = np.where(same, (one + two) / (one / safe[0] + two / safe[1]), 0.0)
    rest = np.zeros((1, values.shape[1]))
    return np.concatenate([rest, inner, rest])


def commands(
    keyframes: np.ndarray, steps_per_frame: int | np.ndarray = STEPS_PER_FRAME
) -> tuple[list[tuple[np.ndarray, float]], list[int]]:
    """Turn keyframes (F, 4) into commands, one per control step, and the steps at which each keyframe is completed.

    Between keyframes, ``steps_per_frame`` apart (one number, or one for each pair), the tool follows a monotone cubic
    curve. Where the gripper switches, the arm stands still for ``GRIPPER_SECONDS``: the gripper opens before the arm
    leaves, and closes after it has arrived.
    """
    places, gripper = keyframes[:, :3], keyframes[:, 3]
    closed = gripper >= 0.5
    even = np.ndim(steps_per_frame) == 0
    spans = [steps_per_frame] * (len(keyframes) - 1) if even else [int(span) for span in steps_per_frame]
    slopes = monotone_slopes(places, None if even else np.asarray(spans, dtype=np.float64))
    switches = np.flatnonzero(closed[1:] != closed[:-1])
    for k in switches:  # the arm stands still there, so the curve must stop there
        slopes[k + 1 if closed[k + 1] else k] = 0.0
    steps: list[tuple[np.ndarray, float]] = []
    done = [0]
    for k in range(len(keyframes) - 1):
        switch, start, end = k in switches, gripper[k], gripper[k + 1]
        ramp = [float(start + (end - start) * min(1.0, 2 * (i + 1) / _DWELL_STEPS)) for i in range(_DWELL_STEPS)]
        if switch and not closed[k + 1]:
            steps += [(places[k], value) for value in ramp]
        span = spans[k]
        unit = 1 if even else span  # time unit of the slopes: from a keyframe to the next, or a control step
        for i in range(1, span + 1):
            s = i / span
            hold = (start if closed[k + 1] else end) if switch else start + s * (end - start)
            place = hermite(places[k], places[k + 1], unit * slopes[k], unit * slopes[k + 1], s)
            steps.append((place, float(hold)))
        if switch and closed[k + 1]:
            steps += [(places[k + 1], value) for value in ramp]
        done.append(len(steps))
    return steps, done


def hermite(a, b, slope_a, slope_b, s) -> np.ndarray:
    """Return the cubic Hermite curve from ``a`` to ``b`` at s in [0, 1], slopes per unit of s."""
    return (
        (1 + 2 * s) * (1 - s) ** 2 * a + s * (1 - s) ** 2 * slope_a + s**2 * (3 - 2 * s) * b + s**2 * (s - 1) * slope_b
    )

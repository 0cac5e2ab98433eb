"""Which frames of an episode fill the cells of a grid."""

import numpy as np

from visual_planner.execution.keyframe_choice import GRIPPER_LENGTH_M, choose_by_shape

from ..errors import TrainingError

_IDLE_SHARE = 0.1
"A frame is idle if it changes less than this fraction of a lively frame's change."
_EVEN_SHARE = 0.05
"Weight of time relative to motion, so that a static stretch is not skipped altogether."
_MOST_CHOICES = 150
"Moments among which the path's shape chooses; longer episodes offer every second frame, or every third."


def choose_frames(
    length: int,
    count: int,
    rule: str = "uniform",
    motion: np.ndarray | None = None,
    path: np.ndarray | None = None,
) -> np.ndarray:
    """Numbers (count,) of the chosen frames, ascending, first one first.

    Args:
        length: frames of the episode.
        count: cells to fill. If there are fewer frames, each is taken once and the last one repeated.
        rule: uniform: evenly, first and last included; motion: equal amounts of motion between neighbours; trim: evenly
            between the ends of motion; shape: where the path bends.
        motion: for motion and trim: (length,) change of each frame against the one before; see `motion_of`.
        path: for shape: (length, C) the end effector's path, see `path_of_states`.
    """
    if length < count:
        return np.minimum(np.arange(count), length - 1)
    if rule == "shape" and path is not None:
        return choose_by_shape(path, count, -(-length // _MOST_CHOICES))
    if rule == "uniform" or motion is None or not motion.any():
        return _evenly(0, length - 1, count)
    if rule == "trim":
        return _evenly(*active_span(motion, count), count)
    lively = np.maximum(motion - _floor(motion), 0.0)
    lively[1:] += _EVEN_SHARE * lively.sum() / max(length - 1, 1) + 1e-12
    lively[0] = 0.0
    passed = np.cumsum(lively) / lively.sum()
    chosen = np.abs(passed[:, None] - np.linspace(0.0, 1.0, count)).argmin(axis=0)
    # every frame once: push doubles forward, then back from the end
    chosen = np.maximum.accumulate(chosen - np.arange(count)) + np.arange(count)
    return np.minimum(chosen, length - count + np.arange(count))


def path_of_states(
    states: np.ndarray, gripper_column: int | None = None, gripper_range: tuple[float, float] = (0.0, 1.0)
) -> np.ndarray:
    """Path (T, 3 or 4) of states (T, D): place [m], and the gripper's opening as a length.

    Args:
        states: one row a frame; the first three columns are the end effector's place.
        gripper_column: the gripper's; None: unknown.
        gripper_range: its values when open and when closed.

    Raises:
        TrainingError: there are no such columns, or numbers that are not finite.
    """
    width = states.shape[1] if states.ndim == 2 else 0
    if width < 3:
        raise TrainingError(
            f"states must have 3 or more columns (x, y, z of the end effector), got shape {states.shape}"
        )
    columns = [states[:, :3]]
    if gripper_column is not None:
        if not -width <= gripper_column < width:
            raise TrainingError(f"prepare.gripper_column must be a column of {width} states, got {gripper_column}")
        opened, closed = gripper_range
        if opened == closed:
            raise TrainingError(f"prepare.gripper_range must be two different numbers, got {opened} twice")
        opening = np.clip((states[:, gripper_column] - closed) / (opened - closed), 0.0, 1.0)
        columns.append(GRIPPER_LENGTH_M * opening[:, None])
    path = np.concatenate(columns, axis=1)
    if not np.isfinite(path).all():
        raise TrainingError(
            f"states must be finite numbers, got {int((~np.isfinite(path)).any(axis=1).sum())} rows with others"
        )
    return path


def motion_of(thumbnails: np.ndarray) -> np.ndarray:
    """Change (T,) of each small picture (T, h, w) against the one before, mean absolute difference [0..255]."""
    change = np.abs(np.diff(thumbnails.astype(np.int16), axis=0)).mean(axis=(1, 2))
    return np.concatenate([[0.0], change])


def active_span(motion: np.ndarray, count: int) -> tuple[int, int]:
    """First and last frame between the idle ends, at least `count` frames apart."""
    smooth = np.convolve(motion[1:], np.ones(3) / 3, "same")
    floor = _floor(motion)
    active = np.flatnonzero(smooth > floor + _IDLE_SHARE * (np.percentile(smooth, 95) - floor))
    last = len(motion) - 1
    first, end = (int(active[0]), int(active[-1]) + 1) if len(active) else (0, last)
    lacking = max(0, count - (end - first + 1))
    first = max(0, first - (lacking + 1) // 2)
    end = min(last, max(end, first + count - 1))
    return max(0, min(first, end - count + 1)), end


def plan_time(frames: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Time in the plan, 0 to 1, of frames of the episode: a chosen frame has that of its cell, others lie between."""
    numbers, first = np.unique(chosen, return_index=True)
    return np.interp(frames, numbers, first / max(len(chosen) - 1, 1))


def _evenly(first: int, last: int, count: int) -> np.ndarray:
    return np.linspace(first, last, count).round().astype(int)


def _floor(motion: np.ndarray) -> float:
    """Change that is only noise of the camera: what the quietest frames show."""
    return float(np.percentile(motion[1:], 10)) if len(motion) > 1 else 0.0

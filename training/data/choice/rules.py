"""Which frames of an episode fill the cells of a grid."""

import numpy as np

from visual_planner.execution.keyframe_choice import GRIPPER_LENGTH_M, choose_by_shape

from ...errors import TrainingError

_IDLE_SHARE = 0.1
"A frame is idle if it changes less than this fraction of a lively frame's change."
_EVEN_SHARE = 0.05
"Weight of time relative to motion, so that a static stretch is not skipped altogether."
_MOST_CHOICES = 150
"Moments among which the path's shape chooses; longer episodes offer every second frame, or every third."
_JITTER = 0.5
"Frames whose times deviate from even ones by more than this are chosen by their times [frames]."


def choose_frames(
    length: int,
    count: int,
    rule: str = "uniform",
    motion: np.ndarray | None = None,
    path: np.ndarray | None = None,
    clock: np.ndarray | None = None,
) -> np.ndarray:
    """Numbers (count,) of the chosen frames, ascending from the first one.

    Args:
        length: frames of the episode.
        count: cells to fill. If there are fewer frames, each is taken once and the last one repeated.
        rule: uniform: evenly in time, first and last included; motion: equal amounts of motion between neighbours;
            trim: evenly between the ends of motion; shape: where the path bends.
        motion: for motion and trim: (length,) change of each frame against the one before; see `motion_of`.
        path: for shape: (length, C) the end effector's path, see `path_of_states`.
        clock: (length,) as `clock_of` gives it; a frame that is shown for long may then be chosen more than once.
    """
    if length < count:
        return np.minimum(np.arange(count), length - 1)
    if rule == "shape" and path is not None:
        return choose_by_shape(path, count, -(-length // _MOST_CHOICES))
    if rule == "uniform" or motion is None or not motion.any():
        return _evenly(0, length - 1, count, clock)
    if rule == "trim":
        return _evenly(*active_span(motion, count), count, clock)
    lively = np.maximum(motion - _floor(motion), 0.0)
    passing = 1.0 if clock is None else np.diff(clock)
    lively[1:] += _EVEN_SHARE * lively.sum() * passing / max(length - 1, 1) + 1e-12
    lively[0] = 0.0
    passed = np.cumsum(lively) / lively.sum()
    chosen = np.abs(passed[:, None] - np.linspace(0.0, 1.0, count)).argmin(axis=0)
    # every frame at most once: push duplicates forward, then back from the end
    chosen = np.maximum.accumulate(chosen - np.arange(count)) + np.arange(count)
    return np.minimum(chosen, length - count + np.arange(count))


def path_of_states(
    states: np.ndarray, gripper_column: int | None = None, gripper_range: tuple[float, float] = (0.0, 1.0)
) -> np.ndarray:
    """Path (T, 3 or 4) of states (T, D): place [m], and the gripper's opening as a length.

    Args:
        states: one row per frame; the first three columns are the end effector's place.
        gripper_column: number of the gripper's column; None: unknown.
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


def clock_of(times: np.ndarray | None) -> np.ndarray | None:
    """Times (T,) in units of the mean interval of frames, from 0 on; None where frames are evenly spaced.

    Times that deviate from even ones by less than half a frame are put down to a camera's or a container's rounding.

    Args:
        times: (T,) when each frame was taken [s], never descending; None: evenly.
    """
    if times is None or len(times) < 3 or times[-1] <= times[0]:
        return None
    clock = (times - times[0]) * ((len(times) - 1) / (times[-1] - times[0]))
    return clock if np.abs(clock - np.arange(len(times))).max() > _JITTER else None


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


def plan_time(frames: np.ndarray, chosen: np.ndarray, clock: np.ndarray | None = None) -> np.ndarray:
    """Time in the plan, 0 to 1, of frames of the episode: a chosen frame has its cell's, the others are interpolated.

    Args:
        frames: numbers, not necessarily whole.
        chosen: as `choose_frames` gives them.
        clock: as `clock_of` gives it; None: frames are evenly spaced.
    """
    numbers, first = np.unique(chosen, return_index=True)
    if clock is not None:
        every = np.arange(len(clock))
        frames, numbers = np.interp(frames, every, clock), clock[numbers]
    return np.interp(frames, numbers, first / max(len(chosen) - 1, 1))


def _evenly(first: int, last: int, count: int, clock: np.ndarray | None) -> np.ndarray:
    if clock is None:
        return np.linspace(first, last, count).round().astype(int)
    span = clock[first : last + 1]
    return first + np.abs(span[:, None] - np.linspace(span[0], span[-1], count)).argmin(axis=0)


def _floor(motion: np.ndarray) -> float:
    """Change that is only camera noise: that of the quietest frames."""
    return float(np.percentile(motion[1:], 10)) if len(motion) > 1 else 0.0

"""How long the frames of a plan are shown, where they are not evenly spaced in time.

A plan whose frames lie where its path bends (`keyframe_choice`, rule "shape") does not say when they are. Nothing moves
fast far and slow near, so time is distributed as the distances are, for the eye as well as for an arm.
"""

import numpy as np

from .keyframe_choice import GRIPPER_LENGTH_M

LEAST_SHARE = 0.25
"""A frame is shown for at least this part of an even frame's time."""
PARTS = 8
"""A video of uneven frames has so many pictures for each frame of the plan."""


def shares_by_distance(keyframes: np.ndarray) -> np.ndarray:
    """Fractions (F,) of a plan's time for which each frame is shown, by the distance to the next one.

    Args:
        keyframes: (F, 4) x, y, z [m] and gripper [0..1]; a full opening counts as `GRIPPER_LENGTH_M`.
    """
    scaled = np.asarray(keyframes, dtype=np.float64) * (1.0, 1.0, 1.0, GRIPPER_LENGTH_M)
    return _shares(np.linalg.norm(np.diff(scaled, axis=0), axis=1))


def shares_by_change(frames: np.ndarray) -> np.ndarray:
    """The same by how much the pictures (F, h, w, 3) change, where nobody has read them."""
    pictures = np.asarray(frames, dtype=np.float32)
    return _shares(np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3)))


def repeats(shares: np.ndarray) -> np.ndarray:
    """Pictures (F,) of a video for each frame, 1 or more, `PARTS` times as many as frames in all."""
    wanted = np.asarray(shares) * PARTS * len(shares)
    counts = np.maximum(np.floor(wanted), 1).astype(int)
    missing = PARTS * len(shares) - int(counts.sum())
    order = np.argsort(counts - wanted, kind="stable")  # the most shortened first
    if missing > 0:
        counts[order[:missing]] += 1
    return counts


def _shares(lengths: np.ndarray) -> np.ndarray:
    """The last frame is shown as long as an even one."""
    count = len(lengths) + 1
    mean = lengths.mean() if len(lengths) and lengths.any() else 1.0
    relative = np.append(lengths / mean if len(lengths) and lengths.any() else np.ones(len(lengths)), 1.0)
    relative = np.maximum(relative, LEAST_SHARE)
    return relative / relative.sum() if count else relative

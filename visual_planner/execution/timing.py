"""How long each frame of a plan is shown if the frames are not evenly spaced in time.

A plan whose frames lie where its path bends (`keyframe_choice`, rule "shape") does not say when each one is
reached. Speeds vary little, so time is distributed in proportion to distance, for the eye as well as for an arm.
"""

import numpy as np

from .keyframe_choice import GRIPPER_LENGTH_M

LEAST_SHARE = 0.25
"""A frame is shown for at least this fraction of the time that it would have with even spacing."""
PARTS = 8
"""Mean number of pictures per frame of the plan in a video of unevenly spaced frames."""


def shares_by_distance(keyframes: np.ndarray) -> np.ndarray:
    """Fractions (F,) of a plan's time for which each frame is shown, by the distance to the next one.

    Args:
        keyframes: (F, 4) x, y, z [m] and gripper [0..1]; a full opening counts as `GRIPPER_LENGTH_M`.
    """
    scaled = np.asarray(keyframes, dtype=np.float64) * (1.0, 1.0, 1.0, GRIPPER_LENGTH_M)
    return _shares(np.linalg.norm(np.diff(scaled, axis=0), axis=1))


def shares_by_change(frames: np.ndarray) -> np.ndarray:
    """Fractions as in `shares_by_distance`, by how much the pictures (F, h, w, 3) change; needs no read-out."""
    pictures = np.asarray(frames, dtype=np.float32)
    return _shares(np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3)))


def repeats(shares: np.ndarray) -> np.ndarray:
    """Number of video pictures (F,) for each frame: at least 1 each, `PARTS` per frame on average."""
    wanted = np.asarray(shares) * PARTS * len(shares)
    counts = np.maximum(np.floor(wanted), 1).astype(int)
    missing = PARTS * len(shares) - int(counts.sum())
    order = np.argsort(counts - wanted, kind="stable")  # the most shortened first
    if missing > 0:
        counts[order[:missing]] += 1
    return counts


def _shares(lengths: np.ndarray) -> np.ndarray:
    """Normalise lengths to fractions; the last frame is shown as long as with even spacing."""
    count = len(lengths) + 1
    mean = lengths.mean() if len(lengths) and lengths.any() else 1.0
    relative = np.append(lengths / mean if len(lengths) and lengths.any() else np.ones(len(lengths)), 1.0)
    relative = np.maximum(relative, LEAST_SHARE)
    return relative / relative.sum() if count else relative

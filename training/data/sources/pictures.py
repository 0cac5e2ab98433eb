"""Single pictures in files or in memory → RGB arrays."""

from pathlib import Path

import numpy as np

from visual_planner import pictures

from ...errors import TrainingError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def read_picture(source: Path | bytes, what: str) -> np.ndarray:
    """Picture (H, W, 3) uint8; see `visual_planner.pictures` for orientation, transparency and depth.

    Args:
        source: a file, or a file's content.
        what: names it in messages.

    Raises:
        TrainingError: it is missing, truncated or no picture.
    """
    return pictures.read_picture(source, what, TrainingError)


def stack_frames(frames: list[np.ndarray], what: str) -> np.ndarray:
    """Frames (N, H, W, 3) of one size.

    Raises:
        TrainingError: sizes differ.
    """
    sizes = {frame.shape[:2] for frame in frames}
    if len(sizes) > 1:
        raise TrainingError(f"{what}: all frames must have one size (height, width), got {sorted(sizes)}")
    return np.stack(frames)

"""Single pictures in files or in memory -> RGB arrays."""

import io
from pathlib import Path
from typing import BinaryIO

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
    with _stream(source, what) as stream:
        return pictures.read_picture(stream, what, TrainingError)


def picture_size(source: Path, what: str) -> tuple[int, int]:
    """Size (h, w) of a picture in a file, from its header alone.

    Raises:
        TrainingError: it is missing or no picture.
    """
    with _stream(source, what) as stream:
        return pictures.picture_size(stream, what, TrainingError)


def _stream(source: Path | bytes, what: str) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    try:
        return source.open("rb")
    except FileNotFoundError as error:
        raise TrainingError(f"{what} does not exist") from error
    except (OSError, ValueError) as error:
        raise TrainingError(f"{what} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def stack_frames(frames: list[np.ndarray], what: str) -> np.ndarray:
    """Frames (N, H, W, 3) of one size.

    Raises:
        TrainingError: sizes differ.
    """
    sizes = {frame.shape[:2] for frame in frames}
    if len(sizes) > 1:
        raise TrainingError(f"{what}: all frames must have one size (height, width), got {sorted(sizes)}")
    return np.stack(frames)

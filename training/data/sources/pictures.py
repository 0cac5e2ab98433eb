"""Single pictures in files or in memory → RGB arrays."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import TrainingError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def read_picture(source: Path | bytes, what: str) -> np.ndarray:
    """Picture (H, W, 3) uint8.

    Args:
        source: a file, or a file's content.
        what: names it in messages.

    Raises:
        TrainingError: it is missing, truncated or no picture.
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise TrainingError(f"{what} cannot be read: {_reason(error)}") from error


def stack_frames(frames: list[np.ndarray], what: str) -> np.ndarray:
    """Frames (N, H, W, 3) of one size.

    Raises:
        TrainingError: sizes differ.
    """
    sizes = {frame.shape[:2] for frame in frames}
    if len(sizes) > 1:
        raise TrainingError(f"{what}: all frames must have one size (height, width), got {sorted(sizes)}")
    return np.stack(frames)


def _reason(error: Exception) -> str:
    # Pillow names memory addresses of streams, which say nothing
    text = str(error)
    return "not an image" if "cannot identify" in text else text

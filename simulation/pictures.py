"""Save a picture whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from .files import replacing


def save_picture(picture: np.ndarray, path: Path) -> None:
    """Write a picture (H, W, 3) uint8 as PNG, creating its folder.

    Raises:
        SimulationError: it cannot be written.
    """
    with replacing(path) as part:
        Image.fromarray(picture).save(part, format="PNG")

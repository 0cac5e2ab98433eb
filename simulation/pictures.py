"""Saving a picture: whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from .errors import SimulationError


def save_picture(picture: np.ndarray, path: Path) -> None:
    """Write a picture (H, W, 3) uint8 as PNG, making its folder.

    Raises:
        SimulationError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(part, format="PNG")
        part.replace(path)
    except OSError as error:
        raise SimulationError(f"{path} cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)

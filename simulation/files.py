"""Writing a text file: whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import SimulationError


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, making its folder.

    Raises:
        SimulationError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise SimulationError(f"{path} cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)

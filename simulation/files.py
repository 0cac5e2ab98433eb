"""Writing files and folders: whole, or not at all."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from .errors import SimulationError
from .shared import writing


def replacing(path: Path) -> AbstractContextManager[Path]:
    """A temporary file, renamed to `path` when the block ends well and removed when it does not; folders are made.

    Raises:
        SimulationError: it cannot be written.
    """
    return writing.replacing(path, SimulationError)


def new_folder(folder: Path) -> AbstractContextManager[Path]:
    """A temporary folder, renamed to `folder` when the block ends well and removed when it does not.

    Raises:
        SimulationError: it cannot be written.
    """
    return writing.new_folder(folder, SimulationError)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, making its folder.

    Raises:
        SimulationError: it cannot be written.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")

"""Write files and folders whole or not at all."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from .errors import SimulationError
from .shared import writing


def replacing(path: Path) -> AbstractContextManager[Path]:
    """A temporary file, renamed to `path` if the block succeeds and removed if it does not; folders are created.

    Raises:
        SimulationError: it cannot be written.
    """
    return writing.replacing(path, SimulationError)


def new_folder(folder: Path) -> AbstractContextManager[Path]:
    """A temporary folder, renamed to `folder` if the block succeeds and removed if it does not.

    Raises:
        SimulationError: it cannot be written.
    """
    return writing.new_folder(folder, SimulationError)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, creating its folder.

    Raises:
        SimulationError: it cannot be written.
    """
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")

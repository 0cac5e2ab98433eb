"""Folders of diffusers' parts: which class a part was saved from."""

from pathlib import Path

from ...errors import TrainingError
from ...files import read_json


def require_class(folder: Path, known: tuple[str, ...], what: str) -> str:
    """Name of the class that a part was saved from.

    Args:
        folder: folder of the part.
        known: possible classes; a configuration without a class counts as the first.
        what: the part, for messages.

    Raises:
        TrainingError: its config.json is missing or not JSON, or it is of another class.
    """
    name = read_json(folder / "config.json", f"{what}: configuration").get("_class_name", known[0])
    if name not in known:
        raise TrainingError(f"{what} must be of class {' or '.join(known)}, got {name}: {folder}")
    return name

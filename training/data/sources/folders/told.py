"""Assign instructions to episodes."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from visual_planner.errors import listed
from visual_planner.text import one_line

from ....errors import TrainingError
from ....files import read_text
from ..names import plain
from ..video import SUFFIXES


def text_of(texts: dict[str, str], name: str, item: str, beside: Iterable[Path]) -> str:
    """Instruction of an episode: from its line, a text file of its own, or the one that holds for all.

    Args:
        texts: instruction by name, see `read_instructions`.
        name: name of the episode: path of a folder or a video.
        item: path of its files below the source.
        beside: text files that would hold for this episode.

    Raises:
        TrainingError: the text file cannot be read.
    """
    for form in (name, item):
        for key in _forms(form):
            if key in texts:
                return texts[key]
    for file in beside:
        if file.is_file():
            return one_line(read_text(file, "instruction"))
    return texts.get("*", "")


def check_names(texts: dict[str, str], names: Iterable[str], folder: Path) -> None:
    """Check that every line names a file: a typo would lose an instruction.

    Raises:
        TrainingError: a line names no file.
    """
    known = {form for name in names for form in _forms(name)} | {"*"}
    unknown = [name for name in texts if name not in known]
    if unknown:
        raise TrainingError(
            f"instructions name {len(unknown)} files that do not exist in {folder}: {listed(unknown, 5)}"
        )


def names_hint(texts: dict[str, str], items: Iterable[str]) -> str:
    """What the lines name: "episodes" if whole items, "cameras" if the folders above them; "" if neither or both."""
    own = {form for item in items for form in _forms(item)}
    above = {form for item in items if "/" in item for form in _forms(item.rpartition("/")[0])}
    low, high = (any(without_suffix(name) in forms for name in texts) for forms in (own - above, above - own))
    return "" if low == high else "episodes" if low else "cameras"


def without_suffix(name: str) -> str:
    """A name without a video's suffix; dots in a folder's name are kept."""
    return name[: -len(end)] if (end := Path(name).suffix) and end.lower() in SUFFIXES else name


def _forms(name: str) -> Sequence[str]:
    """How lines may name something: by path or name, with or without the suffix."""
    name = plain(name)
    bare = without_suffix(name)
    return name, bare, name.rpartition("/")[2], bare.rpartition("/")[2]

"""Names of files and episodes: which files count, and ids that can be file names on every system."""

import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from visual_planner.errors import brief

from ...errors import TrainingError

_UNSAFE = re.compile(r"[^\w.-]+")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"Names that Windows reserves for devices, whatever their suffix."
_ID_BYTES = 150
"Longest id [bytes in UTF-8]: file systems allow names of 255 bytes, and suffixes are added."
_SYSTEM = ("__macosx", "@eadir", "$recycle.bin", "system volume information")
"Folders that operating systems and network storage add to the data."


def is_hidden(name: str) -> bool:
    """Whether a file or folder is not data: hidden, a `._` companion of macOS, or a folder of the system."""
    return name.startswith(".") or name.lower() in _SYSTEM


def visible_files(folder: Path, suffixes: Sequence[str] | None = None) -> list[Path]:
    """Files at any depth below a folder, in order of their paths; what is hidden is left out.

    Args:
        folder: where to look; links to folders are not followed.
        suffixes: endings in lower case, which match in either case; None takes every file.
    """
    found = []
    for home, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_hidden(name)]
        found += [Path(home, name) for name in files if not is_hidden(name)]
    return sorted(file for file in found if suffixes is None or file.suffix.lower() in suffixes)


def plain(name: str) -> str:
    """A name in the form in which tables and files are compared: composed Unicode, slashes, no leading `./`."""
    return unicodedata.normalize("NFC", name.strip()).replace("\\", "/").removeprefix("./").rstrip("/")


def safe_id(text: str) -> str:
    """A name that is a valid file name on every system: letters and digits of any script, dot, dash, underscore."""
    name = _UNSAFE.sub("_", unicodedata.normalize("NFC", text)).strip("._") or "episode"
    if _RESERVED.fullmatch(name):
        name = f"_{name}"
    return name if len(name.encode()) <= _ID_BYTES else _marked(name, text)


def unique_ids(names: Sequence[str]) -> list[str]:
    """`safe_id` of each name; names that would clash on a system that ignores case get a digest appended.

    An id depends only on the names that it would clash with, so that a growing data set keeps its ids.
    """
    ids = [safe_id(name) for name in names]
    alike: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(ids):
        alike[folded(name)].append(number)
    for numbers in (group for group in alike.values() if len(group) > 1):
        unchanged = [number for number in numbers if ids[number] == names[number]]
        for number in numbers:
            if unchanged != [number]:
                ids[number] = _marked(ids[number], names[number])
    return ids


def folded(name: str) -> str:
    """A name's key, equal for names that are one file on a system that ignores case and Unicode forms."""
    return unicodedata.normalize("NFKC", name).casefold()


def _marked(name: str, text: str) -> str:
    """An id cut to its length with eight digits of its name's digest."""
    digest = hashlib.sha256(os.fsencode(text)).hexdigest()[:8]
    return f"{name.encode()[: _ID_BYTES - 9].decode(errors='ignore')}-{digest}"


def named_file(folder: Path, name: str, suffix: str) -> Path:
    """File of an episode in a folder of `ID.suffix`: by its id, or by a name that gives this id; it may not exist."""
    direct = folder / f"{name}{suffix}"
    if direct.is_file() or not folder.is_dir():
        return direct
    alike = [
        file
        for file in sorted(folder.iterdir())
        if not is_hidden(file.name) and file.suffix.lower() == suffix and safe_id(file.stem) == name
    ]
    return alike[0] if len(alike) == 1 else direct


def inside(folder: Path, name: str, what: str) -> Path:
    """Path of a file that data names, which must lie in the data's own folder.

    Raises:
        TrainingError: it leads elsewhere, or the file does not exist.
    """
    try:
        path = (folder / name).resolve()
        exists = path.is_file()
    except (OSError, ValueError) as error:  # too long, or with a null character
        raise TrainingError(f"{what} must be the name of a file, got {brief(name)}") from error
    if not path.is_relative_to(folder.resolve()):
        raise TrainingError(f"{what} must lie in {folder}, got {brief(name)}")
    if not exists:
        raise TrainingError(f"{what} {path} does not exist")
    return path

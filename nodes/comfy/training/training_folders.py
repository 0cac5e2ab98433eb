"""Folders of trainings started from the graph: recipes, data sets and runs, in a ComfyUI folder that no route serves.

ComfyUI hides `user/__NAME` from every client of its server, so that only its owner controls recipes, which name files.
Everything that the nodes write lies here, except for the installed LoRA.
"""

import collections
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ....visual_planner.errors import PlannerError, brief, listed
from ....visual_planner.json_text import json_record
from ..lora import lora
from ..processes.beside import ROOT

BUILT_IN = lora.BUILT_IN
FROM_RECIPE = "from the recipe"
MANIFEST = Path("cache") / "manifest.json"
"""File in a data set's folder that marks a finished cache."""
_MADE, _INSTALLED = "made.json", "installed.json"
_NAME = re.compile(r"\w[\w.-]{0,63}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names of devices on Windows."""


class TrainingNodeError(PlannerError):
    """A training cannot be started as requested, or its LoRA cannot be installed."""


def root() -> Path:
    """The folder of trainings; subfolders are created when something is written."""
    import folder_paths

    return Path(folder_paths.get_system_user_directory("visual_planner")) / "training"


def plain_name(name: object, what: str) -> str:
    """Check a name that will be used for a folder and a file, on any system.

    Raises:
        TrainingNodeError: it is not a valid name, or could lead elsewhere; `what` names the input.
    """
    fits = isinstance(name, str) and _NAME.fullmatch(name) and not name.endswith(".") and not _RESERVED.fullmatch(name)
    if not fits:
        raise TrainingNodeError(
            f"{what} must be up to 64 letters, digits, dots, dashes and underscores that begin with a letter or digit "
            f"and end with no dot, got {brief(name)}"
        )
    return name


def recipes() -> dict[str, Path]:
    """Recipes that train a planner, by name: those that come with the plugin, then the user's own."""
    own = _with_training(root() / "recipes")
    shipped = _with_training(ROOT / "training" / "configs")
    return {**{f"{name}{BUILT_IN}": path for name, path in shipped.items()}, **own}


def _with_training(folder: Path) -> dict[str, Path]:
    found = {}
    for path in sorted(folder.glob("[!.]*.yaml")):
        with suppress(OSError):
            if re.search(rb"^train:", path.read_bytes(), re.MULTILINE):
                found[path.stem] = path
    return found


def recipe_file(name: object) -> Path:
    """File of a recipe in the list.

    Raises:
        TrainingNodeError: there is none of that name.
    """
    known = recipes()
    if not isinstance(name, str) or name not in known:
        raise TrainingNodeError(
            f"recipe must be one of {listed(known, 20)} (own ones are YAML files with a section train in "
            f"{root() / 'recipes'}), got {brief(name)}"
        )
    return known[name]


def data_names() -> list[str]:
    """Names of the finished data sets."""
    return sorted(path.parents[1].name for path in (root() / "data").glob(f"[!.]*/{MANIFEST.as_posix()}"))


def data_folder(name: object) -> Path:
    """Folder of a data set, which may not exist yet."""
    return root() / "data" / plain_name(name, "name of the data set")


def cache_of(name: object) -> Path | None:
    """Cache of a data set; None: those that the recipe names.

    Raises:
        TrainingNodeError: there is no finished data set of that name.
    """
    if name == FROM_RECIPE:
        return None
    if name not in (known := data_names()):
        raise TrainingNodeError(
            f"data must be {FROM_RECIPE!r} or one of {listed(known, 20) or 'none yet'}, got {brief(name)}"
        )
    return root() / "data" / name / MANIFEST.parent


def run_folder(name: object) -> Path:
    """Folder of a run, which may not exist yet."""
    return root() / "runs" / plain_name(name, "name of the planner")


def note_settings(folder: Path, settings: Mapping[str, object]) -> None:
    """Record the settings of a data set, or compare them with those that an earlier run of the node recorded.

    Raises:
        TrainingNodeError: it was made with other settings, or by hand.
    """
    file = folder / _MADE
    if not file.exists():
        if folder.exists() and any(folder.iterdir()):
            raise TrainingNodeError(f"data set {folder.name} was not made by this node: choose another name")
        _write(file, json.dumps(settings, indent=1).encode())
        return
    kept = json_record(file.read_bytes(), f"record {file}", TrainingNodeError)
    for key, value in settings.items():
        if kept.get(key) != value:
            raise TrainingNodeError(
                f"data set {folder.name} was made with {key} {brief(kept.get(key))} instead of "
                f"{brief(value)}: choose another name, or remove {folder}"
            )


def install(file: Path, run: Path) -> str:
    """Copy a run's LoRA into ComfyUI's loras folder, under the run's name, whole or not at all.

    A file of that name is replaced only if this run has installed it and it has not been changed since.

    Args:
        file: the LoRA.
        run: folder of the run.

    Returns:
        Its name in the loaders' lists.

    Raises:
        TrainingNodeError: another file has that name, or it cannot be written.
    """
    target = installed_file(run)
    data = file.read_bytes()
    try:
        own = check_free(run)
        if own and _digest(target.read_bytes()) == _digest(data):  # unchanged, so that loaders need not load it again
            return target.name
        _write(target, data, new=not own)
        _write(run / _INSTALLED, json.dumps({"sha256": _digest(data)}).encode())
    except FileExistsError as error:
        raise TrainingNodeError(f"{target} has just been written by another program: choose another name") from error
    except OSError as error:
        raise TrainingNodeError(f"{target} cannot be written: {error.strerror or error}") from error
    return target.name


def check_free(run: Path) -> bool:
    """Whether this run has installed a LoRA; False if there is none of its name.

    Raises:
        TrainingNodeError: another file has that name.
    """
    target = installed_file(run)
    if not target.exists():
        return False
    if _digest(target.read_bytes()) != _noted_digest(run):
        raise TrainingNodeError(
            f"{target} exists and is not what this run has installed: choose another name for the planner, or move "
            "that file"
        )
    return True


def installed_file(run: Path) -> Path:
    """Where the LoRA of a run is installed."""
    import folder_paths

    return Path(folder_paths.get_folder_paths("loras")[0]) / f"{run.name}.safetensors"


class Results:
    """What this server has finished, by name, so that a file that was removed or replaced later is noticed."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Path, int]] = {}
        self._lost: collections.Counter[str] = collections.Counter()

    def note(self, name: str, file: Path) -> None:
        """Record the file of a finished result."""
        self._known[name] = file, file.stat().st_mtime_ns

    def times_lost(self, name: str) -> int:
        """How often a finished result has been found missing or changed."""
        if name in self._known:
            file, changed = self._known[name]
            if not file.exists() or file.stat().st_mtime_ns != changed:
                del self._known[name]
                self._lost[name] += 1
        return self._lost[name]

    def fingerprint(self, recipe: str | None, name: str | None) -> tuple:
        """A value that changes with the recipe's file and when a finished result is lost; None: unknown input."""
        file = recipes().get(recipe) if recipe is not None else None
        return file.stat().st_mtime_ns if file is not None else 0, self.times_lost(name) if name is not None else 0


def _noted_digest(run: Path) -> object:
    file = run / _INSTALLED
    return json_record(file.read_bytes(), f"record {file}", TrainingNodeError).get("sha256") if file.exists() else None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_of(file: Path) -> str:
    """SHA-256 of a file's content."""
    return _digest(file.read_bytes())


def _write(target: Path, data: bytes, new: bool = False) -> None:
    """Write a file's content atomically.

    Raises:
        FileExistsError: it must be new, but exists.
        OSError: it cannot be written; it is unchanged.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        if new:
            _place(name, target)
        else:
            os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)


def _place(name: str, target: Path) -> None:
    """Rename without replacing; on a disk without hard links, existence is checked first."""
    try:
        os.link(name, target)
    except FileExistsError:
        raise
    except OSError:
        if target.exists():
            raise FileExistsError(str(target)) from None
        os.replace(name, target)

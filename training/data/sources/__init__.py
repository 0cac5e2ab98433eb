"""Episodes in the formats used in robotics: one module per format, one small interface (`base.Source`)."""

import re
from collections import Counter
from importlib import import_module
from pathlib import Path

from visual_planner.errors import brief

from ...errors import TrainingError
from .base import Entry, Source
from .names import visible_files

__all__ = ["FORMATS", "Entry", "Source", "detect_format", "open_source"]

FORMATS = {
    "lerobot": ("lerobot", "LeRobotSource"),
    "rlds": ("rlds", "RldsSource"),
    "videos": ("folders", "VideosSource"),
    "frames": ("folders", "FramesSource"),
    "grids": ("grids", "GridsSource"),
    "simulated": ("simulated", "SimulatedSource"),
}
"""Name of a format -> module and class, imported only when used since they load PyAV or pyarrow."""


HUB = "hf://"
_HUB = re.compile(r"hf:/{1,2}(.*)", re.DOTALL)
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def is_hub_id(text: str) -> bool:
    """Whether a text has the form OWNER/NAME of the Hugging Face hub."""
    return _HUB_ID.fullmatch(text) is not None


def hub_id(text: str) -> str | None:
    """OWNER/NAME of `hf://OWNER/NAME`, also if a path has dropped one slash; None for everything else.

    Raises:
        TrainingError: it begins with `hf:` but continues in another form.
    """
    found = _HUB.fullmatch(text)
    if found is None:
        return None
    if not is_hub_id(found[1]):
        raise TrainingError(f"source must read {HUB}OWNER/NAME, got {brief(text)}")
    return found[1]


def detect_format(path: Path) -> str:
    """Format of what lies at a path.

    Raises:
        TrainingError: no known format fits, or several do.
    """
    if path.is_file():
        if path.suffix.lower() == ".jsonl":
            return "grids"
        if ".tfrecord" in path.name:
            return "rlds"
    if not path.exists():
        hint = f" (for a data set on the Hugging Face hub: {HUB}{path.as_posix()})" if is_hub_id(str(path)) else ""
        raise TrainingError(f"source {path} does not exist{hint}")
    if (path / "dataset.json").is_file():
        return "simulated"
    if (path / "meta" / "info.json").is_file():
        return "lerobot"
    found = _readings(path)
    if not found:
        raise TrainingError(f"no known data format found in source {path}: it must be one of {', '.join(FORMATS)}")
    if len(found) > 1:
        held = "; ".join(f"{name} ({what})" for name, what in found.items())
        raise TrainingError(f"source {path} can be read as {held}: choose one with prepare.format")
    return next(iter(found))


def _readings(path: Path) -> dict[str, str]:
    """Formats that the files in a folder may be, with an example of each."""
    if not path.is_dir():
        return {}
    from . import grids, pictures, video
    from .rlds.source import shards_of

    found = {}
    files = visible_files(path)
    if shards := shards_of(path):
        found["rlds"] = f"such as {shards[0].relative_to(path)}"
    videos = [file for file in files if file.suffix.lower() in video.SUFFIXES]
    if videos:
        found["videos"] = f"{len(videos)}, such as {videos[0].relative_to(path)}"
    lines = grids.find_lines(path)
    if (
        lines is not None
        and lines.name.lower() not in ("instructions.jsonl", "metadata.jsonl")
        and grids.is_grids(lines)
    ):
        found["grids"] = lines.name
    # a picture named like a video is its thumbnail or its mask
    names = {file.stem for file in videos}
    held = [file for file in files if file.suffix.lower() in pictures.SUFFIXES and file.stem not in names]
    counts = Counter(file.parent for file in held)
    if counts and "grids" not in found and (not found or max(counts.values()) > 1):
        found["frames"] = f"{len(held)} pictures, such as {held[0].relative_to(path)}"
    return found


def open_source(
    path: str | Path,
    name: str = "auto",
    camera: str = "",
    instructions: Path | None = None,
    folders: str = "auto",
    strict: bool = True,
) -> Source:
    """Open episodes.

    Args:
        path: folder, file, or `hf://OWNER/NAME`, a LeRobot data set on the Hugging Face hub. A plain OWNER/NAME is
            looked for there only if the format is given as "lerobot".
        name: one of `FORMATS`, or "auto".
        camera: camera whose pictures are read; empty: the first.
        instructions: CSV, JSON lines or text with instructions, for folders of videos or frames.
        folders: as `prepare.folders`.
        strict: whether an episode that cannot be used is an error; otherwise its entry has a `problem`.

    Raises:
        TrainingError: the data cannot be used as given.
    """
    hub = hub_id(str(path))
    if hub is not None and name not in ("auto", "lerobot"):
        raise TrainingError(f"source {HUB}{hub} must be of format lerobot, got {name}")
    path = Path(path if hub is None else hub)
    name = "lerobot" if hub is not None else detect_format(path) if name == "auto" else name
    module, kind = FORMATS[name]
    if name != "lerobot" and not path.exists():
        raise TrainingError(f"source {path} does not exist")
    try:
        source_class = getattr(import_module(f".{module}", __name__), kind)
    except ModuleNotFoundError as error:
        raise TrainingError(f"format {name} needs the package {error.name}: pip install {error.name}") from error
    if module == "folders" and not path.is_dir():
        raise TrainingError(f"{name} data set {path} must be a folder")
    more = {"folders": folders} if module == "folders" else {}
    if name == "lerobot" and (hub is not None or (not path.exists() and is_hub_id(path.as_posix()))):
        from .lerobot.hub import fetch

        path = fetch(path.as_posix(), camera)
    source = source_class.open(path, camera, instructions, **more)
    if strict:
        source.check_entries()
    return source

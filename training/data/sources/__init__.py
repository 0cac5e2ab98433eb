"""Episodes in the formats that robot people have: a module a format, one small interface (`base.Source`)."""

from importlib import import_module
from pathlib import Path

from ...errors import TrainingError
from .base import Entry, Source

__all__ = ["FORMATS", "Entry", "Source", "detect_format", "open_source"]

FORMATS = {
    "lerobot": ("lerobot", "LeRobotSource"),
    "rlds": ("rlds", "RldsSource"),
    "videos": ("folders", "VideosSource"),
    "frames": ("folders", "FramesSource"),
    "grids": ("grids", "GridsSource"),
    "simulated": ("simulated", "SimulatedSource"),
}
"""Name of a format → module and class, imported when it is used: they load PyAV or pyarrow."""


def detect_format(path: Path) -> str:
    """Format of what lies at a path.

    Raises:
        TrainingError: nothing known does.
    """
    if path.is_file():
        if path.suffix == ".jsonl":
            return "grids"
        if ".tfrecord" in path.name:
            return "rlds"
    if not path.exists():
        if not path.is_absolute() and len(path.parts) == 2:
            return "lerobot"  # may be an id on the hub
        raise TrainingError(f"source {path} does not exist")
    if (path / "dataset.json").is_file():
        return "simulated"
    if (path / "meta" / "info.json").is_file():
        return "lerobot"
    suffixes = {suffix for file in path.rglob("*") if file.is_file() for suffix in file.suffixes[-1:]}
    if any(".tfrecord" in file.name for depth in ("*", "*/*", "*/*/*") for file in path.glob(depth)):
        return "rlds"
    from . import grids, pictures, video

    if suffixes & set(video.SUFFIXES):
        return "videos"
    lines = grids.find_lines(path)
    if lines is not None and lines.name not in ("instructions.jsonl", "metadata.jsonl"):
        return "grids"
    if suffixes & set(pictures.SUFFIXES):
        return "frames"
    raise TrainingError(f"no known data format found in source {path}: it must be one of {', '.join(FORMATS)}")


def open_source(path: str | Path, name: str = "auto", camera: str = "", instructions: Path | None = None) -> Source:
    """Open episodes.

    Args:
        path: folder, file, or id of a LeRobot data set on the Hugging Face hub.
        name: one of `FORMATS`, or "auto".
        camera: whose pictures; empty: the first.
        instructions: CSV, JSON lines or text with instructions, for folders of videos or frames.

    Raises:
        TrainingError: the data cannot be used as given.
    """
    path = Path(path)
    name = detect_format(path) if name == "auto" else name
    module, kind = FORMATS[name]
    if name != "lerobot" and not path.exists():
        raise TrainingError(f"source {path} does not exist")
    try:
        source_class = getattr(import_module(f".{module}", __name__), kind)
    except ModuleNotFoundError as error:
        raise TrainingError(f"format {name} needs the package {error.name}: pip install {error.name}") from error
    return source_class.open(path, camera, instructions)

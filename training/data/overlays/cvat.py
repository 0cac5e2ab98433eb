"""Paths that people drew in CVAT."""

import math
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from visual_planner.errors import TrajectoryError, brief, listed, plain
from visual_planner.trajectory.path import DrawnPath, Point
from visual_planner.trajectory.trajectory import Trajectory

from ...errors import TrainingError
from ...files import read_bytes
from ..choice.rules import clock_of, plan_time
from ..sources import Entry, Source
from ..sources.names import named_file, safe_id


@dataclass(frozen=True)
class _Part:
    """What a file has of one episode: its picture or None, its tracks, and the size (w, h) of its frames or None."""

    image: ElementTree.Element | None
    tracks: list[ElementTree.Element]
    size: tuple[float, float] | None


class CvatPaths:
    """CVAT XML 1.1, "for images" or "for video": one file, or EPISODE.xml in a folder.

    In one file an episode is found by the name of its image (EPISODE.png, or EPISODE/anything.png) or of its task; of
    a project with several tasks, only that task's tracks count. A polyline is a path without times; a track of points
    or boxes is a path with the times of its frames.
    """

    of_whole = False

    def __init__(self, data: Path, states: str) -> None:
        self.data = data
        self.root = None if data.is_dir() else read_xml(data)

    def __call__(self, source: Source, entry: Entry, chosen: np.ndarray, size: tuple[int, int]) -> Trajectory:
        """See `OverlayMaker`."""
        file = named_file(self.data, entry.id, ".xml") if self.root is None else self.data
        root = read_xml(file) if self.root is None else self.root
        part = _part(root, entry, file, self.root is None)
        paths, frame_size = [], part.size
        if part.image is not None:
            sides = (_number(part.image.get(side, default), f"image {side}", file) for side, default in
                     (("width", str(size[1])), ("height", str(size[0]))))  # fmt: skip
            frame_size = part.size or tuple(sides)
            for shape in part.image.findall("polyline"):
                paths.append(_untimed(shape.get("label", "gripper"), _points(shape, file)))
        clock = clock_of(source.times(entry)) if part.tracks else None
        for track in part.tracks:
            paths.append(_track(track, chosen, file, entry, clock))
        if not paths:
            raise TrainingError(f"annotations {file} contain no polyline and no track for episode {entry.id}")
        width, height = frame_size or (size[1], size[0])
        try:
            whole = Trajectory(round(width), round(height), tuple(paths))
            return whole.scaled(size[1], size[0])
        except TrajectoryError as error:
            raise TrainingError(f"annotations {file} of episode {entry.id}: {error}") from error


def _part(root: ElementTree.Element, entry: Entry, file: Path, alone: bool) -> _Part:
    """Find what belongs to an episode.

    Args:
        root: root element of the file.
        entry: the episode.
        file: name of the file, for messages.
        alone: whether the file is this episode's own.

    Raises:
        TrainingError: nothing does, or it cannot be distinguished from other tasks' shapes.
    """
    images = root.findall(".//image")
    tasks = root.findall(".//task")
    if alone and len(tasks) < 2:
        original = root.find(".//original_size")
        return _Part(images[0] if images else None, root.findall(".//track"), _size(original, file))
    named = [image for image in images if entry.id in _ids(image.get("name", ""), folder=True)]
    if len({image.get("task_id") for image in named}) > 1:
        raise TrainingError(
            f"annotations {file} must have one task with pictures of episode {entry.id}, got tasks "
            f"{listed(sorted({str(image.get('task_id')) for image in named}))}: export each task alone"
        )
    if named:
        return _Part(named[0], [], None)
    mine = [task for task in tasks if entry.id in _ids(task.findtext("name", "")) | _ids(task.findtext("source", ""))]
    if len(mine) != 1:
        found = "no image and no task" if not mine else f"{len(mine)} tasks"
        raise TrainingError(
            f"annotations {file} must have one task or image for episode {entry.id} ({entry.file}), got {found}"
        )
    tracks = root.findall(".//track")
    if len(tasks) > 1:
        if any(track.get("task_id") is None for track in tracks):
            raise TrainingError(
                f"annotations {file} have {len(tasks)} tasks, but a track does not say whose it is: export each alone"
            )
        number = mine[0].findtext("id", "")
        tracks = [track for track in tracks if track.get("task_id") == number]
    pictures = [image for image in images if image.get("task_id") in (None, mine[0].findtext("id", ""))]
    return _Part(pictures[0] if pictures else None, tracks, _size(mine[0].find(".//original_size"), file))


def _ids(name: str, folder: bool = False) -> set[str]:
    """Ids that an image or a task of this name stands for."""
    path = Path(name)
    return {safe_id(text) for text in (name, path.stem, *([path.parent.name] if folder else [])) if text}


def _size(original: ElementTree.Element | None, file: Path) -> tuple[float, float] | None:
    """Size (w, h) that a task's frames have [px]."""
    if original is None:
        return None
    width, height = (
        _number(original.findtext(side, ""), f"original_size {side}", file) for side in ("width", "height")
    )
    return width, height


def _number(text: str, what: str, file: Path) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1e6:
        raise TrainingError(f"annotations {file}: {what} must be a number of pixels, got {brief(text)}")
    return value


def read_xml(file: Path) -> ElementTree.Element:
    """Root of an XML file; document types, which could define entities without end, are refused.

    Raises:
        TrainingError: it is missing or is not such a file.
    """
    content = read_bytes(file, "annotations")
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise TrainingError(f"annotations {file} must not declare a document type")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(content, True)
        return builder.close()
    except (expat.ExpatError, AssertionError, LookupError, ValueError) as error:
        if isinstance(error, TrainingError):
            raise
        raise TrainingError(f"annotations {file} are not XML: {plain(str(error), 200)}") from error


def _points(shape: ElementTree.Element, file: Path) -> np.ndarray:
    """Places (N, 2) of a shape: its points, or the middle of a box."""
    try:
        if shape.tag == "box":
            left, top, right, bottom = (float(shape.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
            return np.array([[(left + right) / 2, (top + bottom) / 2]])
        places = [[float(value) for value in pair.split(",")] for pair in shape.attrib["points"].split(";")]
        points = np.array(places).reshape(-1, 2)
    except (KeyError, ValueError) as error:
        raise TrainingError(
            f"annotations {file}: a {shape.tag} has points that cannot be read: {plain(str(error), 150)}"
        ) from error
    if not np.isfinite(points).all():
        raise TrainingError(f"annotations {file}: a {shape.tag} must have finite points, got {points.tolist()[:3]}")
    return points


def _untimed(name: str, places: np.ndarray) -> DrawnPath:
    return DrawnPath(name, tuple(Point(x, y) for x, y in places.tolist()), "polyline")


def _track(
    track: ElementTree.Element, chosen: np.ndarray, file: Path, entry: Entry, clock: np.ndarray | None
) -> DrawnPath:
    """Path of a track: places by frame with times in the plan, or the polyline that it holds in one frame."""
    name = track.get("label", "gripper")
    what = f"annotations {file}: track {brief(name)}"
    shapes = [shape for shape in track if shape.tag in ("points", "polyline", "box") and shape.get("outside") != "1"]
    if lines := [shape for shape in shapes if shape.tag == "polyline"]:
        return _untimed(name, _points(lines[0], file))
    places = [(_frame(shape, what, entry), _points(shape, file)) for shape in shapes]
    if count := next((len(place) for _, place in places if len(place) != 1), 0):
        raise TrainingError(f"{what} must have one point per frame, got {count}: a path follows a single point")
    first, last = int(chosen[0]), int(chosen[-1])
    frames = np.array([frame for frame, _ in places], float)
    if len(frames) < 2:
        raise TrainingError(f"{what} must show at least 2 frames, got {len(frames)}")
    spots = np.concatenate([place for _, place in places])
    order = np.argsort(frames, kind="stable")
    frames, spots = frames[order], spots[order]
    wanted = np.unique(np.concatenate([[first, last], frames[(frames > first) & (frames < last)]]))
    held = np.stack([np.interp(wanted, frames, spots[:, axis]) for axis in (0, 1)], axis=1)
    times = plan_time(wanted, chosen, clock)
    return DrawnPath(
        name, tuple(Point(x, y, t) for (x, y), t in zip(held.tolist(), times.tolist(), strict=True)), "polyline"
    )


def _frame(shape: ElementTree.Element, what: str, entry: Entry) -> int:
    text = shape.get("frame", "0")
    if not text.isdecimal() or len(text) > 9 or int(text) >= entry.length:
        raise TrainingError(
            f"{what} must be at frames 0 to {entry.length - 1} of episode {entry.id} ({entry.file}), "
            f"got frame {brief(text)}"
        )
    return int(text)

"""Paths that people drew: trajectory JSON, or annotations of CVAT."""

from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np

from visual_planner.errors import TrajectoryError
from visual_planner.trajectory.parse import parse_trajectory
from visual_planner.trajectory.path import DrawnPath, Point
from visual_planner.trajectory.trajectory import Trajectory

from ...errors import TrainingError
from ...files import read_json_lines
from ..frame_choice import plan_time
from ..sources import Entry, Source
from ..sources.names import named_file, safe_id


class DrawnPaths:
    """Trajectory JSON: EPISODE.json in a folder, or lines `{"episode": ID, "trajectory": {...}}`.

    Raises:
        TrainingError: a line is broken, or an episode has two.
    """

    def __init__(self, data: Path, states: str) -> None:
        self.data = data
        self.lines: dict[str, object] | None = None
        if data.is_file():
            self.lines = {}
            for number, row in read_json_lines(data, "trajectories"):
                if not {"episode", "trajectory"} <= row.keys() or row["episode"] in self.lines:
                    raise TrainingError(f"trajectories {data} line {number} must have a new episode and its trajectory")
                self.lines[row["episode"]] = row["trajectory"]

    def __call__(self, source: Source, entry: Entry, chosen: np.ndarray, size: tuple[int, int]) -> Trajectory:
        """See `OverlayMaker`."""
        if self.lines is not None:
            where, text = f"{self.data} (episode {entry.id})", self.lines.get(entry.id)
        else:
            file = self.data / f"{entry.id}.json"
            where, text = str(file), file.read_text(encoding="utf-8") if file.is_file() else None
        if text is None:
            raise TrainingError(f"episode {entry.id} ({entry.file}) has no drawn path: {where} does not exist")
        try:
            trajectory = parse_trajectory(text, size[1], size[0])
        except TrajectoryError as error:
            raise TrainingError(f"drawn path {where}: {error}") from error
        return trajectory.scaled(size[1], size[0])


class CvatPaths:
    """CVAT XML 1.1, "for images" or "for video": one file, or EPISODE.xml in a folder.

    In one file an episode is found by the name of its image (EPISODE.png, or EPISODE/anything.png) or of its task. A
    polyline is a path without times; a track of points or boxes is a path with the times of its frames.
    """

    def __init__(self, data: Path, states: str) -> None:
        self.data = data
        self.root = None if data.is_dir() else read_xml(data)

    def __call__(self, source: Source, entry: Entry, chosen: np.ndarray, size: tuple[int, int]) -> Trajectory:
        """See `OverlayMaker`."""
        file = self.data / f"{entry.id}.xml" if self.root is None else self.data
        root = read_xml(file) if self.root is None else self._part(entry)
        images = root.findall(".//image") if root.tag != "image" else [root]
        paths, frame_size = [], None
        for image in images[:1]:
            frame_size = float(image.get("width", size[1])), float(image.get("height", size[0]))
            for shape in image.findall("polyline"):
                paths.append(_untimed(shape.get("label", "gripper"), _points(shape, file)))
        for track in root.findall(".//track"):
            paths.append(_track(track, chosen, file))
        if not paths:
            raise TrainingError(f"annotations {file} contain no polyline and no track for episode {entry.id}")
        original = root.find(".//original_size")
        if original is not None:
            frame_size = float(original.findtext("width", "0")), float(original.findtext("height", "0"))
        width, height = frame_size or (size[1], size[0])
        try:
            whole = Trajectory(round(width), round(height), tuple(paths))
            return whole.scaled(size[1], size[0])
        except TrajectoryError as error:
            raise TrainingError(f"annotations {file} of episode {entry.id}: {error}") from error

    def _part(self, entry: Entry) -> ElementTree.Element:
        for image in self.root.findall("image"):
            name = Path(image.get("name", ""))
            if entry.id in (safe_id(name.stem), safe_id(name.parent.name)):
                return image
        if safe_id(Path(self.root.findtext(".//task/name", "")).stem) == entry.id:
            return self.root
        raise TrainingError(f"annotations {self.data} have no image and no task for episode {entry.id} ({entry.file})")


def read_xml(file: Path) -> ElementTree.Element:
    """Root of an XML file; document types, which could define entities without end, are refused.

    Raises:
        TrainingError: it is missing or is not such a file.
    """
    if not file.is_file():
        raise TrainingError(f"annotations {file} do not exist")
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise TrainingError(f"annotations {file} must not declare a document type")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(file.read_bytes(), True)
        return builder.close()
    except (expat.ExpatError, AssertionError) as error:
        raise TrainingError(f"annotations {file} are not XML: {error}") from error


def _points(shape: ElementTree.Element, file: Path) -> np.ndarray:
    """Places (N, 2) of a shape: its points, or the middle of a box."""
    try:
        if shape.tag == "box":
            left, top, right, bottom = (float(shape.attrib[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
            return np.array([[(left + right) / 2, (top + bottom) / 2]])
        places = [[float(value) for value in pair.split(",")] for pair in shape.attrib["points"].split(";")]
        return np.array(places).reshape(-1, 2)
    except (KeyError, ValueError) as error:
        raise TrainingError(f"annotations {file}: a {shape.tag} has points that cannot be read: {error}") from error


def _untimed(name: str, places: np.ndarray) -> DrawnPath:
    return DrawnPath(name, tuple(Point(x, y) for x, y in places.tolist()), "polyline")


def _track(track: ElementTree.Element, chosen: np.ndarray, file: Path) -> DrawnPath:
    """Path of a track: places by frame with times in the plan, or the polyline that it holds in one frame."""
    name = track.get("label", "gripper")
    shapes = [shape for shape in track if shape.tag in ("points", "polyline", "box") and shape.get("outside") != "1"]
    places = [(int(shape.get("frame", "0")), _points(shape, file)) for shape in shapes]
    lines = [place for _, place in places if len(place) > 1]
    if lines:
        return _untimed(name, lines[0])
    first, last = int(chosen[0]), int(chosen[-1])
    frames = np.array([frame for frame, _ in places], float)
    if len(frames) < 2:
        raise TrainingError(f"annotations {file}: track {name!r} must show at least 2 frames, got {len(frames)}")
    spots = np.concatenate([place for _, place in places])
    order = np.argsort(frames, kind="stable")
    frames, spots = frames[order], spots[order]
    wanted = np.unique(np.concatenate([[first, last], frames[(frames > first) & (frames < last)]]))
    held = np.stack([np.interp(wanted, frames, spots[:, axis]) for axis in (0, 1)], axis=1)
    times = plan_time(wanted, chosen)
    return DrawnPath(
        name, tuple(Point(x, y, t) for (x, y), t in zip(held.tolist(), times.tolist(), strict=True)), "polyline"
    )

"""Trajectories from and for other tools: tracks as tensors, normalised coordinates, CVAT, KJNodes.

JSON in pixels is read by `trajectory.parse_trajectory`; this module has what needs more than that. Coordinates are
pixels of the first frame unless a function says otherwise.
"""

import json
from collections.abc import Mapping
from xml.parsers import expat

import numpy as np
import torch

from ..errors import TrajectoryError, brief, listed
from ..grid.layout import whole_number
from .parse import parse_trajectory
from .path import DrawnPath, Point
from .trajectory import Trajectory

_NUMBER_LENGTH = 100
_COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f")


def read_text(text: str, width: int | None = None, height: int | None = None, normalised: bool = False) -> Trajectory:
    """Trajectory from text: CVAT XML, or any JSON that `parse_trajectory` reads.

    Python lists, with single quotes, are read as well: several packs write their tracks that way.

    Args:
        text: the text.
        width: width of the frame [px], for forms that do not say it.
        height: height of the frame [px], likewise.
        normalised: coordinates are fractions of the frame, 0 to 1.

    Raises:
        TrajectoryError: it cannot be read; the message says where.
    """
    if text.lstrip().startswith("<"):
        return read_cvat(text)
    if '"' not in text:
        text = text.replace("'", '"')
    if not normalised:
        return parse_trajectory(text, width, height)
    if width is None or height is None:
        raise TrajectoryError("normalised coordinates need the size of the frame: width and height must be given")
    return _spread(parse_trajectory(text, 1, 1), width, height)


def _spread(unit: Trajectory, width: int, height: int) -> Trajectory:
    outside = [point for path in unit.paths for point in path.points if not (0 <= point.x <= 1 and 0 <= point.y <= 1)]
    if outside:
        raise TrajectoryError(
            f"normalised coordinates must be between 0 and 1, got ({outside[0].x:g}, {outside[0].y:g}): "
            "are these pixels?"
        )
    return unit.transformed(width, height, 0.0, 0.0, width, height)


def read_track_tensors(tracks: object, width: int, height: int) -> Trajectory:
    """Trajectory from tracked points: one place per frame, joined by straight lines.

    Args:
        tracks: (T, N, 2) [px], or ComfyUI's TRACKS: `{"track_path": (T, N, 2), "track_visibility": (T, N)}`. Times at
            which a point is not visible (false, or a number up to 0.5) are left out; a point that is seen less than
            twice gives no path.
        width: width of the frame [px].
        height: height of the frame [px].

    Raises:
        TrajectoryError: another shape, values that are not finite, or no point that is seen twice.
    """
    visible = None
    if isinstance(tracks, Mapping):
        if "track_path" not in tracks:
            raise TrajectoryError(f'tracks must have a "track_path", got {listed(tracks) or "nothing"}')
        tracks, visible = tracks["track_path"], tracks.get("track_visibility")
    places = _numbers(tracks, "tracks")
    if places.ndim != 3 or places.shape[2] != 2 or places.shape[0] < 2 or places.shape[1] < 1:
        raise TrajectoryError(f"tracks must have shape (frames, points, 2), at least 2 frames, got {places.shape}")
    seen = np.ones(places.shape[:2], dtype=bool) if visible is None else _numbers(visible, "track_visibility") > 0.5
    if seen.shape != places.shape[:2]:
        raise TrajectoryError(f"track_visibility must have shape {places.shape[:2]}, got {seen.shape}")
    times = np.linspace(0.0, 1.0, len(places))
    names = ["gripper"] + [f"path {number}" for number in range(2, places.shape[1] + 1)]
    paths = [
        DrawnPath.from_array(np.column_stack([places[keep, point], times[keep]]).tolist(), names[point])
        for point, keep in enumerate(seen.T)
        if keep.sum() > 1
    ]
    if not paths:
        raise TrajectoryError("tracks must have a point that is visible in at least 2 frames, got none")
    return Trajectory(width, height, tuple(paths))


def _numbers(values: object, name: str) -> np.ndarray:
    """Numbers of a tensor (of any dtype and device, with gradients or not) or an array as float64."""
    if isinstance(values, torch.Tensor):
        return values.detach().to("cpu", torch.float64).numpy()
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise TrajectoryError(f"{name} must be numbers, got {brief(values)}") from None


def write_track_tensors(trajectory: Trajectory, frames: int) -> dict[str, torch.Tensor]:
    """ComfyUI's TRACKS: `track_path` (frames, paths, 2) float32 [px] and `track_visibility` (frames, paths) bool."""
    places = torch.from_numpy(trajectory.resample(frames)).to(torch.float32)
    size = torch.tensor([trajectory.width, trajectory.height])
    return {"track_path": places, "track_visibility": ((places >= 0) & (places <= size)).all(dim=-1)}


def write_points_store(trajectory: Trajectory) -> str:
    """State of KJNodes' spline editor (`points_store`): control points, without times.

    A path that stays at one place becomes a single point.
    """
    splines = []
    for number, path in enumerate(trajectory.paths):
        points = [{"x": p.x, "y": p.y} for p in path.points]
        spline: dict = {"points": points, "color": _COLORS[number % len(_COLORS)], "name": path.name}
        if path.length == 0.0:
            spline |= {"points": points[:1], "isSinglePoint": True}
        splines.append(spline)
    return json.dumps(splines, separators=(",", ":"))


def read_cvat(xml: str) -> Trajectory:
    """Trajectory from "CVAT for images" or "CVAT for video" XML: its polylines, in the order of the file.

    Every polyline that is drawn on the first annotated picture is a path, joined by straight lines, named after its
    label. In a video's tracks it is the polyline of the track's first frame.

    Raises:
        TrajectoryError: not XML, a document type or entities (never needed, and a way to attack a reader), no size,
            no polyline, or points that are not `x,y;x,y`.
    """
    reader = _CvatReader()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.EntityDeclHandler = reader.refuse
    try:
        parser.Parse(xml, True)
    except expat.ExpatError as error:
        raise TrajectoryError(
            f"CVAT file must be XML, but line {error.lineno} column {error.offset + 1} cannot be read: "
            f"{expat.ErrorString(error.code)}"
        ) from None
    except UnicodeEncodeError:
        raise TrajectoryError("CVAT file must be XML, but it holds half a surrogate pair") from None
    if reader.size is None:
        raise TrajectoryError("CVAT file must say the size of its picture (image width/height, or original_size)")
    if not reader.paths:
        raise TrajectoryError("CVAT file must hold a polyline, got none")
    return Trajectory(*reader.size, tuple(reader.paths))


class _CvatReader:
    """Collects from the parser's events the sizes and the polylines of the first picture."""

    def __init__(self) -> None:
        self.size: tuple[int, int] | None = None
        self.paths: list[DrawnPath] = []
        self._images = 0  # finished pictures that held a polyline
        self._label: str | None = None
        self._track_done = False
        self._text = ""
        self._original: dict[str, int] = {}
        self._inside: list[str] = []
        self._tasks: set[str | None] = set()

    def refuse(self, *_: object) -> None:
        raise TrajectoryError("CVAT file must not have a document type or entities, got one that has")

    def characters(self, text: str) -> None:
        # Only a number is needed; collecting all text would be slow on a file full of line breaks.
        if self._inside[-2:-1] == ["original_size"] and len(self._text) < _NUMBER_LENGTH:
            self._text += text[:_NUMBER_LENGTH]

    def start(self, name: str, values: dict[str, str]) -> None:
        self._text = ""
        self._inside.append(name)
        if name in ("image", "track"):
            self._of_one_task(values.get("task_id"))
        if name == "image":
            if not self.paths:
                self.size = tuple(_pixels(values.get(side), f"image {side}") for side in ("width", "height"))
        elif name == "track":
            self._label, self._track_done = values.get("label", "path"), False
        elif name == "polyline" and not self._skipped():
            label = self._label or values.get("label") or "path"
            self.paths.append(DrawnPath(label, _cvat_points(values.get("points", ""), label), "polyline"))
            self._track_done = True

    def _of_one_task(self, task: str | None) -> None:
        """Shapes of a project's other tasks belong to other videos."""
        self._tasks.add(task)
        if len(self._tasks) > 1:
            raise TrajectoryError(
                f"CVAT file must be the export of one task, got shapes of tasks {listed(sorted(map(str, self._tasks)))}"
            )

    def end(self, name: str) -> None:
        self._inside.pop()
        if name in ("width", "height") and self._inside[-1:] == ["original_size"]:
            self._original[name] = _pixels(self._text, f"original_size {name}")
            if len(self._original) == 2:
                self.size = self._original["width"], self._original["height"]
        elif name == "track":
            self._label = None
        elif name == "image" and self.paths:
            self._images += 1

    def _skipped(self) -> bool:
        """Whether a polyline belongs to a later frame of its track, or to a later picture."""
        return self._track_done if self._label is not None else self._images > 0


def _pixels(text: str | None, name: str) -> int:
    try:
        return whole_number(int(text or ""), f"CVAT {name}", error=TrajectoryError)
    except ValueError:
        raise TrajectoryError(f"CVAT {name} must be a positive whole number of pixels, got {brief(text)}") from None


def _cvat_points(text: str, label: str) -> tuple[Point, ...]:
    points = []
    for number, pair in enumerate(text.split(";"), 1):
        try:
            x, y = map(float, pair.split(","))
        except ValueError:
            raise TrajectoryError(
                f"CVAT polyline {brief(label)}, point {number} must be x,y, got {brief(pair)}"
            ) from None
        points.append(Point(x, y))
    return tuple(points)

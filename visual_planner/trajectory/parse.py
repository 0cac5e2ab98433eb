"""Reading trajectories: JSON v1 and the forms of other node packs.

Forms:
- v1: the object described in `trajectory`. Unknown keys are refused, so that a typo does not go unnoticed.
- Tracks, `[{"x": 12, "y": 340}, ...]` or a list of such lists (KJNodes, ATI, WanTrackToVideo), also with
  `[x, y]` or `[x, y, t]` for a point: one place per even step of time, joined by straight lines. Among several tracks,
  one of a single point is a hold. A point at (-100, -100) is not seen at its time (CoTracker's node): it is left out.
- A list of texts, each the JSON of one track (CoTracker's node).
- What ATI's trajectory editor sends: `{"tracks": [...], "circle_trajectories": [...], ...}`, lists of tracks.
- KJNodes' spline editor (`points_store`): `[{"points": [...], "name": .., "color": .., "isSinglePoint": ..}, ...]`:
  control points of splines without times; Bezier handles are left out. A single point is a hold.
"""

from collections.abc import Callable

from ..errors import TrajectoryError, brief, listed
from ..json_text import json_value
from .path import MAX_POINTS, DrawnPath, Point
from .trajectory import VERSION, Trajectory

_V1_KEYS = ("version", "width", "height", "paths")
_PATH_KEYS = ("name", "points", "interpolation")
_POINT_KEYS = ("x", "y", "t")
_NOT_SEEN = (-100.0, -100.0)
_FORMS = 'trajectory JSON v1 {"version": 1, "width": .., "height": .., "paths": [..]} or a list of {"x": .., "y": ..}'


def parse_trajectory(source: object, width: int | None = None, height: int | None = None) -> Trajectory:
    """Read a trajectory from JSON text or from the object that the text stands for.

    Args:
        source: trajectory JSON v1, or a form of other packs (see above).
        width: width of the frame [px], for forms without a size; a v1 record's own size wins.
        height: height of the frame [px], likewise.

    Raises:
        TrajectoryError: it cannot be read; the message says where.
    """
    if isinstance(source, Trajectory):
        return source
    if isinstance(source, str | bytes | bytearray):
        source = _load(source)
    if isinstance(source, dict) and "version" not in source and isinstance(source.get("tracks"), list):
        source = _ati_tracks(source)
    if isinstance(source, dict):
        return _version_1(source, width, height)
    if isinstance(source, list | tuple):
        paths = _peer_paths(source)
        if width is None or height is None:
            raise TrajectoryError(
                "this form of trajectory does not define its frame size: width and height must be given"
            )
        return Trajectory(width, height, paths)
    raise TrajectoryError(f"trajectory must be {_FORMS}, got {type(source).__name__}")


def _load(text: str | bytes | bytearray, what: str = "trajectory") -> object:
    try:
        text = text if isinstance(text, str) else bytes(text).decode("utf-8")
    except UnicodeDecodeError as error:
        raise TrajectoryError(
            f"{what} must be UTF-8 text, got byte 0x{error.object[error.start]:02x} at {error.start}"
        ) from None
    if not text.strip():
        raise TrajectoryError(f"{what} must be {_FORMS}, got empty text")
    return json_value(text, what, TrajectoryError)


def _version_1(record: dict, width: int | None, height: int | None) -> Trajectory:
    if "positive" in record and "paths" not in record:
        raise TrajectoryError("trajectory must be paths, got the positive and negative points of a points editor")
    _known_keys(record, _V1_KEYS, "trajectory")
    if record.get("version") != VERSION or isinstance(record["version"], bool):
        raise TrajectoryError(f'trajectory "version" must be {VERSION}, got {brief(record.get("version"))}')
    paths = record.get("paths")
    if not isinstance(paths, list | tuple) or not paths:
        raise TrajectoryError(f'trajectory "paths" must be a list of at least one path, got {brief(paths)}')
    width = _side(record.get("width", width))
    height = _side(record.get("height", height))
    if width is None or height is None:
        raise TrajectoryError('trajectory must have a "width" and a "height", the size of its frame in pixels')
    return Trajectory(width, height, tuple(_v1_path(path, number) for number, path in enumerate(paths, 1)))


def _side(value: object) -> object:
    """A side of the frame; JSON does not distinguish 64 from 64.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _v1_path(record: object, number: int) -> DrawnPath:
    if not isinstance(record, dict):
        raise TrajectoryError(f'trajectory path {number} must be an object with "points", got {brief(record)}')
    _known_keys(record, _PATH_KEYS, f"trajectory path {number}")
    name = record.get("name", "gripper" if number == 1 else f"path {number}")
    points = _points(record.get("points"), name, _v1_point)
    return DrawnPath(name, points, record.get("interpolation", "spline"))


def _v1_point(record: object) -> Point:
    if not isinstance(record, dict):
        raise TrajectoryError(f'a point must be {{"x": .., "y": ..}}, got {brief(record)}')
    _known_keys(record, _POINT_KEYS, "a point")
    return _peer_point(record)


def _peer_paths(items: list | tuple) -> tuple[DrawnPath, ...]:
    """Paths of a list in one of the other packs' forms."""
    if not items:
        raise TrajectoryError("trajectory must have at least one path, got an empty list")
    names = ["gripper"] + [f"path {number}" for number in range(2, len(items) + 1)]
    if all(isinstance(item, dict) and "points" in item for item in items):
        return tuple(_editor_path(item, item.get("name") or name) for item, name in zip(items, names, strict=True))
    if all(isinstance(item, str) for item in items):
        items = [_load(item, f"track {number}") for number, item in enumerate(items, 1)]
    elif _is_point(items[0]):
        return (_track(items, "gripper"),)
    if all(isinstance(item, list | tuple) for item in items):
        return tuple(_track(item, name, len(items) > 1) for item, name in zip(items, names, strict=True))
    raise TrajectoryError(f"trajectory must be {_FORMS}, got a list that starts with {brief(items[0])}")


def _editor_path(record: dict, name: str) -> DrawnPath:
    points = _points(record["points"], name, _peer_point)
    return DrawnPath(name, _hold(points[0]) if record.get("isSinglePoint") and len(points) == 1 else points, "spline")


def _track(items: list | tuple, name: str, among_others: bool = False) -> DrawnPath:
    points = _points(items, name, _peer_point)
    if len(points) > 1 and all(point.t is None for point in points):
        last = len(points) - 1
        points = tuple(Point(point.x, point.y, index / last) for index, point in enumerate(points))
    seen = tuple(point for point in points if (point.x, point.y) != _NOT_SEEN)
    if points and not seen:
        raise TrajectoryError(f"path {brief(name)} must have a visible point, but all are at (-100, -100)")
    return DrawnPath(name, _hold(seen[0]) if len(seen) == 1 and among_others else seen, "polyline")


def _hold(point: Point) -> tuple[Point, Point]:
    return Point(point.x, point.y, 0.0), Point(point.x, point.y, 1.0)


def _ati_tracks(record: dict) -> list:
    circles = record.get("circle_trajectories", [])
    if not isinstance(circles, list):
        raise TrajectoryError(f'"circle_trajectories" must be a list of tracks, got {brief(circles)}')
    return record["tracks"] + circles


def _points(records: object, name: str, read: Callable[[object], Point]) -> tuple[Point, ...]:
    if not isinstance(records, list | tuple):
        raise TrajectoryError(f'path {brief(name)}: "points" must be a list of points, got {brief(records)}')
    if len(records) > MAX_POINTS:
        raise TrajectoryError(f"path {brief(name)} must have at most {MAX_POINTS} points, got {len(records)}")
    points = []
    for number, record in enumerate(records, 1):
        try:
            points.append(read(record))
        except TrajectoryError as error:
            raise TrajectoryError(f"path {brief(name)}, point {number}: {error}") from None
    return tuple(points)


def _peer_point(record: object) -> Point:
    if isinstance(record, dict):
        if lacking := [key for key in ("x", "y") if key not in record]:
            raise TrajectoryError(f'a point must have "x" and "y", got one without {" and ".join(lacking)}')
        return Point(record["x"], record["y"], record.get("t"))
    if isinstance(record, list | tuple) and len(record) in (2, 3):
        return Point(*record)
    raise TrajectoryError(f'a point must be {{"x": .., "y": ..}}, [x, y] or [x, y, t], got {brief(record)}')


def _is_point(item: object) -> bool:
    if isinstance(item, dict):
        return True
    return isinstance(item, list | tuple) and len(item) > 0 and not isinstance(item[0], list | tuple | dict)


def _known_keys(record: dict, known: tuple[str, ...], where: str) -> None:
    if unknown := [key for key in record if key not in known]:
        raise TrajectoryError(f"{where} has unknown keys: {listed(unknown)}; known are {', '.join(known)}")

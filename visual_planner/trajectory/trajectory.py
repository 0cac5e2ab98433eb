"""Trajectories: paths drawn on the first frame that say where something should go, and when.

Coordinates are pixels of one frame, continuous, origin in the top-left corner (the first pixel's centre is (0.5,
0.5)). Times run from 0 (first frame of the plan) to 1 (last frame). The form on disk is "trajectory JSON v1":
`{"version": 1, "width": W, "height": H, "paths": [{"name": "gripper", "points": [{"x": .., "y": .., "t": ..}],
"interpolation": "spline"}]}` with optional `t`; `parse_trajectory` also reads the forms of other node packs.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ..errors import TrajectoryError, brief
from ..grid.frame import fit_transform
from ..grid.layout import whole_number
from .curves import cut_to_frame
from .path import MAX_POINTS, DrawnPath, Point

CLIP_RULES = ("error", "clamp", "cut")
"""error: refuse points outside the frame; clamp: move them to the nearest edge; cut: keep what lies inside."""
VERSION = 1
MAX_SIDE_PX, MAX_PATHS = 2**20, 4096
"""Largest side of a frame [px] and most paths on it."""


@dataclass(frozen=True)
class Trajectory:
    """Paths on a frame of a given size.

    Args:
        width: width of the frame [px].
        height: height of the frame [px].
        paths: one or more paths.

    Raises:
        TrajectoryError: no path, more than `MAX_PATHS` or `MAX_POINTS` in all, or a size that is not a whole number
            from 1 to `MAX_SIDE_PX`.
    """

    width: int
    height: int
    paths: tuple[DrawnPath, ...]

    def __post_init__(self) -> None:
        for side in ("width", "height"):
            value = whole_number(getattr(self, side), f"trajectory {side}", 1, TrajectoryError, MAX_SIDE_PX)
            object.__setattr__(self, side, value)
        object.__setattr__(self, "paths", tuple(self.paths))
        points = sum(len(path.points) for path in self.paths)
        if len(self.paths) > MAX_PATHS or points > MAX_POINTS:
            raise TrajectoryError(
                f"trajectory must have at most {MAX_PATHS} paths and {MAX_POINTS} points, got {len(self.paths)} paths "
                f"and {points} points"
            )
        if not self.paths:
            raise TrajectoryError("trajectory must have at least one path, got none")

    def to_dict(self) -> dict:
        """Plain object of trajectory JSON v1."""
        return {
            "version": VERSION,
            "width": self.width,
            "height": self.height,
            "paths": [
                {
                    "name": path.name,
                    "points": [
                        {"x": p.x, "y": p.y} if p.t is None else {"x": p.x, "y": p.y, "t": p.t} for p in path.points
                    ],
                    "interpolation": path.interpolation,
                }
                for path in self.paths
            ],
        }

    def to_json(self, indent: int | None = None) -> str:
        """Trajectory JSON v1; `parse_trajectory` gives an equal trajectory back."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def to_track_json(self, n: int) -> str:
        """Tracks for other node packs: `[{"x":12,"y":340},...]`, one whole-pixel place per frame.

        Several paths give a list of such lists.
        """
        tracks = [[{"x": round(x), "y": round(y)} for x, y in path.resample(n).tolist()] for path in self.paths]
        return json.dumps(tracks[0] if len(tracks) == 1 else tracks, separators=(",", ":"))

    def resample(self, n: int, by: str = "time") -> np.ndarray:
        """Places of every path, (n, paths, 2) float64 [px]; see `DrawnPath.resample`."""
        return np.stack([path.resample(n, by) for path in self.paths], axis=1)

    def transformed(
        self, scale_x: float, scale_y: float, offset_x: float, offset_y: float, width: int, height: int
    ) -> "Trajectory":
        """The same paths on another frame: `x * scale_x + offset_x` and so on; see `frame.fit_transform`."""
        return self._mapped(
            lambda p: Point(p.x * scale_x + offset_x, p.y * scale_y + offset_y, p.t), width=width, height=height
        )

    def scaled(self, width: int, height: int) -> "Trajectory":
        """The same paths on a frame of another size."""
        width = whole_number(width, "trajectory width", 1, TrajectoryError, MAX_SIDE_PX)
        height = whole_number(height, "trajectory height", 1, TrajectoryError, MAX_SIDE_PX)
        return self.transformed(width / self.width, height / self.height, 0.0, 0.0, width, height)

    def fitted(self, height: int, width: int, fit: str = "letterbox") -> "Trajectory":
        """The same paths on a frame that `frame.fit_frame` makes of this one.

        Args:
            height: height of that frame [px].
            width: width of that frame [px].
            fit: one of `frame.FITS`.

        Raises:
            ImageError: a size is not positive; unknown `fit`.
        """
        if (height, width) == (self.height, self.width):
            return self
        return self.transformed(*fit_transform((self.height, self.width), (height, width), fit), width, height)

    def clipped(self, rule: str = "error") -> "Trajectory":
        """Apply a rule to control points outside the frame, which is [0, width] x [0, height] with its edges.

        Args:
            rule: one of `CLIP_RULES`. Paths whose points all lie inside are left as they are by every rule. "cut" keeps
                the time of every piece; a path that leaves and returns becomes several polylines.

        Raises:
            TrajectoryError: rule "error" and a point outside; rule "cut" and a path wholly outside; unknown rule.
        """
        if rule not in CLIP_RULES:
            raise TrajectoryError(f"clip rule must be one of {', '.join(CLIP_RULES)}, got {brief(rule)}")
        if rule == "clamp":
            return self._mapped(lambda p: Point(min(max(p.x, 0.0), self.width), min(max(p.y, 0.0), self.height), p.t))
        paths: list[DrawnPath] = []
        for path in self.paths:
            outside = next((n for n, p in enumerate(path.points, 1) if not self._contains(p)), None)
            if outside is None:
                paths.append(path)
            elif rule == "cut":
                paths.extend(self._cut(path))
            else:
                point = path.points[outside - 1]
                raise TrajectoryError(
                    f"path {brief(path.name)}: point {outside} at ({point.x:g}, {point.y:g}) must lie inside the frame "
                    f"of {self.width} x {self.height} px"
                )
        return replace(self, paths=tuple(paths))

    def _contains(self, point: Point) -> bool:
        return 0.0 <= point.x <= self.width and 0.0 <= point.y <= self.height

    def _cut(self, path: DrawnPath) -> list[DrawnPath]:
        pieces = cut_to_frame(*path.polyline(), self.width, self.height)
        if len(pieces) > MAX_PATHS:
            raise TrajectoryError(
                f"path {brief(path.name)} must leave the frame at most {MAX_PATHS} times, got {len(pieces)} pieces"
            )
        if not pieces:
            raise TrajectoryError(
                f"path {brief(path.name)} must cross the frame of {self.width} x {self.height} px, but lies outside it"
            )
        names = [path.name] + [f"{path.name} ({number})" for number in range(2, len(pieces) + 1)]
        return [
            DrawnPath.from_array(np.column_stack([place, moment]).tolist(), name)
            for name, (place, moment) in zip(names, pieces, strict=True)
        ]

    def _mapped(self, move, **changes: int) -> "Trajectory":
        paths = tuple(replace(path, points=_moved(path.points, move)) for path in self.paths)
        return replace(self, paths=paths, **changes)


def _moved(points: Iterable[Point], move) -> tuple[Point, ...]:
    return tuple(move(point) for point in points)

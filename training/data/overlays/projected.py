"""End-effector places in space, projected into the picture with given camera matrices."""

from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from visual_planner.errors import brief, listed
from visual_planner.trajectory.trajectory import Trajectory

from ...errors import TrainingError
from ...files import read_json
from ..choice.rules import clock_of
from ..sources import Entry, Source
from ..sources.records import Count, Finite, Record, Text, checked
from .recorded import path_over

_KEYS = {"intrinsics", "extrinsics", "width", "height"}
_NEAR_M = 1e-3
_SEEN = 0.25
"A path with less than this fraction in the picture was not computed from places [m]."


class _File(Record):
    """A camera file; see `ProjectedPaths`."""

    cameras: dict[Text, dict] = Field(default_factory=dict)
    episodes: dict[Text, dict] = Field(default_factory=dict)
    offset_m: Annotated[list[Finite], Field(min_length=3, max_length=3)] = Field(default_factory=lambda: [0.0] * 3)


class _Camera(Record):
    """A camera of the file."""

    intrinsics: list[list[Finite]]
    extrinsics: list[list[Finite]]
    width: Count
    height: Count


class ProjectedPaths:
    """Paths projected by a pinhole camera.

    The file: `{"cameras": {NAME: CAMERA}, "episodes": {ID: CAMERA}, "offset_m": [x, y, z]}`, where CAMERA is
    `{"intrinsics": 3x3 [px], "extrinsics": 3x4 or 4x4, "width": px, "height": px}`. The extrinsics take a point of the
    robot's frame to the camera's (x right, y down, z forward, OpenCV's convention) [m]. An episode's own camera takes
    precedence over the named one. The offset is added to every place (such as from the flange to the finger tips).

    Raises:
        TrainingError: a camera is missing or has matrices of a wrong shape, or NaN in them.
    """

    of_whole = False

    def __init__(self, data: Path, states: str) -> None:
        self.file, self.states = data, states
        record = read_json(data, "camera file")
        if unknown := sorted(record.keys() - {"cameras", "episodes", "offset_m"}):
            raise TrainingError(f"camera file {data} has unknown keys {listed(unknown)}")
        given = checked(_File, record, f"camera file {data}")
        self.cameras = {name: self._camera(name, value) for name, value in given.cameras.items()}
        self.episodes = {name: self._camera(name, value) for name, value in given.episodes.items()}
        self.offset = np.array(given.offset_m, np.float64)

    def __call__(self, source: Source, entry: Entry, chosen: np.ndarray, size: tuple[int, int]) -> Trajectory:
        """See `OverlayMaker`."""
        names = (source.camera, source.camera.replace("/", ".").split(".")[-1])
        camera = self.episodes.get(entry.id) or next((self.cameras[n] for n in names if n in self.cameras), None)
        if camera is None:
            raise TrainingError(
                f"camera file {self.file} has no camera {brief(source.camera)} and no episode {entry.id}; it has "
                f"{listed([*self.cameras, *self.episodes]) or 'none'}"
            )
        places = source.positions(entry, self.states)
        if places.shape[0] != entry.length or places.shape[1] < 3:
            raise TrainingError(
                f"states of episode {entry.id} ({entry.file}) must have shape ({entry.length}, 3 or more), "
                f"got {places.shape}"
            )
        span = slice(int(chosen[0]), int(chosen[-1]) + 1)
        bad = np.flatnonzero(~np.isfinite(places[span, :3]).all(axis=1))
        if len(bad):
            raise TrainingError(
                f"states of episode {entry.id} ({entry.file}) are not numbers at frame {span.start + bad[0]} "
                f"({len(bad)} frames): {places[span.start + bad[0], :3].tolist()}"
            )
        pixels, depth = project(places[:, :3] + self.offset, *camera[:2])
        behind = np.flatnonzero(depth[span] < _NEAR_M)
        if len(behind):
            raise TrainingError(
                f"the end effector of episode {entry.id} ({entry.file}) lies behind the camera at frame "
                f"{span.start + behind[0]}: the extrinsics in {self.file} do not belong to these states"
            )
        width, height = camera[2]
        inside = ((pixels[span] >= 0) & (pixels[span] <= (width, height))).all(axis=1).mean()
        if inside < _SEEN:
            low, high = pixels[span].min(axis=0), pixels[span].max(axis=0)
            raise TrainingError(
                f"the end effector of episode {entry.id} ({entry.file}) must lie in the picture of {width}x{height} "
                f"px, but {1 - inside:.0%} of its path does not (x {low[0]:.0f} to {high[0]:.0f}, y {low[1]:.0f} to "
                f"{high[1]:.0f}): the states must be positions in metres, not joint angles, and in the frame of the "
                "extrinsics"
            )
        clock = clock_of(source.times(entry))
        return path_over(pixels * (size[1] / width, size[0] / height), chosen, size, clock)

    def _camera(self, name: str, value: object) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        if not isinstance(value, dict) or value.keys() != _KEYS:
            raise TrainingError(f"camera {brief(name)} in {self.file} must have the keys {', '.join(sorted(_KEYS))}")
        camera = checked(_Camera, value, f"camera {brief(name)} in {self.file}")
        try:
            inner, outer = (np.asarray(rows, np.float64) for rows in (camera.intrinsics, camera.extrinsics))
        except ValueError as error:
            raise TrainingError(f"camera {brief(name)} in {self.file} must have matrices: {error}") from error
        size = camera.width, camera.height
        if inner.shape != (3, 3) or outer.shape not in ((3, 4), (4, 4)):
            raise TrainingError(
                f"camera {brief(name)} in {self.file}: intrinsics must be 3x3 and extrinsics 3x4 or 4x4, "
                f"got {inner.shape} and {outer.shape}"
            )
        return inner, outer[:3], size


def project(places: np.ndarray, intrinsics: np.ndarray, extrinsics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 2) and depths (N,) [m] of places (N, 3) [m] seen by a pinhole camera.

    Args:
        places: places in the robot's frame.
        intrinsics: (3, 3) [px].
        extrinsics: (3, 4), robot's frame to camera's.
    """
    seen = places @ extrinsics[:, :3].T + extrinsics[:, 3]
    depth = seen[:, 2]
    flat = seen @ intrinsics.T
    return flat[:, :2] / np.where(np.abs(depth) < 1e-9, 1e-9, depth)[:, None], depth

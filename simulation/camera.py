"""The camera: a pinhole in front of the table, and the projection of world points [m] to pixels of a frame [px]."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from .engine import mujoco
from .errors import SimulationError
from .shared import brief, numbers

MAX_JITTER_M = 0.2
MAX_TURN_DEG = 90
MOST_M = 1e4
"""Limits for moving and rotating a camera around the table so that the table stays in its image, and for the
coordinates of any camera [m]."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with square pixels, no roll.

    Attributes:
        eye: position [m].
        lookat: the point in the middle of the picture [m].
        fovy_deg: vertical field of view [degrees].
    """

    eye: tuple[float, float, float] = (1.16, 0.0, 0.86)
    lookat: tuple[float, float, float] = (0.40, 0.0, 0.095)
    fovy_deg: float = 27.5

    def to_json(self) -> dict:
        """Return the camera as in ``episodes.jsonl``."""
        return {"eye_m": list(self.eye), "lookat_m": list(self.lookat), "fovy_deg": self.fovy_deg}

    @classmethod
    def from_json(cls, value) -> Camera:
        """Return the camera that ``to_json`` wrote.

        Raises:
            SimulationError: the value is not such a camera.
        """
        held = value if isinstance(value, dict) else {}
        eye, lookat = (numbers(held.get(key), 3, MOST_M) for key in ("eye_m", "lookat_m"))
        view = numbers([held.get("fovy_deg")], 1, 120.0)
        if not (eye and lookat and len(eye) == len(lookat) == 3 and view and view[0] > 1) or view[0] == 120:
            raise SimulationError(
                f"a camera must have eye_m, lookat_m (3 numbers) and fovy_deg 1..120, got {brief(value)}"
            )
        camera = cls(tuple(map(float, eye)), tuple(map(float, lookat)), float(view[0]))
        if not np.hypot(*np.subtract(camera.lookat, camera.eye)[:2]) > 1e-6:
            raise SimulationError(f"a camera must not look straight up or down, got {brief(value)}")
        return camera

    def jittered(self, rng: np.random.Generator, amount_m: float) -> Camera:
        """Return a camera moved by normal noise of ``amount_m`` [m] (its lookat by a third of that)."""
        if amount_m <= 0:
            return self
        eye = np.asarray(self.eye) + rng.normal(0.0, amount_m, 3)
        lookat = np.asarray(self.lookat) + rng.normal(0.0, amount_m / 3, 3)
        return replace(self, eye=tuple(map(float, eye)), lookat=tuple(map(float, lookat)))

    def turned(self, degrees: float) -> Camera:
        """Return the camera moved around the point it looks at, counterclockwise as seen from above [degrees]."""
        offset = np.asarray(self.eye) - np.asarray(self.lookat)
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        around = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]) @ offset
        return replace(self, eye=tuple(map(float, np.asarray(self.lookat) + around)))

    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the unit vectors right, down and forward of the picture in the world."""
        forward = np.asarray(self.lookat) - np.asarray(self.eye)
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right = right / np.linalg.norm(right)
        return right, np.cross(forward, right), forward

    def project(self, points_m, height: int, width: int) -> np.ndarray:
        """Project points (..., 3) [m] to (..., 2) pixels (x, y), origin top-left, a pixel's centre at +0.5.

        Formula: x = W/2 + f X/Z, y = H/2 + f Y/Z, with f = (H/2) / tan(fovy/2).
        """
        offset = np.asarray(points_m, dtype=np.float64) - np.asarray(self.eye)
        right, down, forward = self.axes()
        focal = 0.5 * height / math.tan(math.radians(self.fovy_deg) / 2)
        depth = offset @ forward
        x = width / 2 + focal * (offset @ right) / depth
        y = height / 2 + focal * (offset @ down) / depth
        return np.stack([x, y], axis=-1)

    def rays(self, height: int, width: int) -> np.ndarray:
        """Return the matrix (3, 3) with which a point is ``eye + depth * rays @ (x / width, y / height, 1)`` [m].

        The inverse of ``project``; depth is the distance along the optical axis [m].
        """
        right, down, forward = self.axes()
        reach = math.tan(math.radians(self.fovy_deg) / 2)
        across = 2 * reach * width / height * right
        along = 2 * reach * down
        return np.stack([across, along, forward - (across + along) / 2], axis=-1)

    def mjv_camera(self):
        """Return the same camera as MuJoCo's free camera (its field of view is a setting of the model)."""
        camera = mujoco.MjvCamera()
        camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        offset = np.asarray(self.lookat) - np.asarray(self.eye)
        camera.lookat[:] = self.lookat
        camera.distance = float(np.linalg.norm(offset))
        camera.azimuth = math.degrees(math.atan2(offset[1], offset[0]))
        camera.elevation = math.degrees(math.asin(offset[2] / camera.distance))
        return camera


FRONT = Camera()
"The default camera."


def camera_of(record: dict) -> Camera:
    """Return the camera of an episode's or a plan's record; `FRONT` if it names none.

    Raises:
        SimulationError: what it names is not a camera.
    """
    return Camera.from_json(record["camera"]) if "camera" in record else FRONT

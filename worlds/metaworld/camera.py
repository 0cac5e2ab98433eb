"""The three cameras of the benchmark: the centre of AVDC's mirrored pictures, as pinhole cameras.

In MuJoCo these cameras are upside down, and AVDC reads their pictures from the bottom row up: the result is upright
and mirrored (left and right exchanged). Cutting out the central N of 240 rows equals a narrower field of view,
`2 atan(tan(fovy / 2) N / 240)`, so the cut-out is rendered directly at the wanted size.
"""

import math
from dataclasses import dataclass

import numpy as np

from .engine import load

_ROWS = 240
"""Rows of AVDC's whole picture (320x240)."""
SUPERSAMPLING = 2
"""Pictures are rendered this many times larger and averaged: fingers are one or two pixels wide."""


@dataclass(frozen=True)
class Cutout:
    """One camera and the square part of its picture that is used.

    Attributes:
        name: Meta-World's name of the camera.
        rows: rows of the central square, of 240; AVDC's are 128.
    """

    name: str
    rows: int


# corner3 shows the hand in 83% of a demonstration's moments in AVDC's cut-out, in 95% in this one.
CUTOUTS = {name: Cutout(name, rows) for name, rows in (("corner", 128), ("corner2", 128), ("corner3", 160))}
CAMERAS = tuple(CUTOUTS)


class Pictures:
    """Renders square pictures of an environment.

    Args:
        env: the environment.
        size: side of a picture [px].
        shadows: AVDC's look, with shadows and reflections (ten times slower), or plain.
    """

    def __init__(self, env, size: int = 64, shadows: bool = False) -> None:
        self.env, self.size = env, size
        self._mujoco = load().mujoco
        model = env.model
        model.vis.quality.offsamples = 4 if shadows else 0
        self._renderer = self._mujoco.Renderer(model, size * SUPERSAMPLING, size * SUPERSAMPLING)
        if not shadows:
            flags = self._renderer.scene.flags
            flags[self._mujoco.mjtRndFlag.mjRND_SHADOW] = flags[self._mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._fovy = {name: float(model.camera(name).fovy[0]) for name in CAMERAS}

    def take(self, camera: str) -> np.ndarray:
        """The picture (size, size, 3) uint8 of a camera in the environment's current state.

        After a step or a reset MuJoCo's places are those of a moment before. They are updated here, as the next step
        would do anyway, so looking does not change what happens.
        """
        model, data = self.env.model, self.env.data
        self._mujoco.mj_kinematics(model, data)
        self._mujoco.mj_camlight(model, data)
        self._mujoco.mj_tendon(model, data)
        model.camera(camera).fovy = self._narrowed(camera)
        try:
            self._renderer.update_scene(self.env.data, camera)
            large = self._renderer.render()[::-1]
        finally:
            model.camera(camera).fovy = self._fovy[camera]
        parts = large.reshape(self.size, SUPERSAMPLING, self.size, SUPERSAMPLING, 3)
        return (parts.mean(axis=(1, 3)) + 0.5).astype(np.uint8)

    def view(self, camera: str) -> dict:
        """The pinhole of a camera's picture: `eye_m` (3,) and `rays` (3, 3) with point = eye + depth rays (u, v, 1).

        u runs from 0 to 1 over the columns, v over the rows; depth is the distance along the optical axis [m].
        """
        model, data = self.env.model, self.env.data
        number = model.camera(camera).id
        axes = data.cam_xmat[number].reshape(3, 3)
        right, up, forward = axes[:, 0], axes[:, 1], -axes[:, 2]
        reach = math.tan(math.radians(self._narrowed(camera)) / 2)
        # The rows are reversed: downwards in the picture is upwards for the camera.
        across, along = 2 * reach * right, 2 * reach * up
        rays = np.stack([across, along, forward - (across + along) / 2], axis=-1)
        return {"eye_m": data.cam_xpos[number].round(6).tolist(), "rays": rays.round(8).tolist()}

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()

    def _narrowed(self, camera: str) -> float:
        half = math.tan(math.radians(self._fovy[camera]) / 2) * CUTOUTS[camera].rows / _ROWS
        return math.degrees(2 * math.atan(half))


def project(view: dict, points_m: np.ndarray, size: int) -> np.ndarray:
    """Pixels (..., 2) of points (..., 3) [m] in a square picture of `size` px, origin top left."""
    scaled = (np.asarray(points_m, float) - view["eye_m"]) @ np.linalg.inv(np.asarray(view["rays"])).T
    return scaled[..., :2] / scaled[..., 2:] * size

"""Render frames at twice the size without shadows or multisampling, then apply a 2x2 box filter."""

from __future__ import annotations

import numpy as np

from .camera import Camera
from .engine import GL_HELP, mujoco
from .errors import SimulationError

OVERSAMPLING = 2


class FrameRenderer:
    """Renders frames of one model; use it as a context manager, or close it, to free the OpenGL context.

    Args:
        model: the compiled model.
        height: height of a frame [px].
        width: width of a frame [px].

    Raises:
        SimulationError: OpenGL does not work, or the size is not possible.
    """

    def __init__(self, model, height: int, width: int) -> None:
        if not (16 <= height <= 512 and 16 <= width <= 512):
            raise SimulationError(f"a frame must be 16 to 512 px high and wide, got {height}x{width}")
        self.model, self.height, self.width = model, height, width
        try:
            self._renderer = mujoco.Renderer(model, height * OVERSAMPLING, width * OVERSAMPLING)
        except Exception as error:  # the backends raise AttributeError, RuntimeError, FatalError, GLError and others
            reason = " ".join(f"{type(error).__name__} {error}".split())
            raise SimulationError(f"no picture can be rendered ({reason}); {GL_HELP}") from error
        self._option = mujoco.MjvOption()
        self._option.sitegroup[:] = 0

    def render(self, data, camera: Camera) -> np.ndarray:
        """Return the frame (height, width, 3) uint8 that ``camera`` sees."""
        self.model.vis.global_.fovy = camera.fovy_deg
        self._renderer.update_scene(data, camera.mjv_camera(), self._option)
        flags = self._renderer.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = 0
        flags[mujoco.mjtRndFlag.mjRND_HAZE] = 0
        large = self._renderer.render()
        blocks = large.reshape(self.height, OVERSAMPLING, self.width, OVERSAMPLING, 3).astype(np.uint16)
        return ((blocks.sum(axis=(1, 3)) + OVERSAMPLING**2 // 2) // OVERSAMPLING**2).astype(np.uint8)

    def close(self) -> None:
        """Free the OpenGL context."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def __enter__(self) -> FrameRenderer:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

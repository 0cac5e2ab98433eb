"""Calls that a server makes to any world (see `child`) through the protocol; values are plain types and arrays."""

import pickle
from typing import Any

import numpy as np

from .errors import WorldError
from .protocol import Viewpoint, World
from .registry import WORLDS, open_world

CALLS = ("draw", "execute", "actions")


class Calls:
    """The calls of one world, which stays open for frames of one size and look, since opening it takes seconds.

    Args:
        name: name of the world.
    """

    CALLS = CALLS

    def __init__(self, name: str) -> None:
        if name not in WORLDS:
            raise WorldError(f"world must be one of {', '.join(WORLDS)}, got {name!r}")
        self.name = name
        self._open: tuple[tuple[int, str], World] | None = None

    def draw(
        self, seed: int, task: str, wordings: str, camera_jitter: float, size: int, camera: str = "", look: str = ""
    ) -> dict[str, Any]:
        """The request of a seed.

        Args:
            seed: seed of the scene.
            task: name; empty: drawn from the seed.
            wordings: set of phrasings; one that the world does not have is replaced by its first.
            camera_jitter: spread of the camera's place [m].
            size: side of the picture [px].
            camera: name; empty: the world's first.
            look: how it is rendered; empty: the world's first.

        Returns:
            `frame` (size, size, 3) uint8, `task`, `instruction`, the camera as `eye_m` (3,) and `rays` (3, 3) of a
            square picture, and `own`, which `execute` takes as `request`.

        Raises:
            WorldError: the world does not know a value, is not installed, or cannot render here.
        """
        world = self._world(size, look)
        known = wordings if wordings in world.wordings else ""
        request = world.draw(seed, task, known, Viewpoint(camera, camera_jitter))
        return {
            "frame": world.first_frame(request),
            "task": request.task,
            "instruction": request.instruction,
            "eye_m": request.view.eye_m,
            "rays": request.view.rays,
            "own": pickle.dumps((request, look)),
        }

    def execute(
        self, request: bytes, keyframes: np.ndarray, size: int | None, plan_frames: int, spacing: str = ""
    ) -> dict[str, Any]:
        """Execute keyframes (F, 4) in a request's scene, to their end.

        Args:
            request: from `draw`.
            keyframes: places [m] and gripper.
            size: side of the pictures [px]; None: none are taken.
            plan_frames: frames of a whole plan.
            spacing: spacing of its frames; empty: the world's.

        Returns:
            `success`, `frames` when each keyframe was done, `tool_m` then, `tracking_error_m`, `start_error_m` and
            `clamped`; `actions` is None.

        Raises:
            WorldError: bad keyframes, or the arm cannot reach one.
        """
        asked, look = pickle.loads(request)
        rollout = self._world(size or 64, look).start(asked, plan_frames, spacing)
        done = rollout.carry_out(keyframes, pictures=size is not None)
        return {
            "success": bool(rollout.success),
            "frames": done.frames,
            "tool_m": done.tool_m,
            "tracking_error_m": done.tracking_error_m(keyframes),
            "start_error_m": done.start_error_m,
            "clamped": done.clamped,
            "actions": None,
        }

    def actions(self, request: bytes | None, **arguments: Any) -> dict[str, Any]:
        """Always refuse: only the Jaco table's executor has joint trajectories.

        Raises:
            WorldError: always.
        """
        raise WorldError(f"world {self.name} has no joint trajectories: its arm is moved by places, use Execute Plan")

    def _world(self, size: int, look: str) -> World:
        if self._open is None or self._open[0] != (size, look):
            if self._open is not None:
                self._open[1].close()
                self._open = None
            self._open = (size, look), open_world(self.name, size, look)
        return self._open[1]

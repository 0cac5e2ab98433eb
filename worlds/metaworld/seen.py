"""Bounds that look at pictures: true frames through the read-out, and through an autoencoder before that."""

from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from visual_planner.execution.camera import View

from ..errors import UnreachableError
from ..protocol import Viewpoint
from .camera import CAMERAS
from .tasks import TASKS
from .world import MetaWorld

ROWS = {
    "true_frames": "frames of the scene's own demonstration through the read-out",
    "autoencoder": "the same, through the planner's autoencoder before that",
}
Read = Callable[[np.ndarray, View], np.ndarray]
"""Frames (F, h, w, 3) uint8 and their camera -> keyframes (F, 4)."""
Change = Callable[[np.ndarray], np.ndarray]
"""Frames (F, h, w, 3) uint8 -> the same as a perfect plan would show them."""


def measure_seen(
    seeds: range,
    read: Read,
    through: Change | None = None,
    tasks: tuple[str, ...] = TASKS,
    cameras: tuple[str, ...] = CAMERAS,
    look: str = "",
    size: int = 64,
    progress: bool = True,
) -> dict[str, dict[str, dict[str, int]]]:
    """Successes of each row of `ROWS` per task and camera, out of `len(seeds)` scenes each.

    A scene that its own script does not solve counts as a failure. Without `through` there is no row "autoencoder".
    """
    ways = {"true_frames": lambda frames: frames, **({} if through is None else {"autoencoder": through})}
    result = {row: {task: dict.fromkeys(cameras, 0) for task in tasks} for row in ways}
    runs = [(task, seed, camera) for task in tasks for seed in seeds for camera in cameras]
    with MetaWorld(size, look) as world:
        for task, seed, camera in tqdm(runs, unit="run", disable=not progress):
            request = world.draw(seed, task, viewpoint=Viewpoint(camera))
            shown = world.demonstrate(request)
            for row, change in ways.items() if shown.success else ():
                rollout = world.start(request)
                try:
                    rollout.carry_out(read(change(shown.frames), request.view), pictures=False)
                except UnreachableError:
                    continue
                result[row][task][camera] += rollout.success
    return result

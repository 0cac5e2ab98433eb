"""One episode: what a data set stores of it, and how a demonstration becomes one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .camera import FRONT, Camera
from .motion import FRAMES, Motion
from .policy import demonstration
from .scene import SceneSpec, rng_for
from .shared import GRIPPER_LENGTH_M, choose_by_shape
from .tasks import TASKS, Task, Trace, draw_task, is_done
from .toolpath import STEPS_PER_FRAME, frame_steps
from .wordings import instruction
from .world import World

PATH_POINTS = 33
_CHOICE_STEP = 2


@dataclass(frozen=True)
class Episode:
    """Frames and the ground truth about them.

    Attributes:
        seed: the episode's seed; with the same options it gives the same episode again.
        scene: the scene at the start.
        task: the request, or None in play.
        instruction: the request in words ("" in play).
        frames: pictures (F, H, W, 3) uint8.
        tool_m: tool positions at the frames (F, 3) [m].
        objects_m: object centres at the frames (F, objects, 3) [m].
        gripper: commanded gripper state at the frames (F,) [0 open, 1 closed].
        path_m: tool positions, dense in time (33, 3) [m].
        camera: the camera that saw it.
        success: whether the request was fulfilled.
        begins: fraction of the motion that is over at the first frame.
        steps: control step of each frame (F,), if they are not evenly spaced.
    """

    seed: int
    scene: SceneSpec
    task: Task | None
    instruction: str
    frames: np.ndarray
    tool_m: np.ndarray
    objects_m: np.ndarray
    gripper: np.ndarray
    path_m: np.ndarray
    camera: Camera
    success: bool
    begins: float = 0.0
    steps: np.ndarray | None = None

    def strip(self) -> np.ndarray:
        """Return the frames side by side, (H, F W, 3) uint8."""
        return np.concatenate(list(self.frames), axis=1)

    def record(self, name: str) -> dict:
        """Return the episode's line of ``episodes.jsonl``; metres to 0.1 mm, pixels to 0.01 px."""
        height, width = self.frames.shape[1:3]

        def pixels(points_m):
            return self.camera.project(points_m, height, width).round(2).tolist()

        path = self.camera.project(self.path_m, height, width).round(2)
        times = np.linspace(0.0, 1.0, len(path)).round(5)
        if self.steps is not None:  # in the plan's time, in which frames are evenly spaced
            dense = np.linspace(self.steps[0], self.steps[-1], len(path))
            numbers, cells = np.unique(self.steps, return_index=True)
            times = np.interp(dense, numbers, cells / (len(self.steps) - 1)).round(5)
        return {
            "id": name,
            "seed": self.seed,
            "task": self.task.name if self.task else "",
            "direction": self.task.direction if self.task else None,
            "instruction": self.instruction,
            "caption": self.scene.caption,
            "target": self.task.target if self.task else None,
            "objects": [
                {
                    "name": item.name,
                    "shape": item.shape,
                    "color": item.color,
                    "positions_m": self.objects_m[:, slot].round(4).tolist(),
                    "positions_px": pixels(self.objects_m[:, slot]),
                }
                for slot, item in enumerate(self.scene.objects)
            ],
            "plate_m": [round(value, 4) for value in self.scene.plate_m],
            "end_effector_px": pixels(self.tool_m),
            "end_effector_m": self.tool_m.round(4).tolist(),
            "gripper": self.gripper.round(3).tolist(),
            "path_px": [[x, y, t] for (x, y), t in zip(path.tolist(), times.tolist(), strict=True)],
            "camera": self.camera.to_json(),
            "begins": round(self.begins, 4),
            "success": self.success,
            **({} if self.steps is None else {"moments": self.steps.tolist()}),
        }


def resample(values: np.ndarray, count: int) -> np.ndarray:
    """Resample rows (T, C) that are uniform in time to ``count`` rows, linearly."""
    times, wanted = np.linspace(0.0, 1.0, len(values)), np.linspace(0.0, 1.0, count)
    return np.stack([np.interp(wanted, times, column) for column in values.T], axis=-1)


@dataclass(frozen=True)
class Request:
    """A planner's input: a scene, seen by a camera, and a task in words."""

    seed: int
    scene: SceneSpec
    task: Task
    instruction: str
    camera: Camera


def draw_request(
    seed: int,
    tasks: tuple[str, ...] = TASKS,
    wordings: str = "train",
    camera_jitter_m: float = 0.0,
    camera: Camera = FRONT,
) -> Request:
    """Draw the request of an episode; ``demonstrate`` with the same arguments performs it."""
    scene, task = draw_task(seed, tasks)
    words = instruction(task, rng_for(seed, "wording"), wordings)
    return Request(seed, scene, task, words, camera.jittered(rng_for(seed, "camera"), camera_jitter_m))


def first_frame(world: World, request: Request) -> np.ndarray:
    """Return the picture (size, size, 3) uint8 of the request's scene before anything moves."""
    world.reset(request.scene, 0.0, request.camera)
    return world.frame()


def demonstrate(
    world: World,
    seed: int,
    tasks: tuple[str, ...] = TASKS,
    wordings: str = "train",
    camera_jitter_m: float = 0.0,
    frames: int = FRAMES,
    begins: float = 0.0,
    camera: Camera = FRONT,
    keyframes: str = "time",
) -> Episode:
    """Execute one scripted demonstration, successful or not (see ``Episode.success``).

    Args:
        world: the table; its size is the frames'.
        seed: the episode's seed.
        tasks: tasks to draw from.
        wordings: "train", "held_out" or "all".
        camera_jitter_m: spread of the camera's position [m].
        frames: number of pictures; the motion does not depend on it.
        begins: fraction of the motion that is over at the first picture, below 1, as seen by a planner that re-plans.
        camera: the camera without jitter.
        keyframes: "time": the pictures are evenly spaced; "shape": they are where the tool's path bends.
    """
    request = draw_request(seed, tasks, wordings, camera_jitter_m, camera)
    return demonstration_of(world, request, frames, begins, keyframes)


def demonstration_of(
    world: World, request: Request, frames: int = FRAMES, begins: float = 0.0, keyframes: str = "time"
) -> Episode:
    """Execute the scripted demonstration of a given request; see ``demonstrate``."""
    scene, task, camera = request.scene, request.task, request.camera
    motion = demonstration(scene, task, rng_for(request.seed, "motion"))
    world.reset(scene, motion.at(0)[1], camera)
    steps = frame_steps(frames, begins)
    if keyframes == "shape":
        steps = _steps_by_shape(world.run(motion.at, ())[0], motion, int(steps[0]), frames)
        world.reset(scene, motion.at(0)[1], camera)
    trace, pictures = world.run(motion.at, steps)
    if pictures:  # a step that several frames share was rendered once
        pictures = [pictures[place] for place in np.searchsorted(np.unique(steps), steps)]
    return Episode(
        seed=request.seed,
        scene=scene,
        task=task,
        instruction=request.instruction,
        frames=np.array(pictures),
        tool_m=trace.tool_m[steps],
        objects_m=trace.objects_m[steps],
        gripper=np.array([motion.at(step / STEPS_PER_FRAME)[1] for step in steps]),
        path_m=resample(trace.tool_m[steps[0] :], PATH_POINTS),
        camera=camera,
        success=is_done(task, scene, trace),
        begins=begins,
        steps=steps if keyframes == "shape" else None,
    )


def _steps_by_shape(trace: Trace, motion: Motion, first: int, frames: int) -> np.ndarray:
    """Control steps (frames,) from the first on, chosen by the shape of the tool's path and the gripper's opening."""
    opening = [1 - motion.at(step / STEPS_PER_FRAME)[1] for step in range(len(trace.tool_m))]
    path = np.column_stack([trace.tool_m, GRIPPER_LENGTH_M * np.array(opening)])[first:]
    return first + choose_by_shape(path, frames, _CHOICE_STEP)

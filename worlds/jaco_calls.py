"""Calls that a server makes to the Jaco's table (see `child`); values are plain types and arrays."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from simulation.episode import Request, draw_request, first_frame
from simulation.execution import check_keyframes
from simulation.execution import execute as execute_plan
from simulation.files import write_text
from simulation.joint_trajectory import JointTrajectory, plan_actions
from simulation.lerobot_episode import write_lerobot
from simulation.scene import draw_scene, rng_for
from simulation.tasks import TASKS
from simulation.toolpath import steps_between, steps_between_each
from simulation.world import World

from .jaco import JacoTable

CALLS = ("draw", "execute", "actions")


def draw(
    seed: int, task: str, wordings: str, camera_jitter: float, size: int, camera: str = "", look: str = ""
) -> dict[str, Any]:
    """The request of a seed.

    Args:
        seed: seed of the scene.
        task: one of `TASKS`; empty: drawn from the seed.
        wordings: set of phrasings.
        camera_jitter: spread of the camera's place [m].
        size: side of the picture [px].
        camera: only "front"; empty: the same.
        look: only "plain"; empty: the same.

    Returns:
        `frame` (size, size, 3) uint8, `task`, `instruction`, the camera as `eye_m` (3,) and `rays` (3, 3) of a square
        picture, and `own`, which `execute` and `actions` take as `request`.

    Raises:
        SimulationError: MuJoCo is not installed, or cannot render here.
    """
    for kind, value in (("camera", camera), ("look", look)):
        JacoTable.check(kind, value)
    request = draw_request(seed, (task,) if task else TASKS, wordings, camera_jitter)
    with World(size) as world:
        frame = first_frame(world, request)
    return {
        "frame": frame,
        "task": request.task.name,
        "instruction": request.instruction,
        "eye_m": request.camera.eye,
        "rays": request.camera.rays(size, size).tolist(),
        "own": pickle.dumps(request),
    }


def execute(
    request: bytes, keyframes: np.ndarray, size: int | None, plan_frames: int, spacing: str = "time"
) -> dict[str, Any]:
    """Execute keyframes (F, 4) in a request's scene.

    Args:
        request: from `draw`.
        keyframes: places [m] and gripper.
        size: side of the pictures [px]; None: none are taken.
        plan_frames: frames of a whole plan.
        spacing: spacing of its frames, see `simulation.execution.Rollout`.

    Returns:
        The fields of `simulation.execution.Execution`; `actions` as `actions` returns them.
    """
    asked: Request = pickle.loads(request)
    with World(size) as world:
        how = {"plan_frames": plan_frames, "spacing": spacing}
        done = execute_plan(keyframes, asked.scene, asked.task, world, asked.camera, **how)
    return {**vars(done), "actions": _plain(done.actions)}


def actions(
    request: bytes | None,
    keyframes: np.ndarray,
    plan_frames: int,
    instruction: str = "",
    save: dict[str, Any] | None = None,
    spacing: str = "time",
) -> dict[str, Any]:
    """The arm's joint trajectory, from the scene's start or, without a scene, from the first keyframe.

    Args:
        request: from `draw`; None: no scene is known.
        keyframes: places [m] and gripper (F, 4).
        plan_frames: frames of a whole plan, from which their interval in time follows.
        instruction: the task, written into the texts and files.
        save: what to write: `stem` (path without suffix), `formats` (of json, csv, lerobot) and `frames` (F, h, w, 3)
            uint8; None: nothing.
        spacing: spacing of the frames, see `simulation.execution.Rollout`.

    Returns:
        The trajectory's arrays, `json`, and `files`, the paths that were written.

    Raises:
        SimulationError: a place cannot be reached, a file cannot be written, or a package for LeRobot is missing.
    """
    plan, _ = check_keyframes(keyframes, frames=None)
    scene = draw_scene(rng_for(0, "scene")) if request is None else pickle.loads(request).scene
    with World(None) as world:
        world.reset(scene, 0.0)
        start = world.joints
        if request is None:
            start = world.place_arm(plan[0, :3], 0.0)
        else:
            plan[0] = (*world.tool(), 0.0)
        even = steps_between(plan_frames)
        spans = steps_between_each(plan, plan_frames, True) if spacing == "shape" else even
        planned = plan_actions(world.arm, plan, start, steps_per_frame=spans)
    files = [] if save is None else _save(planned, instruction, **save)
    return {**_plain(planned), "json": planned.to_json(instruction=instruction), "files": files}


def _plain(planned: JointTrajectory) -> dict[str, Any]:
    return {**vars(planned), "times_s": planned.times_s}


def _save(planned: JointTrajectory, instruction: str, stem: str, formats: str, frames: np.ndarray) -> list[str]:
    """Write the formats that are named; returns the files."""
    base, written = Path(stem), []
    for kind, text in (("json", lambda: planned.to_json(instruction=instruction)), ("csv", planned.to_csv)):
        if kind in formats:
            written.append(base.with_name(f"{base.name}.{kind}"))
            write_text(written[-1], text())
    if "lerobot" in formats:
        written.append(write_lerobot(base.with_name(f"{base.name}_lerobot"), planned, frames, instruction))
    return [str(path) for path in written]

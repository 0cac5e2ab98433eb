"""Read plans to execute: JSON objects that name a scene and give keyframes, as in ``episodes.jsonl``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .camera import Camera, camera_of
from .errors import SimulationError
from .execution import check_keyframes
from .scene import SceneSpec
from .shared import brief, json_value, numbers, plain
from .tasks import TASKS, Task, draw_task

MAX_KEYFRAMES = 1000
REQUIRED = ("seed", "task", "end_effector_m", "gripper")


@dataclass(frozen=True)
class Plan:
    """A plan and the scene in which to execute it: keyframes (F, 4) of x, y, z [m] and gripper [0 open, 1 closed]."""

    name: str
    seed: int
    scene: SceneSpec
    task: Task
    keyframes: np.ndarray
    camera: Camera


def parse_plan(value, name: str = "the plan") -> Plan:
    """Check one plan.

    Args:
        value: an object with "seed", "task", "end_effector_m" (9 of [x, y, z]) and "gripper" (9 of 0..1); a line of
            ``episodes.jsonl`` is one. With "objects" it must also fit the scene of its seed. "camera" is optional.
        name: its name in error messages.

    Raises:
        SimulationError: something is missing or wrong.
    """
    if not isinstance(value, dict):
        raise SimulationError(f"{name} must be a JSON object with {', '.join(REQUIRED)}, got {type(value).__name__}")
    missing = [key for key in REQUIRED if key not in value]
    if missing:
        raise SimulationError(f"{name} lacks {', '.join(missing)}; it needs {', '.join(REQUIRED)}")
    seed = value["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise SimulationError(f"{name}: seed must be a whole number from 0, got {brief(seed)}")
    if value["task"] not in TASKS:
        raise SimulationError(f"{name}: task must be one of {', '.join(TASKS)}, got {brief(value['task'])}")
    if value.get("begins"):
        raise SimulationError(f"{name} starts in the middle of its task, but a plan is executed from the scene's start")
    bad = "" if numbers(value["gripper"], MAX_KEYFRAMES) else "gripper"
    bad = bad if numbers(value["end_effector_m"], 3 * MAX_KEYFRAMES, depth=2) else "end_effector_m"
    if bad:
        raise SimulationError(
            f"{name}: end_effector_m and gripper must be lists of finite numbers, at most {MAX_KEYFRAMES}, got {bad} "
            f"{brief(value[bad])}"
        )
    places = np.array(value["end_effector_m"], dtype=np.float64)
    gripper = np.array(value["gripper"], dtype=np.float64)
    count = len(gripper) if gripper.ndim == 1 else 0
    if count < 2 or places.shape != (count, 3):
        raise SimulationError(
            f"{name}: end_effector_m must be [x, y, z] and gripper a number for each of two or more frames, "
            f"got {places.shape} and {gripper.shape}"
        )
    keyframes = np.concatenate([places, gripper[:, None]], axis=1)
    check_keyframes(keyframes, frames=None)
    scene, task = draw_task(seed, (value["task"],))
    _check_scene(scene, value.get("objects"), name)
    return Plan(name, seed, scene, task, keyframes, camera_of(value))


def _check_scene(scene: SceneSpec, objects, name: str) -> None:
    """Refuse a plan whose recorded objects are not those of the scene that its seed gives now."""
    if objects is None:
        return
    try:
        recorded = [(item["name"], *item["positions_m"][0][:2]) for item in objects]
        fits = len(recorded) == len(scene.objects) and all(
            label == item.name and np.allclose((x, y), item.position_m, atol=2e-3)
            for (label, x, y), item in zip(recorded, scene.objects, strict=True)
        )
    except (KeyError, TypeError, IndexError, ValueError, OverflowError):
        fits = False
    if not fits:
        names = ", ".join(item.name for item in scene.objects)
        raise SimulationError(
            f"{name}: its objects differ from those of its seed and task ({names}); was it written by another version?"
        )


def read_plans(path, limit: int | None = None) -> list[Plan]:
    """Read plans from a file: one JSON object, a list of them, or JSON lines (``.jsonl``).

    Args:
        path: the file.
        limit: read at most this many.

    Raises:
        SimulationError: a missing file, broken JSON, a bad plan (named by its id or place in the file).
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise SimulationError(f"the plan file {path} cannot be read: {error}") from error
    if path.suffix == ".jsonl":
        lines = enumerate(data.split(b"\n"), 1)
        values = [json_value(line, f"{path} line {number}", SimulationError) for number, line in lines if line.strip()]
    else:
        values = json_value(data, f"the plan file {path}", SimulationError)
    values = values if isinstance(values, list) else [values]
    if not values:
        raise SimulationError(f"{path} holds no plan")
    plans = []
    for number, value in enumerate(values[:limit]):
        label = value.get("id", number) if isinstance(value, dict) else number
        plans.append(parse_plan(value, f"plan {plain(label)}"))
    return plans

"""The four tasks: what can be asked in a scene, and whether it was done."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import SimulationError
from .model import OBJECT_HALF_M, PLATE_HALF_HEIGHT_M
from .scene import OBJECT_GAP_M, PLATE_GAP_M, REACH_AREA_M, SceneSpec, draw_scene, rng_for

TASKS = ("reach", "push", "pick", "place")
GRASPED = ("pick", "place")
"""Tasks in which the gripper holds the object."""
# Directions as seen in the picture; the camera looks along -x.
DIRECTIONS = {"left": (0.0, -1.0), "right": (0.0, 1.0), "away": (-1.0, 0.0), "closer": (1.0, 0.0)}
PUSH_M = 0.12
LIFT_M = 0.13
HOVER_M = 0.135
PUSH_BEHIND_M = 0.085
PLATE_TOP_M = 2 * PLATE_HALF_HEIGHT_M


@dataclass(frozen=True)
class Task:
    """One request: which task, on which object (slot and name), in which direction (push only)."""

    name: str
    slot: int
    target: str
    direction: str | None = None


@dataclass(frozen=True)
class Trace:
    """What happened, sampled at every control step (T of them).

    Attributes:
        tool_m: tool positions (T, 3) [m].
        objects_m: object centres (T, objects, 3) [m].
    """

    tool_m: np.ndarray
    objects_m: np.ndarray


def _inside(point, area) -> bool:
    return all(low <= value <= high for value, (low, high) in zip(point, area, strict=True))


def _segment_distance(point, start, end) -> float:
    way = end - start
    s = np.clip(np.dot(point - start, way) / max(np.dot(way, way), 1e-12), 0.0, 1.0)
    return float(np.hypot(*(point - start - s * way)))


def can_push(scene: SceneSpec, slot: int, direction: str) -> bool:
    """Say whether the object can be pushed by ``PUSH_M``: free path, free plate, reachable start and end."""
    here = np.array(scene.objects[slot].position_m)
    way = np.array(DIRECTIONS[direction])
    end, behind = here + PUSH_M * way, here - PUSH_BEHIND_M * way
    if not (_inside(end, REACH_AREA_M) and _inside(behind, ((0.24, 0.58), (-0.26, 0.26)))):
        return False
    others = [np.array(item.position_m) for index, item in enumerate(scene.objects) if index != slot]
    if any(_segment_distance(other, behind, end) < OBJECT_GAP_M - 0.018 for other in others):
        return False
    return _segment_distance(np.array(scene.plate_m), behind, end) >= PLATE_GAP_M - 0.015


def can_grasp(scene: SceneSpec, slot: int) -> bool:
    """Say whether the open fingers, to the left and right of the object, have room beside its neighbours."""
    here = np.array(scene.objects[slot].position_m)
    others = [np.array(item.position_m) - here for index, item in enumerate(scene.objects) if index != slot]
    return not any(abs(other[0]) < 0.075 and abs(other[1]) < 0.155 for other in others)


def possible_tasks(scene: SceneSpec, name: str) -> list[Task]:
    """Return every request of the named task that the scene allows."""
    slots = range(len(scene.objects))
    if name == "push":
        return [
            Task(name, slot, scene.objects[slot].name, direction)
            for slot in slots
            for direction in DIRECTIONS
            if can_push(scene, slot, direction)
        ]
    free = [slot for slot in slots if name == "reach" or can_grasp(scene, slot)]
    return [Task(name, slot, scene.objects[slot].name) for slot in free]


def draw_task(seed: int, tasks: tuple[str, ...] = TASKS) -> tuple[SceneSpec, Task]:
    """Draw the scene and the request of an episode.

    Args:
        seed: the episode's seed.
        tasks: tasks to choose from.

    Raises:
        SimulationError: an unknown task.
    """
    unknown = [name for name in tasks if name not in TASKS]
    if unknown or not tasks:
        raise SimulationError(f"tasks must be some of {', '.join(TASKS)}, got {', '.join(map(repr, tasks)) or 'none'}")
    choice = rng_for(seed, "task")
    # Even a choice of one consumes a draw, so that seed and task name reproduce the scene of a draw among all tasks.
    number = int(choice.integers(max(len(tasks), 2)))
    name = tasks[number] if len(tasks) > 1 else tasks[0]
    rng = rng_for(seed, "scene")
    while True:
        scene = draw_scene(rng)
        possible = possible_tasks(scene, name)
        if not possible:
            continue
        if name == "push":
            # each direction as often as the scenes allow, regardless of how many objects can be pushed that way
            wanted = list(DIRECTIONS)[int(choice.integers(len(DIRECTIONS)))]
            possible = [task for task in possible if task.direction == wanted]
            if not possible:
                continue
        return scene, possible[int(choice.integers(len(possible)))]


def is_done(task: Task, scene: SceneSpec, trace: Trace, carried_m: np.ndarray | None = None) -> bool:
    """Say whether the request was fulfilled.

    reach: the tool ends above the object, which has not moved. push: the object moved at least two thirds of the
    distance in the direction, little to the side, and stayed on the table. pick: it ends at least 6 cm above the table,
    in the gripper. place: it was lifted meanwhile and ends on the plate, released. In every task the other objects stay
    where they were (within 3 cm).

    Args:
        task: the request.
        scene: the scene, with the plate where it is at the end.
        trace: what happened.
        carried_m: how far each object was moved by something other than the arm (objects, 2) [m], which does not count;
            None: nothing was.
    """
    carried = np.zeros((trace.objects_m.shape[1], 2)) if carried_m is None else carried_m
    moved = trace.objects_m[:, task.slot]
    start, end, tool = moved[0], moved[-1], trace.tool_m[-1]
    travel = (end - start)[:2] - carried[task.slot]
    others_moved = any(
        np.hypot(*((trace.objects_m[-1, slot] - trace.objects_m[0, slot])[:2] - carried[slot])) > 0.03
        for slot in range(len(scene.objects))
        if slot != task.slot
    )
    if others_moved:
        return False
    if task.name == "reach":
        near = np.hypot(*(tool - end)[:2]) < 0.035 and tool[2] < HOVER_M + 0.04
        return bool(near and np.hypot(*travel) < 0.02)
    if task.name == "push":
        way = np.array(DIRECTIONS[task.direction])
        along = float(travel @ way)
        across = float(np.hypot(*(travel - along * way)))
        return bool(PUSH_M * 2 / 3 <= along <= PUSH_M * 1.5 and across < 0.045 and abs(end[2] - start[2]) < 0.02)
    if task.name == "pick":
        return bool(end[2] > OBJECT_HALF_M + 0.06 and np.linalg.norm(end - tool) < 0.06)
    on_plate = np.hypot(*(end[:2] - np.array(scene.plate_m))) < 0.05
    resting = abs(end[2] - (PLATE_TOP_M + OBJECT_HALF_M)) < 0.012
    lifted = float(moved[:, 2].max()) > OBJECT_HALF_M + 0.04
    return bool(on_plate and resting and lifted and np.linalg.norm(end - tool) > 0.05)

"""Disturbances of an attempt: an object or the plate that is moved, a push against the arm, a grasp that slips."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from .model import CONTROL_HZ, OBJECT_HALF_M
from .scene import OBJECT_GAP_M, PLATE_GAP_M, REACH_AREA_M, START_AREA_M, SceneSpec
from .tasks import TASKS, Task, can_grasp, can_push

GRIPPING = ("pick", "place")
KINDS: dict[str, tuple[str, ...]] = {
    "object_moved": TASKS,
    "target_moved": ("place",),
    "arm_pushed": TASKS,
    "grasp_slipped": GRIPPING,
}
"""Kinds that this table supports, each with its tasks."""
_WINDOWS = {"object_moved": (5, 50), "target_moved": (40, 140), "arm_pushed": (30, 140), "grasp_slipped": (1, 20)}
"""Control steps at which each may begin: since the attempt's start or, for the grasp, since the object was lifted."""
_PATIENCE = 60
"""Control steps for which an event waits for the gripper to be out of the way; after that it does not happen."""
_PUSH_STEPS = 30
_AWAY_M, _LIFTED_M, _RESTING_M = 0.11, 0.03, 0.01
_DIRECTIONS = 8
"""Number of directions that are tried for a free place, the drawn one first."""
_PLATE_INSIDE_M = 0.02


@dataclass(frozen=True)
class Event:
    """One disturbance that is due to happen.

    Args:
        amount: how far [m]; for a grasp that slips, how long [s].
        moment: when, as a fraction of its window, 0 to 1.
        angle_rad: direction on the table.
    """

    amount: float
    moment: float
    angle_rad: float


class Interference:
    """Disturbs one attempt, control step by control step.

    Args:
        world: the table, in its scene.
        scene: the scene.
        task: the request; its object is the one that is moved or slips.
        events: events by name in `KINDS`.

    Attributes:
        carried_m: how far each object was moved by something other than the arm (objects, 2) [m].
        plate_m: where the plate is now (x, y) [m].
        happened: kinds that have happened, in their order.
    """

    def __init__(self, world, scene: SceneSpec, task: Task, events: Mapping[str, Event]) -> None:
        self._world, self._scene, self._task = world, scene, task
        self._waiting = dict(events)
        self._starts = {name: low + round(events[name].moment * (high - low))
                        for name, (low, high) in _WINDOWS.items() if name in events}  # fmt: skip
        self._step, self._lifted, self._pushed, self._slipping = 0, 0, -1, 0
        self._push = events.get("arm_pushed")
        self.carried_m = np.zeros((len(scene.objects), 2))
        self.plate_m = scene.plate_m
        self.happened: list[str] = []

    def __call__(self, joints_rad: np.ndarray, gripper: float) -> tuple[np.ndarray, float]:
        """Replace a command by what the disturbed arm does: joints (6,) [rad] and gripper [0..1], one control step."""
        self._step += 1
        for name in [name for name in ("object_moved", "target_moved") if self._due(name)]:
            moved = self._move_object(gripper) if name == "object_moved" else self._move_plate()
            if moved:
                self._did(name)
        if self._due("arm_pushed"):
            self._did("arm_pushed")
            self._pushed = 0
        return self._pushed_aside(joints_rad), self._slipped(gripper)

    def _due(self, name: str) -> bool:
        """Whether an event is pending and its time has come; one that has waited too long is dropped."""
        if name not in self._waiting or self._step < self._starts[name]:
            return False
        if self._step > self._starts[name] + _PATIENCE:
            del self._waiting[name]
            return False
        return True

    def _did(self, name: str) -> None:
        del self._waiting[name]
        self.happened.append(name)

    def _free(self, name: str, start: np.ndarray, allowed) -> np.ndarray | None:
        """The first allowed place (2,) among some directions, beginning with the drawn one."""
        event = self._waiting[name]
        for turn in range(_DIRECTIONS):
            angle = event.angle_rad + 2 * np.pi * turn / _DIRECTIONS
            place = start + event.amount * np.array([np.cos(angle), np.sin(angle)])
            if allowed(place):
                return place
        return None

    def _move_object(self, gripper: float) -> bool:
        """Set the task's object down elsewhere, where the task remains possible; not while the gripper is near."""
        world, slot = self._world, self._task.slot
        places = world.objects()
        here = places[slot]
        held = gripper >= 0.5 or np.linalg.norm(world.tool() - here) < _AWAY_M
        if held or abs(here[2] - OBJECT_HALF_M) > _RESTING_M:
            return False
        others = np.delete(places[:, :2], slot, axis=0)

        def allowed(place: np.ndarray) -> bool:
            clear = all(np.hypot(*(place - other)) >= OBJECT_GAP_M for other in others)
            clear = clear and np.hypot(*(place - self.plate_m)) >= PLATE_GAP_M
            clear = clear and np.linalg.norm(world.tool() - (*place, OBJECT_HALF_M)) >= _AWAY_M
            return bool(clear and _inside(place, REACH_AREA_M) and self._possible(places, place))

        place = self._free("object_moved", here[:2], allowed)
        if place is None:
            return False
        self.carried_m[slot] += place - here[:2]
        world.shift_object(slot, place - here[:2])
        return True

    def _possible(self, places: np.ndarray, place: np.ndarray) -> bool:
        """Whether the task can be done with its object at a place (2,)."""
        task = self._task
        now = [place if slot == task.slot else other[:2] for slot, other in enumerate(places)]
        objects = [
            replace(item, position_m=(float(x), float(y)))
            for item, (x, y) in zip(self._scene.objects, now, strict=True)
        ]
        scene = replace(self._scene, objects=tuple(objects), plate_m=tuple(self.plate_m))
        if task.name == "push":
            return can_push(scene, task.slot, task.direction)
        return task.name not in GRIPPING or can_grasp(scene, task.slot)

    def _move_plate(self) -> bool:
        """Move the plate to a free place; not while something is over it."""
        world = self._world
        over = np.concatenate([world.objects()[:, :2], world.tool()[None, :2]])
        if np.hypot(*(over - self.plate_m).T).min() < _AWAY_M:
            return False
        low, high = np.array(START_AREA_M).T
        area = tuple(zip(low + _PLATE_INSIDE_M, high - _PLATE_INSIDE_M, strict=True))
        place = self._free(
            "target_moved",
            np.array(self.plate_m),
            lambda place: _inside(place, area) and np.hypot(*(over - place).T).min() >= PLATE_GAP_M,
        )
        if place is None:
            return False
        self.plate_m = (float(place[0]), float(place[1]))
        world.place_plate(self.plate_m)
        return True

    def _pushed_aside(self, joints_rad: np.ndarray) -> np.ndarray:
        """The joints while the arm yields to a push and comes back."""
        if not 0 <= self._pushed < _PUSH_STEPS:
            return joints_rad
        self._pushed += 1
        event, arm = self._push, self._world.arm
        place, rotation = arm.tool(joints_rad)
        far = event.amount * np.sin(np.pi * self._pushed / (_PUSH_STEPS + 1))
        aside = far * np.array([np.cos(event.angle_rad), np.sin(event.angle_rad), 0.0])
        return arm.solve(place + aside, rotation, joints_rad, iterations=8, tolerance=1e-3)[0]

    def _slipped(self, gripper: float) -> float:
        """The gripper's command, open while it slips."""
        if self._slipping:
            self._slipping -= 1
            return 0.0
        if "grasp_slipped" not in self._waiting:
            return gripper
        lifted = self._world.objects()[self._task.slot, 2] > OBJECT_HALF_M + _LIFTED_M
        self._lifted += bool(lifted and gripper >= 0.5)
        if self._lifted < self._starts["grasp_slipped"]:
            return gripper
        self._slipping = max(1, round(self._waiting["grasp_slipped"].amount * CONTROL_HZ))
        self._did("grasp_slipped")
        return self._slipped(gripper)


def _inside(place: np.ndarray, area) -> bool:
    return all(low <= value <= high for value, (low, high) in zip(place, area, strict=True))

"""Disturbances of an attempt in Meta-World: an object or its goal that is moved, a push, a grasp that slips."""

import numpy as np

from ..disturbances import Disturbance
from .engine import load
from .scene import KEPT_APART_M
from .tasks import TASKS

_LOOSE = {"basketball": "bsktball", "shelf-place": "obj", "hammer": "hammer", "assembly": "RoundNut"}
"""Tasks with a loose object, and its body."""
_GOALS = {"shelf-place": "shelf", "assembly": "peg"}
"""Tasks whose goal is a separate body on the table, which the check of success follows."""
KINDS: dict[str, tuple[str, ...]] = {
    "object_moved": tuple(_LOOSE),
    "target_moved": tuple(_GOALS),
    "arm_pushed": TASKS,
    "grasp_slipped": tuple(_LOOSE),
}
_WINDOWS = {"object_moved": (2, 20), "target_moved": (10, 50), "arm_pushed": (5, 40), "grasp_slipped": (1, 10)}
"""Steps at which each may begin: since the start of the attempt or, for the grasp, since the object was lifted."""
_PATIENCE = 40
"""Steps for which an event waits for the hand to be out of the way; after that it does not happen."""
_AWAY_M, _LIFTED_M, _RESTING_M_S = 0.09, 0.03, 0.05
_STEP_M = 0.01
"""Largest distance that the hand moves in one step."""
_DIRECTIONS = 8
_MARGIN_M = 0.06
"""How far outside the area of initial places an object may be set down; for the ring that area is a single place."""
_OBJECT_QPOS, _OBJECT_QVEL = slice(9, 11), slice(9, 15)
"""Indices of the loose object's place (x, y) and velocity among the joints, in all of these environments."""


class Interference:
    """Disturbs one attempt, step by step.

    Args:
        env: the environment in its scene.
        task: its task.
        disturbance: its disturbance.

    Attributes:
        happened: kinds that have happened, in their order.
    """

    def __init__(self, env, task: str, disturbance: Disturbance) -> None:
        self._env, self._task = env, task
        drawn = {kind: disturbance.drawn(kind) for kind in KINDS}
        self._waiting = {kind: values for kind, values in drawn.items() if values is not None}
        self._starts = {kind: low + round(self._waiting[kind].moment * (high - low))
                        for kind, (low, high) in _WINDOWS.items() if kind in self._waiting}  # fmt: skip
        self._step, self._lifted, self._pushes, self._slipping = 0, 0, 0, 0
        self._aside = np.zeros(2)
        self._height = self._object()[2] if task in _LOOSE else 0.0
        space = env._random_reset_space
        self._low, self._high = space.low, space.high
        self.happened: list[str] = []

    def __call__(self, action: np.ndarray, hand_m: np.ndarray) -> np.ndarray:
        """Replace an action (4,) by what the disturbed arm does, with its hand at a place (3,) [m]."""
        self._step += 1
        if self._task in _LOOSE:  # scenes begin with the object in the air
            self._height = min(self._height, self._object()[2])
        for kind in [kind for kind in ("object_moved", "target_moved") if self._due(kind)]:
            if self._move_object(hand_m, action[3]) if kind == "object_moved" else self._move_goal(hand_m):
                self._did(kind)
        if self._due("arm_pushed"):
            push = self._did("arm_pushed")
            self._pushes, self._aside = max(1, round(push.amount / _STEP_M)), push.aside
        changed = np.array(action)
        if self._pushes:
            self._pushes -= 1
            changed[:3] = (*self._aside, 0.0)
        changed[3] = self._slipped(changed[3])
        return changed

    def _object(self) -> np.ndarray:
        return np.array(self._env.data.body(_LOOSE[self._task]).xpos)

    def _due(self, kind: str) -> bool:
        if kind not in self._waiting or self._step < self._starts[kind]:
            return False
        if self._step > self._starts[kind] + _PATIENCE:
            del self._waiting[kind]
            return False
        return True

    def _did(self, kind: str):
        self.happened.append(kind)
        return self._waiting.pop(kind)

    def _free(self, kind: str, start: np.ndarray, allowed) -> np.ndarray | None:
        """The first allowed displacement (2,) among some directions, beginning with the drawn one."""
        event = self._waiting[kind]
        for turn in range(_DIRECTIONS):
            angle = event.angle_rad + 2 * np.pi * turn / _DIRECTIONS
            by = event.amount * np.array([np.cos(angle), np.sin(angle)])
            if allowed(start + by):
                return by
        return None

    def _move_object(self, hand_m: np.ndarray, grip: float) -> bool:
        """Set the loose object down elsewhere, near the area of initial places; not while the hand is near."""
        here, data = self._object(), self._env.data
        moving = np.linalg.norm(data.qvel[_OBJECT_QVEL][:3]) > _RESTING_M_S or here[2] > self._height + _LIFTED_M
        if grip > 0 or moving or np.linalg.norm(hand_m - here) < _AWAY_M:
            return False
        apart, goal = KEPT_APART_M.get(self._task, 0.0), np.array(self._env._target_pos[:2])

        def allowed(place: np.ndarray) -> bool:
            inside = (self._low[:2] - _MARGIN_M <= place).all() and (place <= self._high[:2] + _MARGIN_M).all()
            return bool(inside and np.linalg.norm(place - goal) >= apart)

        # In some models the body's origin is shifted against the joint's; the draw is of the joint's place.
        by = self._free("object_moved", np.array(data.qpos[_OBJECT_QPOS]), allowed)
        if by is None:
            return False
        data.qpos[_OBJECT_QPOS] += by
        data.qvel[_OBJECT_QVEL] = 0.0
        load().mujoco.mj_forward(self._env.model, data)
        return True

    def _move_goal(self, hand_m: np.ndarray) -> bool:
        """Move the goal within the area of initial places; not while the object or the hand is near."""
        env = self._env
        goal, things = np.array(env._target_pos), np.stack([hand_m[:2], self._object()[:2]])
        if np.linalg.norm(things - goal[:2], axis=1).min() < _AWAY_M:
            return False
        apart = KEPT_APART_M.get(self._task, _AWAY_M)

        def allowed(place: np.ndarray) -> bool:
            inside = (self._low[-3:-1] <= place).all() and (place <= self._high[-3:-1]).all()
            return bool(inside and np.linalg.norm(things - place, axis=1).min() >= apart)

        by = self._free("target_moved", goal[:2], allowed)
        if by is None:
            return False
        by = np.append(by, 0.0)
        body = env.model.body(_GOALS[self._task])
        body.pos = np.array(body.pos) + by
        # Not in place: it may be a view of the vector from which the scene is set up again.
        env._target_pos = goal + by
        if self._task == "assembly":
            env.model.site("pegTop").pos = env._target_pos
        load().mujoco.mj_forward(env.model, env.data)
        return True

    def _slipped(self, grip: float) -> float:
        """The gripper's command, open while it slips."""
        if self._slipping:
            self._slipping -= 1
            return -1.0
        if "grasp_slipped" not in self._waiting:
            return grip
        self._lifted += bool(grip > 0 and self._object()[2] > self._height + _LIFTED_M)
        if self._lifted < self._starts["grasp_slipped"]:
            return grip
        self._slipping = max(1, round(self._did("grasp_slipped").amount / self._env.dt))
        return self._slipped(grip)

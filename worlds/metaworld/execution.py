"""Execute keyframes with Meta-World's own action: (dx, dy, dz, gripper), each a fraction of a step in -1 .. 1."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MAX_STEPS = 500
"""Steps of an episode; success at any of them counts (AVDC's rule)."""
CLOSED_BELOW = 0.9
"""Opening (observation 3: 1 open) below which a gripper is closing or closed."""
_GAIN = 10.0
_TOLERANCE_M = 0.01
_PROGRESS_M = 0.001
_STALLED_STEPS, _MOST_STEPS, _GRIP_STEPS, _LAST_STEPS = 12, 70, 20, 60
PATIENCE = 15
"""Steps without `_PROGRESS_M` of motion at the end of a plan, after which a new plan is made.

AVDC counts them over the whole plan. Here the hand leaves a keyframe by itself when it cannot get nearer, and what
holds it up is often the task: a door or a button that gives way slowly. Plans given up there succeeded less often than
those executed to their end.
"""


@dataclass
class Outcome:
    """Outcome of a plan.

    Attributes:
        success: whether the task was done at any step.
        steps: steps taken.
        reached: number of the last keyframe that was completed.
        hand_m: places of the hand (steps + 1, 3) [m].
        stalled: whether it stopped because the hand no longer moved.
    """

    success: bool
    steps: int
    reached: int
    hand_m: np.ndarray
    stalled: bool = False


class Executor:
    """Moves the hand from keyframe to keyframe.

    The hand aims at a keyframe until it is within 1 cm, makes no progress for 12 steps, or 70 steps have passed. If the
    gripper closes, the hand waits there until it is closed; if it opens, it does so before the hand leaves.

    Args:
        env: the environment in its scene.
        observation: (39,) the newest.
        limit: total number of steps for all plans.
        disturb: (action (4,), place of the hand (3,) [m]) -> the action that is taken instead.
    """

    def __init__(
        self,
        env,
        observation: np.ndarray,
        limit: int = MAX_STEPS,
        disturb: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    ) -> None:
        self._env, self._now, self._limit, self._disturb = env, observation, limit, disturb
        self.steps, self.success, self._grip = 0, False, -1.0
        self._places = [np.array(observation[:3])]

    @property
    def hand_m(self) -> np.ndarray:
        """Place of the hand now (3,) [m]."""
        return np.array(self._now[:3])

    @property
    def observation(self) -> np.ndarray:
        """The newest observation (39,)."""
        return self._now

    @property
    def closed(self) -> bool:
        """Whether the gripper is commanded to close."""
        return self._grip > 0

    @property
    def over(self) -> bool:
        """Whether the task is done, or no step is left."""
        return self.success or self.steps >= self._limit

    def run(
        self,
        keyframes: np.ndarray,
        follow_through: int = _LAST_STEPS,
        patience: int | None = None,
        done: Callable[[int], bool | None] = lambda number: None,
    ) -> Outcome:
        """Execute keyframes (F, 4): place of the hand [m] and the gripper's opening.

        The hand's current place and the gripper's last command replace the first keyframe.

        Args:
            keyframes: the plan.
            follow_through: further steps for which the last keyframe is aimed at.
            patience: steps without motion, at the last keyframe, after which the plan is over; None: it is aimed at
                for all of `follow_through`.
            done: called with a keyframe's number when it is completed; True: stop there.
        """
        closed = keyframes[:, 3] < CLOSED_BELOW
        closed[0] = self.closed
        reached, start = 0, self.hand_m
        for number in range(1, len(keyframes)):
            if closed[number - 1] and not closed[number]:
                self._grip = -1.0
                self._wait(keyframes[number - 1, :3] if number > 1 else start, _GRIP_STEPS)
            self._go(keyframes[number, :3])
            if closed[number] and not closed[number - 1]:
                self._grip = 1.0
                self._wait(keyframes[number, :3], _GRIP_STEPS)
            if self.over:
                break
            reached = number
            if done(number):
                return Outcome(self.success, self.steps, reached, np.array(self._places))
        stalled = self._wait(keyframes[-1, :3], follow_through, patience)
        return Outcome(self.success, self.steps, reached, np.array(self._places), stalled)

    def _step(self, target_m: np.ndarray) -> None:
        action = np.append(np.clip(_GAIN * (target_m - self._now[:3]), -1.0, 1.0), self._grip)
        if self._disturb is not None:
            action = self._disturb(action, self.hand_m)
        self._now, _, _, _, info = self._env.step(action)
        self.steps += 1
        self.success = self.success or bool(info["success"])
        self._places.append(np.array(self._now[:3]))

    def _wait(self, target_m: np.ndarray, steps: int, patience: int | None = None) -> bool:
        """Aim at a place for some steps; returns whether it stopped because the hand was still for `patience` steps."""
        idle = 0
        for _ in range(steps):
            if self.over:
                return False
            self._step(target_m)
            idle += float(np.linalg.norm(self._places[-1] - self._places[-2])) < _PROGRESS_M
            if idle == patience:
                return True
        return False

    def _go(self, target_m: np.ndarray) -> None:
        nearest, since = np.inf, 0
        for _ in range(_MOST_STEPS):
            distance = float(np.linalg.norm(target_m - self._now[:3]))
            if distance < _TOLERANCE_M or self.over:
                return
            since = 0 if distance < nearest - _PROGRESS_M else since + 1
            nearest = min(nearest, distance)
            if since >= _STALLED_STEPS:
                return
            self._step(target_m)


def execute(env, observation: np.ndarray, keyframes: np.ndarray, limit: int = MAX_STEPS) -> Outcome:
    """Execute a whole plan; see `Executor.run`."""
    return Executor(env, observation, limit).run(np.asarray(keyframes, float))

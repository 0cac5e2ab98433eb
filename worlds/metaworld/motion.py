"""Recorded motion of an environment: what the hand did, and every state, so that any moment can be rendered later."""

import warnings
from dataclasses import dataclass

import numpy as np

from visual_planner.execution.keyframe_choice import GRIPPER_LENGTH_M, choose_by_shape

from .execution import CLOSED_BELOW, MAX_STEPS, PATIENCE, Executor
from .scene import Scenes

AFTER_SUCCESS = 10
"""Steps for which a demonstration continues after success, as in AVDC's videos."""
_CHOICE_STEP = 2
_KEYFRAMES = 9
_OTHER_SCENE, _NEIGHBOURS = 0.3, 1000
_PLAN_OFF_M, _KEYFRAME_OFF_M = 0.03, 0.015
"Wrong plans: fraction that is another scene's, largest distance of its seed, and errors of the others [m]."


@dataclass(frozen=True)
class Motion:
    """Moments of one run, the first before any step.

    Attributes:
        hand_m: (T, 3) [m].
        opening: (T,) opening of the gripper, 1 open.
        states: (T, Q) positions of all joints, then positions and rotations of the mocap bodies.
        success: number of the first moment at which the task was done, or None.
    """

    hand_m: np.ndarray
    opening: np.ndarray
    states: np.ndarray
    success: int | None

    def __len__(self) -> int:
        return len(self.hand_m)

    def keyframes(self, chosen: np.ndarray) -> np.ndarray:
        """Keyframes (F, 4) of chosen moments: place [m] and opening."""
        return np.column_stack([self.hand_m[chosen], self.opening[chosen]])

    def closed(self, chosen: np.ndarray) -> np.ndarray:
        """Whether the gripper is closing or closed at chosen moments (F,)."""
        return self.opening[chosen] < CLOSED_BELOW

    def choose(self, count: int, begins: int = 0) -> np.ndarray:
        """Moments (count,) from `begins` to the end, chosen by the shape of the path."""
        path = np.column_stack([self.hand_m, GRIPPER_LENGTH_M * self.opening])[begins:]
        return begins + choose_by_shape(path, count, _CHOICE_STEP)


class Recorder:
    """Steps an environment and keeps what `Motion` holds."""

    def __init__(self, env, observation: np.ndarray) -> None:
        self.env, self.now, self.success = env, observation, None
        self._hand, self._opening, self._states = [], [], []
        self._keep()

    def step(self, action: np.ndarray) -> None:
        """One step of the environment."""
        self.now, _, _, _, info = self.env.step(np.clip(action, -1.0, 1.0))
        self._keep()
        if info["success"] and self.success is None:
            self.success = len(self._hand) - 1

    def motion(self) -> Motion:
        """What was recorded."""
        return Motion(np.array(self._hand), np.array(self._opening), np.array(self._states), self.success)

    def _keep(self) -> None:
        self._hand.append(np.array(self.now[:3]))
        self._opening.append(float(self.now[3]))
        self._states.append(state_of(self.env))


def state_of(env) -> np.ndarray:
    """Everything that moves, (Q,): joints, then mocap bodies."""
    data = env.data
    return np.concatenate([data.qpos, data.mocap_pos.ravel(), data.mocap_quat.ravel()])


def show(env, state: np.ndarray) -> None:
    """Bring an environment to a state from `state_of` for rendering; it must not be stepped from there."""
    data, joints = env.data, env.model.nq
    mocap = env.model.nmocap
    data.qpos[:] = state[:joints]
    data.mocap_pos[:] = state[joints : joints + 3 * mocap].reshape(-1, 3)
    data.mocap_quat[:] = state[joints + 3 * mocap :].reshape(-1, 4)
    from .engine import load

    load().mujoco.mj_forward(env.model, data)


def demonstrate(scenes: Scenes, task: str, seed: int) -> Motion:
    """Run the scripted policy until `AFTER_SUCCESS` steps after success, or to the end of the episode."""
    return _follow_script(scenes, task, *scenes.reset(task, seed))


def _follow_script(scenes: Scenes, task: str, env, observation: np.ndarray) -> Motion:
    recorder, policy = Recorder(env, observation), scenes.policy(task)
    for number in range(MAX_STEPS):
        with warnings.catch_warnings():
            # The scripts command more than a full step whenever they are far from their target.
            warnings.filterwarnings("ignore", message="Constant.s. may be too high")
            action = policy.get_action(recorder.now)
        recorder.step(action)
        if recorder.success is not None and number + 1 >= recorder.success + AFTER_SUCCESS:
            break
    return recorder.motion()


def recover(scenes: Scenes, task: str, seed: int, rng: np.random.Generator) -> Motion | None:
    """Execute a wrong plan and, if it fails, let the script do the task from there; None if it succeeds or is missing.

    The plan is that of another scene, or the scene's own with the errors that planners make: one offset for all of it,
    and one for each keyframe. The recording begins when the plan has ended.
    """
    other = rng.random() < _OTHER_SCENE
    shown = demonstrate(scenes, task, seed + int(rng.integers(1, _NEIGHBOURS)) if other else seed)
    if shown.success is None:
        return None
    keys = shown.keyframes(shown.choose(_KEYFRAMES))
    if not other:
        keys[1:, :3] += rng.normal(0.0, _PLAN_OFF_M, 3) + rng.normal(0.0, _KEYFRAME_OFF_M, (_KEYFRAMES - 1, 3))
    env, observation = scenes.reset(task, seed)
    executor = Executor(env, observation)
    executor.run(keys, patience=PATIENCE)
    return None if executor.success else _follow_script(scenes, task, env, executor.observation)


def play(scenes: Scenes, task: str, seed: int, rng: np.random.Generator) -> Motion:
    """Let the hand wander through random places in the scene, gripping at random; no task is done on purpose."""
    env, observation = scenes.reset(task, seed)
    recorder = Recorder(env, observation)
    low, high = np.array([-0.4, 0.35, 0.03]), np.array([0.4, 0.9, 0.4])
    objects = np.array([observation[4:7], observation[11:14]])
    for _ in range(int(rng.integers(3, 6))):
        target = rng.uniform(low, high)
        if rng.random() < 0.5:  # near an object of the scene, so that objects are touched, held and moved
            target = objects[0] + rng.normal(0.0, 0.04, 3)
        target[2] = max(target[2], low[2])
        grip = rng.choice([-1.0, 1.0])
        for _ in range(int(rng.integers(15, 40))):
            recorder.step(np.append(10.0 * (target - recorder.now[:3]), grip))
    return recorder.motion()

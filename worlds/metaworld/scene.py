"""Scenes by seed, as AVDC draws them: Meta-World's tasks with a random start of the hand.

AVDC (flow-diffusion/AVDC_experiments) evaluates on a copy of Meta-World whose environments add a uniform offset to the
hand's start, and whose ball lies in a wider area. The draws here repeat its order with the same generator
(`numpy.random.RandomState`), so that, as far as its code tells, seeds 0 to 24 are its scenes.
"""

import numpy as np

from ..errors import WorldError
from .engine import load
from .tasks import TASKS

EVALUATION_SEEDS = range(1000)
"""Seeds reserved for evaluation; 0 to 24 are the benchmark's."""
KEPT_APART_M = {"basketball": 0.15, "shelf-place": 0.1, "assembly": 0.1}
"""Least distance of object and goal in the plane; a draw below it is repeated, as the environment does itself."""
_BALL_AREA_M = ((-0.3, 0.4), (0.3, 0.8))


def hand_offset(task: str, rng: np.random.RandomState) -> np.ndarray:
    """Offset (3,) [m] of the hand's start; draws that AVDC's classes make and discard are repeated as well."""
    reach, up = (0.15, (-0.1, 0.1)) if task == "basketball" else (0.3, (0.0, 0.2 if task == "assembly" else 0.1))
    offset = np.concatenate([rng.uniform(-reach, reach, 2), rng.uniform(*up, 1)])
    if task == "door-close":  # its class runs the constructor of door-open as well
        rng.uniform(-0.3, 0.3, 2), rng.uniform(0, 0.1, 1)
    if task == "assembly":
        rng.uniform(-0.1, 0.1, 2)
    return offset


class Scenes:
    """Meta-World's environments, one per task, made when first needed and set to a scene by seed."""

    def __init__(self) -> None:
        self._engine = load()
        self._made: dict[str, tuple] = {}

    def reset(self, task: str, seed: int) -> tuple[object, np.ndarray]:
        """The environment of a task in the scene of a seed, and its first observation (39,).

        Observation: 0 to 2 the hand's place [m], 3 the gripper's opening (1 open), then objects and goal.

        Raises:
            WorldError: there is no such task, or the seed is not a number from 0 to 2^32 - 1.
        """
        if task not in TASKS:
            raise WorldError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise WorldError(f"seed must be a whole number from 0 to 2^32 - 1, got {seed!r}")
        env, hand, object_place, low, high = self._environment(task)
        rng = np.random.RandomState(seed)
        env.hand_init_pos = hand + hand_offset(task, rng)
        env.obj_init_pos = None if object_place is None else object_place.copy()
        low, high = low.copy(), high.copy()
        if task == "basketball":
            low[:2], high[:2] = _BALL_AREA_M
        env._random_reset_space.low[:], env._random_reset_space.high[:] = low, high
        while True:
            drawn = rng.uniform(low, high, low.size)
            if np.linalg.norm(drawn[:2] - drawn[-3:-1]) >= KEPT_APART_M.get(task, 0.0):
                break
        # Version 3 calls reset_model twice per reset, so an unfrozen vector would be drawn twice.
        env._last_rand_vec, env._freeze_rand_vec = drawn, True
        observation, _ = env.reset()
        return env, observation

    def policy(self, task: str):
        """A fresh scripted policy of a task: `get_action(observation)`."""
        return getattr(self._engine.policies, f"Sawyer{task.replace('-', ' ').title().replace(' ', '')}V3Policy")()

    def _environment(self, task: str) -> tuple:
        if task not in self._made:
            env = self._engine.environments[f"{task}-v3"]()
            env._partially_observable = False
            env.__dict__.pop("sawyer_observation_space", None)
            env._set_task_called = True
            env.max_path_length = 10**9  # the executor enforces the protocol's own limit of steps
            place = None if env.obj_init_pos is None else np.array(env.obj_init_pos, float)
            space = env._random_reset_space
            self._made[task] = (env, np.array(env.hand_init_pos, float), place, space.low.copy(), space.high.copy())
        return self._made[task]

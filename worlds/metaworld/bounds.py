"""Bounds that no plan can be expected to beat, and baselines that a plan beats only by looking; no training needed.

A blind plan (the keyframes of another scene, executed without looking) succeeds in nearly half of the benchmark's
scenes, so a planner's figure is only meaningful beside it.
"""

from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from .execution import execute
from .motion import demonstrate
from .scene import Scenes
from .tasks import NEED_EYES, TASKS

FRAMES = 9
ROWS = {
    "true_keyframes": "keyframes of the scene's own demonstration, chosen by the shape of its path",
    "true_keyframes_by_time": "the same, evenly spaced in time",
    "other_scene": "blind: the keyframes of the next seed's demonstration",
    "middle_scene": "blind: the keyframes of the scene whose object lies nearest to the mean of the others'",
    "static": "the first keyframe alone: nothing moves",
}


@dataclass(frozen=True)
class Shown:
    """A scene's demonstration as keyframes, and where its object was.

    Attributes:
        by_shape: keyframes (F, 4), place [m] and opening; None if the script fails.
        by_time: the same, evenly spaced in time.
        object_m: (3,) [m].
    """

    by_shape: np.ndarray | None
    by_time: np.ndarray | None
    object_m: np.ndarray


def measure_bounds(seeds: range, tasks: tuple[str, ...] = TASKS, progress: bool = True) -> dict:
    """Successes of each row of `ROWS` per task, out of `len(seeds)` scenes each.

    A scene that its own script does not solve counts as a failure of every row that needs its demonstration.
    """
    scenes = Scenes()
    result: dict = {name: {} for name in ROWS}
    for task in tqdm(tasks, unit="task", disable=not progress):
        shown = [_show(scenes, task, seed) for seed in seeds]
        for name in ROWS:
            done = [_done(scenes, task, seed, _keyframes(name, shown, number)) for number, seed in enumerate(seeds)]
            result[name][task] = sum(done)
    return result


def _show(scenes: Scenes, task: str, seed: int) -> Shown:
    _, observation = scenes.reset(task, seed)
    place = np.array(observation[4:7])
    motion = demonstrate(scenes, task, seed)
    if motion.success is None:
        return Shown(None, None, place)
    evenly = np.linspace(0, len(motion) - 1, FRAMES).round().astype(int)
    return Shown(motion.keyframes(motion.choose(FRAMES)), motion.keyframes(evenly), place)


def _keyframes(name: str, shown: list[Shown], number: int) -> np.ndarray | None:
    """The plan of a row for one scene; None if there is none."""
    if name == "true_keyframes":
        return shown[number].by_shape
    if name == "true_keyframes_by_time":
        return shown[number].by_time
    if name == "static":
        own = shown[number].by_shape
        return None if own is None else np.repeat(own[:1], FRAMES, axis=0)
    others = [other for place, other in enumerate(shown) if place != number and other.by_shape is not None]
    if not others:
        return None
    if name == "middle_scene":
        mean = np.mean([other.object_m for other in others], axis=0)
        return min(others, key=lambda other: float(np.linalg.norm(other.object_m - mean))).by_shape
    following = [shown[(number + step) % len(shown)] for step in range(1, len(shown))]
    return next(other.by_shape for other in following if other.by_shape is not None)


def _done(scenes: Scenes, task: str, seed: int, keyframes: np.ndarray | None) -> bool:
    if keyframes is None:
        return False
    env, observation = scenes.reset(task, seed)
    return execute(env, observation, keyframes).success


def need_eyes(successes: dict[str, int]) -> int:
    """Successes in the tasks that a blind plan mostly fails."""
    return sum(successes[task] for task in NEED_EYES if task in successes)

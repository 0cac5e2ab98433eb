"""Success rates of scenes, with intervals: of all, by task, by camera, and of tasks that cannot be done blindly."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ..statistics import bootstrap, wilson


class HasTask(Protocol):
    """The part of a scene that a rate needs."""

    @property
    def task(self) -> str:
        """Its task."""


def one_rate(successes: Sequence[bool]) -> dict:
    """Successes, number, rate and its Wilson interval."""
    low, high = wilson(sum(successes), len(successes))
    share = sum(successes) / max(1, len(successes))
    return {"successes": sum(successes), "n": len(successes), "rate": share, "low": low, "high": high}


def rate(successes: Sequence[bool], asked: Sequence[HasTask]) -> dict:
    """Successes with their interval, and the same for each task."""
    pairs = list(zip(successes, asked, strict=True))
    names = dict.fromkeys(item.task for item in asked)
    tasks = {name: one_rate([done for done, item in pairs if item.task == name]) for name in names}
    return {**one_rate(successes), "tasks": tasks}


def difference(after: list, before: list) -> dict:
    """Mean difference of success (or of a fraction of successes) on the same scenes, with its interval."""
    gained = np.asarray(after, float) - np.asarray(before, float)
    low, high = bootstrap(gained)
    return {"difference": float(gained.mean()), "low": low, "high": high}


def with_groups(row: dict, successes: Sequence[bool], runs: Sequence, needs_eyes: Sequence[str]) -> dict:
    """A rate with those of each camera, where there are several, and of the tasks that a blind plan mostly fails.

    Args:
        row: from `rate`.
        successes: those of the scenes.
        runs: (seed, task, camera) of each.
        needs_eyes: tasks that a blind plan mostly fails.
    """
    cameras = dict.fromkeys(camera for _, _, camera in runs)
    more: dict = {}
    if len(cameras) > 1:
        more["cameras"] = {
            name: one_rate([done for done, run in zip(successes, runs, strict=True) if run[2] == name])
            for name in cameras
        }
    if needs_eyes:
        more["needs_eyes"] = one_rate(
            [done for done, run in zip(successes, runs, strict=True) if run[1] in needs_eyes]
        )  # fmt: skip
    return {**row, **more}

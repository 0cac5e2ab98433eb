"""Re-plan when a plan gets stuck or ends without success: the rule for benchmarks that count any success.

Scenes are planned together and executed one after the other: the simulator of a world holds one scene at a time, so a
scene that continues is restored by executing its earlier plans again. Physics is the same every time.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from visual_planner.execution.readout import ReadoutNet
from worlds.errors import UnreachableError
from worlds.protocol import Executed, Rollout, World

from ....model.pipeline import PlannerPipeline
from ..planning import choose
from ..requests import Asked
from ..settings import Settings


@dataclass
class Attempt:
    """One scene in progress.

    Args:
        asked: the request as it is seen now.
        keys: keyframes to execute next (F, 4).
        executed: those of earlier plans.
        success: whether the task is done.
        ended: whether there is nothing more to do.
        ends: how each plan ended: success, stalled, end, steps (no step is left) or unreachable.
    """

    asked: Asked
    keys: np.ndarray
    executed: list[np.ndarray] = field(default_factory=list)
    success: bool = False
    ended: bool = False
    ends: list[str] = field(default_factory=list)


def replan_when_stalled(
    asked: list[Asked],
    first: list[np.ndarray],
    planner: PlannerPipeline,
    mode: str,
    net: ReadoutNet,
    world: World,
    settings: Settings,
) -> list[dict]:
    """For each request: `success`, and `ends` of its plans, with at most `settings.replans` plans after the first.

    Args:
        asked: the requests.
        first: keyframes (F, 4) of each one's first plan.
        planner: makes the others.
        mode: text, trajectory or both.
        net: the read-out.
        world: the open world.
        settings: `replans`, `follow_path`, and those that `choose` needs.
    """
    attempts = [Attempt(item, keys) for item, keys in zip(asked, first, strict=True)]
    for number in range(settings.replans + 1):
        waiting = [attempt for attempt in attempts if not attempt.ended]
        if number and waiting:
            now = [replace(attempt.asked, seed=attempt.asked.request.seed + number) for attempt in waiting]
            choices = choose(planner, now, mode, net, settings)
            for attempt, choice in zip(waiting, choices, strict=True):
                attempt.keys = choice.best.keys(settings.follow_path)
        for attempt in waiting:
            advance(attempt, world, last=number == settings.replans)
    return [{"success": attempt.success, "ends": attempt.ends} for attempt in attempts]


def advance(attempt: Attempt, world: World, last: bool) -> None:
    """Execute an attempt's next plan, the last one to its end, others until they get stuck; then look again."""
    rollout = world.start(attempt.asked.request, len(attempt.asked.truth), attempt.asked.spacing)
    try:
        for keys in attempt.executed:
            rollout.carry_out(keys, until_stalled=True, pictures=False)
        done = rollout.carry_out(attempt.keys, until_stalled=not last, pictures=False)
    except UnreachableError:
        attempt.ends.append("unreachable")
        attempt.ended = True
        return
    attempt.executed.append(attempt.keys)
    attempt.success = bool(rollout.success)
    attempt.ended = bool(last or rollout.success or rollout.over)
    attempt.ends.append(_end(rollout, done))
    if not attempt.ended:
        attempt.asked = _seen_now(attempt.asked, rollout, done)


def _end(rollout: Rollout, done: Executed) -> str:
    if rollout.success:
        return "success"
    return "steps" if rollout.over else "stalled" if done.stalled else "end"


def _seen_now(asked: Asked, rollout: Rollout, done: Executed) -> Asked:
    """The request with the current picture, and with the rest of its path after the keyframes that were reached."""
    picture, moves = rollout.frame(), len(asked.truth) - 1
    height, width = picture.shape[:2]
    tool_px = asked.view.see(done.tool_m[-1])[:2] * (width, height)
    return asked.later(picture, min(done.reached, moves - 1) / moves, tool_px)

"""Re-planning: execute the first frames of a plan, look, plan again."""

import numpy as np

from visual_planner.execution.keyframes import keyframes
from visual_planner.execution.readout import ReadoutNet
from worlds.errors import UnreachableError
from worlds.protocol import World

from ...errors import TrainingError
from ...model.pipeline import PlannerPipeline
from .planning import make_plans
from .requests import Asked
from .trial import rank

START, MOMENT = "start", "moment"
REPLAN_FROM = (START, MOMENT)
"Where a new plan begins: at the task's start, with the past kept in its frames, or at the current moment."


def replan(
    asked: Asked,
    planner: PlannerPipeline,
    mode: str,
    net: ReadoutNet,
    world: World,
    every: int,
    best_of: int = 1,
    follow_path: bool = False,
    begin: str = START,
) -> bool:
    """Whether the request is done when the rest is replanned after every few frames.

    From the start: every plan is of the whole task, and what has happened stays in its frames as the camera saw it, so
    only the rest is planned. From this moment: the picture of now is the new plan's first frame, and where a path is
    drawn, what is left of it is drawn; the first plan's rhythm is kept: after `every` of its moves there is a new plan
    for the rest. The last plan is executed to its end; a plan that the arm cannot follow ends the attempt.

    Args:
        asked: the request.
        planner: makes the plans.
        mode: text, trajectory or both.
        net: the read-out.
        world: a table with pictures of the planner's frame size.
        every: moves between plans.
        best_of: plans to choose from each time.
        follow_path: keep the end effector on the drawn path, where there is one.
        begin: one of `REPLAN_FROM`.

    Raises:
        TrainingError: `every` is not between 1 and the moves of a plan.
    """
    moves = planner.spec.layout.frames - 1
    if not 1 <= every <= moves:
        raise TrainingError(f"--replan must be 1 to {moves} frames, got {every}")
    rollout = world.start(asked.request, moves + 1, asked.spacing)
    now, seen = asked, [asked.first]
    for passed in range(0, moves, every):
        past = np.stack(seen) if begin == START else None
        plans = make_plans(planner, [now], mode, best_of, seen=None if past is None else past[None])[0]
        judged, order = rank(plans, now, mode, net)
        best = judged[order[0]]
        keys = keyframes(best.followed if follow_path else best.reading)
        if begin == START:
            part = keys[passed : passed + every + 1]
        else:
            part = keys if passed + every >= moves else keys[: _moves_to_make(every, passed, moves) + 1]
        try:
            done = rollout.carry_out(part)
        except UnreachableError:
            break
        if rollout.over:
            break
        seen += list(done.frames[1:])
        if begin == MOMENT and passed + every < moves:
            height, width = asked.first.shape[:2]
            tool_px = asked.view.see(done.tool_m[-1])[:2] * (width, height)
            now = asked.later(seen[-1], (passed + every) / moves, tool_px)
    return bool(rollout.success)


def _moves_to_make(every: int, passed: int, moves: int) -> int:
    """Moves of the running plan that stand for `every` moves of the first: a later plan covers less in as many."""
    return max(1, round(every * moves / (moves - passed)))

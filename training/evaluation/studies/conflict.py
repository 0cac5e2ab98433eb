"""If instruction and drawn path disagree about the object, which is followed, depending on guidance?"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import Field

from simulation.episode import PATH_POINTS, resample
from simulation.policy import demonstration
from simulation.scene import rng_for
from simulation.tasks import Task, is_done, possible_tasks
from visual_planner.execution.keyframes import keyframes
from worlds.jaco import JacoTable

from ...data.overlays.recorded import timed_trajectory
from ...errors import TrainingError
from ..charts import GREY, SERIES, figure
from ..closed_loop.planning import make_plans
from ..closed_loop.requests import Asked, Wording
from ..closed_loop.trial import read_plan
from ..statistics import wilson
from .base import Study, StudySettings, bench, by_side, markdown_table, method_lines, rate_cell

OUTCOMES = ("text", "trajectory", "neither")


class ConflictSettings(StudySettings):
    """Settings of this study."""

    modes: tuple[str, ...] = Field(("both",), description="the only mode with both conditions")
    guidance: tuple[float, ...] = Field(
        (1.0, 2.0, 3.5, 5.0, 8.0), description="values of the embedded guidance to test"
    )


def measure(settings: ConflictSettings, out: Path) -> dict:
    """Which request is fulfilled when the words name one object and the path is drawn for another.

    Raises:
        TrainingError: no scene allows the task on a second object.
    """
    result: dict = {"guidance": {}}
    with bench(settings) as b:
        pairs = [(asked, other) for asked in b.asked if (other := other_task(asked)) is not None]
        if not pairs:
            raise TrainingError("no scene allows its task on another object: ask for more scenes")
        torn = [with_path_of(asked, other, b.world) for asked, other in pairs]
        for guidance in settings.guidance:
            plans = make_plans(b.planner, torn, "both", 1, Wording(guidance=guidance), settings.batch_size)
            outcomes = [
                outcome(group[0], asked, other, b.world, b.net)
                for group, (asked, other) in zip(plans, pairs, strict=True)
            ]
            result["guidance"][str(guidance)] = {name: share(outcomes, name) for name in OUTCOMES}
    return {**result, "conflicts": len(pairs)}


def other_task(asked: Asked) -> Task | None:
    """The same task on another object of the scene (any direction), or None."""
    own = asked.request.own
    others = [task for task in possible_tasks(own.scene, own.task.name) if task.slot != own.task.slot]
    same = [task for task in others if task.direction == own.task.direction]
    return (same or others or [None])[0]


def with_path_of(asked: Asked, other: Task, world: JacoTable) -> Asked:
    """The request with the path of a demonstration of another task in the same scene."""
    own, table = asked.request.own, world.table
    motion = demonstration(own.scene, other, rng_for(asked.seed, "motion"))
    table.reset(own.scene, motion.at(0)[1], own.camera)
    trace, _ = table.run(motion.at)
    size = asked.first.shape[:2]
    places = own.camera.project(resample(trace.tool_m, PATH_POINTS), *size)
    path = timed_trajectory(places, np.linspace(0.0, 1.0, PATH_POINTS), size).clipped("clamp")
    return replace(asked, trajectory=path)


def outcome(frames: np.ndarray, asked: Asked, other: Task, world: JacoTable, net) -> str:
    """Which request the plan fulfils: `text`, `trajectory` or `neither`."""
    reading = read_plan(frames, asked, net)
    rollout = world.start(asked.request, len(frames))
    trace, _ = rollout.carry_out(keyframes(reading)).own
    if rollout.success:
        return "text"
    return "trajectory" if is_done(other, asked.request.own.scene, trace) else "neither"


def share(outcomes: list[str], name: str) -> dict:
    """Fraction of outcomes with a name, with its interval."""
    count, n = outcomes.count(name), len(outcomes)
    low, high = wilson(count, n)
    return {"successes": count, "n": n, "rate": count / n, "low": low, "high": high}


def plot(result: dict):
    """Fraction of each outcome over guidance."""
    made, (axis,) = figure(6.0, 3.6)
    values = [float(value) for value in result["guidance"]]
    for name in OUTCOMES:
        rows = [row[name] for row in result["guidance"].values()]
        colour = SERIES.get(name, GREY)
        axis.fill_between(values, [r["low"] for r in rows], [r["high"] for r in rows], color=colour, alpha=0.15)
        axis.plot(values, [r["rate"] for r in rows], "o-", color=colour)
        label = f"  the {'words' if name == 'text' else 'path'}" if name != "neither" else "  neither"
        axis.text(values[-1], rows[-1]["rate"], label, color=colour, va="center")
    axis.set_title("The words request one object, the path another:\nwhich request is fulfilled?", fontsize=11)
    axis.set_ylim(0, 1)
    axis.set_xlabel("guidance")
    axis.set_ylabel("fraction of plans")
    axis.margins(x=0.2)
    return made


def answer(guidance: dict[str, dict[str, dict]]) -> str:
    """Which one wins at which guidance, as far as intervals that do not overlap tell."""
    found = by_side({value: (row["trajectory"], row["text"]) for value, row in guidance.items()})
    words = {1: "the drawn path wins", -1: "the instruction wins", 0: "it cannot be told which wins"}
    told = (f"{words[side]} at guidance {', '.join(found[side])}" for side in words if side in found)
    return f"**Answer:** {'; '.join(told)}."


def page(result: dict) -> str:
    """The study's page."""
    rows = [[value, *(rate_cell(row[name]) for name in OUTCOMES)] for value, row in result["guidance"].items()]
    return f"""# The instruction against the drawn path

{answer(result["guidance"])}

![Which one wins, over guidance](PLOT)

{markdown_table(["guidance", "the instruction wins", "the path wins", "neither"], rows)}

## Method
{method_lines(result["settings"])}
Of these scenes, {result["conflicts"]} allow the same task with a second object: the instruction names the first
object, and the path is that of a demonstration with the second. The executed plan is judged against both requests.

## Limits
The conflict is about the object only; the task is the same. *Neither* includes clumsy plans as well as undecided ones.
"""


STUDY = Study(ConflictSettings, measure, plot, page, ("jaco",))

"""How far ahead can one plan in more than one plan?

Chained: each plan starts from the last frame of the one before. Filled in: a first plan covers everything in its
frames; the next ones lead from one of its frames to a later one, which is their goal picture.
"""

from dataclasses import replace
from functools import partial, reduce
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from visual_planner.planner.chaining import cut_in_time, join_plans, joined_length

from ...model.pipeline import PlannerPipeline
from ...sections.data import Positive
from ..charts import GREY, SERIES, figure
from ..closed_loop.evaluation import draw_all, rate
from ..closed_loop.planning import make_plans
from ..closed_loop.requests import Asked
from ..closed_loop.trial import carry_out, execute_frames
from ..figures import hand_errors, pooled_median
from .base import Bench, Study, StudySettings, bench, by_side, markdown_table, method_lines, rate_cell

FILLED = """*Filled in*: one plan covers the whole task in its frames, and the others lead from frame to frame of it,
each with the later frame as its goal picture, the instruction and its part of the path. """


class HorizonSettings(StudySettings):
    """Settings of this study."""

    plans: tuple[Positive, ...] = Field((1, 2, 3), min_length=1, description="lengths of the chains [plans]")


def measure(settings: HorizonSettings, out: Path) -> dict:
    """Success and gripper error of chains of every length, of as many true frames, and of a static plan."""
    result: dict = {"chains": {}}
    with bench(settings) as b:
        for count in settings.plans:
            frames = joined_length(count, b.planner.spec.layout.frames, 1)
            asked = draw_all(b.world, settings.closed_loop(), frames)
            executed = partial(executed_rate, asked, b)
            row = {"frames": frames, "modes": {}}
            row["true_keyframes"] = rate([carry_out(item.keyframes, item, b.world) for item in asked], asked)
            row["true_frames"] = executed([item.truth for item in asked])
            still = [np.repeat(item.first[None], frames, axis=0) for item in asked]
            row["static_hand_error_px"] = per_frame(errors_of(still, asked))
            for mode in settings.modes:
                plans = chain(b.planner, asked, mode, count, settings.batch_size)
                errors = errors_of(plans, asked)
                median, (low, high) = pooled_median([scene[~np.isnan(scene)] for scene in errors])
                row["modes"][mode] = {
                    "success": executed(plans),
                    "hand_error_px": per_frame(errors),
                    "median_hand_error_px": {"value": median, "low": low, "high": high},
                }
                if can_fill(b.planner, mode, count):
                    filled = fill(b.planner, asked, mode, count, settings.batch_size)
                    row["modes"][mode]["filled"] = executed(filled)
            result["chains"][str(count)] = row
    return result


def chain(planner: PlannerPipeline, asked: list[Asked], mode: str, count: int, batch_size: int) -> list[np.ndarray]:
    """Joined plans (F, h, w, 3) uint8 of each request, `count` one after the other.

    Every plan gets the whole instruction and its part of the path in time; the first frame of all but the first plan is
    the last frame of the plan before, and is shown once.
    """
    parts: list[list[np.ndarray]] = []
    for number in range(count):
        firsts = [plan[-1] for plan in parts[-1]] if parts else [item.first for item in asked]
        now = [replace(part_of(item, number, count), first=first) for item, first in zip(asked, firsts, strict=True)]
        parts.append(one_each(planner, now, mode, batch_size))
    return joined(parts)


def can_fill(planner: PlannerPipeline, mode: str, count: int) -> bool:
    """Whether `count` plans can be put between frames of a first one: it has such frames, the planner knows goals."""
    moves = planner.spec.layout.frames - 1
    return count > 1 and moves % count == 0 and f"{mode}_goal" in planner.spec.modes


def fill(planner: PlannerPipeline, asked: list[Asked], mode: str, count: int, batch_size: int) -> list[np.ndarray]:
    """Joined plans as of `chain`, but each leads to the frame of a first plan that shows the end of its part.

    A frame in which two plans meet is that of the first plan.
    """
    coarse = one_each(planner, asked, mode, batch_size)
    every = (planner.spec.layout.frames - 1) // count
    parts = []
    for number in range(count):
        start, end = number * every, (number + 1) * every
        now = [
            replace(part_of(item, number, count), first=plan[start], truth=plan[start : end + 1])
            for item, plan in zip(asked, coarse, strict=True)
        ]
        made = one_each(planner, now, f"{mode}_goal", batch_size)
        parts.append([np.concatenate([plan[:-1], first[end][None]]) for plan, first in zip(made, coarse, strict=True)])
    return joined(parts)


def part_of(asked: Asked, number: int, count: int) -> Asked:
    """A request's part of several in time, each with noise of its own; its first frame is still that of the whole."""
    path = cut_in_time(asked.trajectory, number / count, (number + 1) / count)
    return replace(asked, trajectory=path, seed=asked.seed + number)


def one_each(planner: PlannerPipeline, asked: list[Asked], mode: str, batch_size: int) -> list[np.ndarray]:
    """One plan (F, h, w, 3) uint8 of each request."""
    return [plans[0] for plans in make_plans(planner, asked, mode, 1, None, batch_size)]


def joined(parts: list[list[np.ndarray]]) -> list[np.ndarray]:
    """For each request its plans (F, h, w, 3) uint8 of all parts, joined at the frames that neighbours share."""
    return [reduce(joined_with, plans) for plans in zip(*parts, strict=True)]


def joined_with(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Two plans (F, h, w, 3) uint8 joined at the frame that both have."""
    return join_plans(torch.from_numpy(before), torch.from_numpy(after)).numpy()


def executed_rate(asked: list[Asked], b: Bench, plans: list[np.ndarray]) -> dict:
    """Rate of success of executed plans (F, h, w, 3) uint8, one for each request."""
    done = [execute_frames(plan, item, b.net, b.world) for plan, item in zip(plans, asked, strict=True)]
    return rate(done, asked)


def errors_of(plans: list[np.ndarray], asked: list[Asked]) -> np.ndarray:
    """Distance [px] of the end effector from its true place (scenes, F - 1), NaN where it cannot be seen."""
    return np.array([hand_errors(item.truth, plan) for plan, item in zip(plans, asked, strict=True)])


def per_frame(errors: np.ndarray) -> list[float]:
    """Median over the scenes for each frame but the first (F - 1)."""
    return [float(np.median(column[~np.isnan(column)])) if (~np.isnan(column)).any() else 0.0 for column in errors.T]


def plot(result: dict):
    """End effector error over the frames, one panel per length of chain."""
    chains, modes = result["chains"], result["settings"]["modes"]
    made, axes = figure(3.3 * len(chains), 3.4, len(chains))
    highest = 1.1 * max(max(row["static_hand_error_px"]) for row in chains.values())
    for axis, (count, row) in zip(axes, chains.items(), strict=True):
        frames = np.arange(2, row["frames"] + 1)
        axis.plot(frames, row["static_hand_error_px"], color=GREY, linestyle="--", label="stands still")
        for mode in modes:
            axis.plot(frames, row["modes"][mode]["hand_error_px"], color=SERIES[mode], label=mode)
        each = (row["frames"] - 1) // int(count)
        for number in range(1, int(count)):
            axis.axvline(1 + number * each, color=GREY, linewidth=0.8, linestyle=":")
        axis.set(title=f"{row['frames']} frames, {count} plan{'s' * (count != '1')}", xlabel="frame", ylim=(0, highest))
    axes[0].set_ylabel("end effector error [px], median")
    axes[0].legend(frameon=False)
    return made


def answer(chains: dict[str, dict]) -> str:
    """Where longer plans succeed less often than the shortest, as far as intervals that do not overlap tell."""
    first, *longer = chains.values()
    words = {-1: "less often", 1: "more often", 0: "with no difference that could be told"}
    told = []
    for row in longer:
        for kind, key in (("chained", "success"), ("filled in", "filled")):
            modes = {mode: own for mode, own in row["modes"].items() if key in own}
            sides = by_side({mode: (own[key], first["modes"][mode]["success"]) for mode, own in modes.items()})
            if sides:
                parts = (f"{words[side]} ({', '.join(sides[side])})" for side in words if side in sides)
                told.append(f"{kind} over {row['frames']} frames {', '.join(parts)}")
    if not told:
        return "**Answer:** only one length was planned."
    return f"**Answer:** compared with {first['frames']} frames, plans succeed {'; '.join(told)}."


def page(result: dict) -> str:
    """The study's page."""
    modes = result["settings"]["modes"]

    def cell(row: dict) -> str:
        error = row["median_hand_error_px"]
        distance = f"{error['value']:.1f} px ({error['low']:.1f} to {error['high']:.1f})"
        filled = f"; filled in {rate_cell(row['filled'])}" if "filled" in row else ""
        return f"{rate_cell(row['success'])}; end effector {distance}{filled}"

    rows = [
        [f"{row['frames']} ({count})", *(cell(row["modes"][mode]) for mode in modes), rate_cell(row["true_frames"])]
        for count, row in result["chains"].items()
    ]
    was_filled = any("filled" in mode for row in result["chains"].values() for mode in row["modes"].values())
    filled = FILLED if was_filled else ""
    return f"""# Chained plans: how far ahead?

The same motions over more and more frames, planned by chaining: every plan starts from the last frame that the previous
plan generated, without observing the world.

{answer(result["chains"])}

![End effector error over the frames](PLOT)

{markdown_table(["frames (plans)", *modes, "true frames"], rows)}

## Method
{method_lines(result["settings"])}
In a chain, every plan is given the whole instruction and its own part of the drawn path. {filled}The end effector is
located by its colour in plan and demonstration; if a plan does not show it, it counts as still at its start. Dotted
lines mark where one plan ends and the next begins.

## Limits
The planner was trained on whole tasks in nine frames, and on what is left of them from a later moment; here it has to
plan parts of a task, at a slower pace than in training.
"""


STUDY = Study(HorizonSettings, measure, plot, page, ("jaco",))  # it finds the gripper by its colour

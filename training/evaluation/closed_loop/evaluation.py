"""Success of plans in a world: of a planner in every mode, and of what it is compared with."""

from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from visual_planner.planner.prompts import parts_of
from worlds.protocol import World

from ...model.pipeline import PlannerPipeline
from ..colours import colour_kept
from .planning import Choice, choose
from .rates import difference, rate
from .replanning.replan import replan, replan_when_departed
from .replanning.stalled import replan_when_stalled
from .requests import Asked, Wording, draw
from .settings import Settings
from .trial import Judged, attempt, carry_out, execute_frames, execute_plan

Look = Callable[[Judged, Asked, str], None]
"""Called with the plan that is executed first, its request and the mode."""

__all__ = ["Settings", "bounds", "difference", "draw_all", "evaluate_planner", "plan_and_execute", "rate"]


def draw_all(world: World, settings: Settings, frames: int, runs: list[tuple[int, str, str]] | None = None) -> list:
    """The requests of the settings' scenes (or of `runs`), with their demonstrations in `frames` frames."""
    runs = settings.runs() if runs is None else runs
    return [
        draw(
            world, seed, task, settings.wordings, settings.viewpoint(camera), frames, settings.keyframes,
            settings.disturb, settings.disturb_strength,
        )
        for seed, task, camera in tqdm(runs, desc="scenes", leave=False, disable=None)
    ]  # fmt: skip


def plan_and_execute(
    planner: PlannerPipeline,
    asked: list[Asked],
    mode: str,
    world: World,
    net,
    settings: Settings,
    wording: Wording | None = None,
    look: Look | None = None,
) -> list[dict]:
    """One row per request: success of the best-looking plan and of every plan, with how it looked before execution."""
    choices = choose(planner, asked, mode, net, settings, wording)
    rows = [
        _row(choice, item, mode, world, settings)
        for item, choice in zip(_bar(asked, f"{mode}: execution"), choices, strict=True)
    ]
    if look is not None:
        for item, choice in zip(asked, choices, strict=True):
            look(choice.best, item, mode)
    for row, again in zip(rows, _replanned(planner, asked, choices, mode, world, net, settings), strict=False):
        row["replanned"] = again
    return rows


def _row(choice: Choice, item: Asked, mode: str, world: World, settings: Settings) -> dict:
    """Outcome of the plans for one request."""
    tried = [attempt(plan.keys(settings.follow_path), item, world) for plan in choice.judged]
    done, first = [success for success, _ in tried], choice.order[0]
    row = {
        "seed": item.seed, "task": item.task, "instruction": item.instruction, "success": done[first],
        "order": choice.order, "seconds_a_plan": round(choice.seconds, 4),
        "plans": [
            {"success": success, "score": plan.score.total, "parts": plan.score.parts,
             "checks": {check.name: check.value for check in plan.report.checks},
             "sound": plan.report.ok, "objects_left": plan.objects_left, **plan.reading.as_dict()}
            for success, plan in zip(done, choice.judged, strict=True)
        ],
    }  # fmt: skip
    if parts_of(mode).path and not settings.follow_path:
        row["success_on_path"] = execute_plan(choice.best, item, world, follow_path=True)
    told = colour_kept(choice.judged[first].frames, item.truth, item.request.held, item.request.colours)
    row |= {} if told is None else {"colour": told}
    if settings.disturb:
        row["disturbed"] = list(tried[first][1])
    if choice.rejected is not None:
        row["rejected"] = choice.rejected
    return row


def _replanned(
    planner: PlannerPipeline, asked: list[Asked], choices: list[Choice], mode: str, world: World, net,
    settings: Settings,
) -> list[dict]:  # fmt: skip
    """Outcome of re-planning by the settings' rule for each request; empty if they ask for none."""
    if settings.rule == "stalled":
        first = [choice.best.keys(settings.follow_path) for choice in choices]
        return replan_when_stalled(asked, first, planner, mode, net, world, settings)
    bar = tqdm(asked, desc=f"{mode}: re-planning", leave=False, disable=None)
    if settings.rule == "departed":
        return [
            replan_when_departed(item, choice.best, planner, mode, net, world, settings)
            for item, choice in zip(bar, choices, strict=True)
        ]
    if settings.rule == "after":
        return [{"success": replan(item, planner, mode, net, world, settings)} for item in bar]
    return []


def planner_rows(
    planner: PlannerPipeline, asked: list[Asked], world: World, net, settings: Settings, look: Look | None = None
) -> dict:
    """For every mode, one row per request as `plan_and_execute` returns it, and the outcome of re-planning."""
    return {mode: plan_and_execute(planner, asked, mode, world, net, settings, look=look) for mode in settings.modes}


def evaluate_planner(planner: PlannerPipeline, asked: list[Asked], world: World, net, settings: Settings) -> dict:
    """Rates of every mode, as `planner_rates` returns them, and the rows behind them (`plans`)."""
    rows = planner_rows(planner, asked, world, net, settings)
    return {**planner_rates(rows, asked), "plans": rows}


def planner_rates(plans: dict[str, list[dict]], asked: list, rate_of: Callable[[list, list], dict] = rate) -> dict:
    """Rates of every mode: `success` (of the best plan, or with re-planning); `single` and `any` if they differ.

    If a path is drawn, also `on_path`: the same plans with the end effector kept on it. If plans were rejected, how
    many (`rejected`); if the world was disturbed, in how many scenes each kind happened (`disturbed`). If an object is
    held, in how many scenes it keeps its colour in the plan that is executed first (`colour_kept`).

    Args:
        plans: by mode, rows of `planner_rows`.
        asked: for each row, an object with its task.
        rate_of: of successes and what was asked.
    """
    result: dict = {"success": {}}
    for mode, rows in plans.items():
        kept = [row["success"] for row in rows]
        if on_path := [row["success_on_path"] for row in rows if "success_on_path" in row]:
            result.setdefault("on_path", {})[mode] = rate_of(on_path, asked)
        if any(len(row["plans"]) > 1 for row in rows):
            single = [row["plans"][0]["success"] for row in rows]
            result.setdefault("single", {})[mode] = rate_of(single, asked)
            done = [[plan["success"] for plan in row["plans"]] for row in rows]
            result.setdefault("any", {})[mode] = rate_of([any(group) for group in done], asked)
            # against the mean over the plans: in expectation the same as against the first, but with less variance
            result.setdefault("best_of_gain", {})[mode] = difference(kept, [np.mean(group) for group in done])
        if "replanned" in rows[0]:
            again = [row["replanned"]["success"] for row in rows]
            result.setdefault("once", {})[mode] = rate_of(kept, asked)
            result.setdefault("replan_gain", {})[mode] = difference(again, kept)
            kept = again
        result["success"][mode] = rate_of(kept, asked)
        if "rejected" in rows[0]:
            result.setdefault("rejected", {})[mode] = {
                "plans": sum(len(row["plans"]) for row in rows),
                "rejected": sum(row["rejected"] for row in rows),
                "scenes_without_a_good_one": sum(row["rejected"] == len(row["plans"]) for row in rows),
            }
        if of_held := [(row["colour"]["kept"], item) for row, item in zip(rows, asked, strict=True) if "colour" in row]:
            result.setdefault("colour_kept", {})[mode] = rate_of(*zip(*of_held, strict=True))
        if "disturbed" in rows[0]:
            kinds = dict.fromkeys(kind for row in rows for kind in row["disturbed"])
            result.setdefault("disturbed", {})[mode] = {
                kind: sum(kind in row["disturbed"] for row in rows) for kind in kinds
            }  # fmt: skip
    return result


def bound_rows(
    asked: list[Asked], world: World, net, planner: PlannerPipeline | None = None, follow_path: bool = False
) -> dict[str, list[bool]]:
    """Success of each request without a plan; see `bounds`. The first rows are bounds, the others baselines."""
    still = [np.repeat(item.first[None], len(item.truth), axis=0) for item in asked]
    rows = {
        "true_keyframes": [carry_out(item.keyframes, item, world) for item in _bar(asked, "true keyframes")],
        "true_frames": [execute_frames(item.truth, item, net, world) for item in _bar(asked, "true frames")],
        "static": [execute_frames(frames, item, net, world) for frames, item in zip(still, asked, strict=True)],
    }
    if follow_path:
        rows["static_on_path"] = [
            execute_frames(frames, item, net, world, True) for frames, item in zip(still, asked, strict=True)
        ]
    if planner is not None:
        decoded = (planner.through_autoencoder(item.truth) for item in _bar(asked, "autoencoder"))
        rows["autoencoder"] = [
            execute_frames(frames, item, net, world) for frames, item in zip(decoded, asked, strict=True)
        ]
    return rows


def _bar(asked: list[Asked], name: str) -> tqdm:
    return tqdm(asked, desc=name, leave=False, disable=None)


BOUNDS = ("true_keyframes", "true_frames", "autoencoder")
"""Rows of `bound_rows` that no plan can be expected to beat; the others must be beaten."""


def bound_rates(rows: dict[str, list[bool]], asked: list, rate_of: Callable[[list, list], dict] = rate) -> dict:
    """Rates of `bound_rows`, in groups; `rate_of` as in `planner_rates`."""
    rates = {name: rate_of(done, asked) for name, done in rows.items()}
    return {
        "bounds": {name: rates[name] for name in BOUNDS if name in rates},
        "baselines": {name: row for name, row in rates.items() if name not in BOUNDS},
    }


def bounds(
    asked: list[Asked], world: World, net, planner: PlannerPipeline | None = None, follow_path: bool = False
) -> dict:
    """Bounds that no plan can be expected to beat, and baselines that it must; a planner adds its autoencoder's bound.

    That bound executes true frames that went through the autoencoder. If plans are executed on the drawn path, so is
    the static plan ("static_on_path"), which shows what the path alone achieves.
    """
    return bound_rates(bound_rows(asked, world, net, planner, follow_path), asked)

"""Success of plans in a world: of a planner in every mode, and of what it is held against."""

import time

import numpy as np
from tqdm import tqdm

from visual_planner.execution.keyframes import keyframes
from worlds.protocol import World

from ...model.pipeline import PlannerPipeline
from .planning import make_plans
from .rates import difference, rate
from .replan import replan
from .requests import Asked, Wording, draw
from .settings import Settings
from .stalled import replan_when_stalled
from .trial import carry_out, execute_frames, execute_plan, rank

__all__ = ["Settings", "bounds", "difference", "draw_all", "evaluate_planner", "plan_and_execute", "rate"]


def draw_all(world: World, settings: Settings, frames: int, runs: list[tuple[int, str, str]] | None = None) -> list:
    """The requests of the settings' scenes (or of some of them), their demonstrations in so many frames."""
    runs = settings.runs() if runs is None else runs
    return [
        draw(world, seed, task, settings.wordings, settings.viewpoint(camera), frames, settings.keyframes)
        for seed, task, camera in tqdm(runs, desc="scenes", leave=False, disable=None)
    ]


def plan_and_execute(
    planner: PlannerPipeline,
    asked: list[Asked],
    mode: str,
    world: World,
    net,
    settings: Settings,
    wording: Wording | None = None,
) -> list[dict]:
    """One row a request: success of the best-looking plan and of every one, with what was seen before execution."""
    start = time.perf_counter()
    how = wording, settings.batch_size
    plans = make_plans(planner, asked, mode, settings.best_of, *how, steps=settings.steps or None)
    seconds = (time.perf_counter() - start) / (len(asked) * settings.best_of)
    rows, first = [], []
    for item, group in zip(_bar(asked, f"{mode}: execution"), plans, strict=True):
        judged, order = rank(group, item, mode, net)
        done = [execute_plan(plan, item, world, settings.follow_path) for plan in judged]
        best = judged[order[0]]
        first.append(keyframes(best.followed if settings.follow_path else best.reading))
        rows.append(
            {
                "seed": item.seed, "task": item.task, "instruction": item.instruction, "success": done[order[0]],
                "order": order, "seconds_a_plan": round(seconds, 4),
                "plans": [
                    {"success": success, "score": plan.score.total, "parts": plan.score.parts,
                     "checks": {check.name: check.value for check in plan.report.checks},
                     "sound": plan.report.ok, "objects_left": plan.objects_left, **plan.reading.as_dict()}
                    for success, plan in zip(done, judged, strict=True)
                ],
            }
        )  # fmt: skip
        if mode != "text" and not settings.follow_path:
            rows[-1]["success_on_path"] = execute_plan(best, item, world, follow_path=True)
    if settings.replans:
        for row, again in zip(
            rows, replan_when_stalled(asked, first, planner, mode, net, world, settings), strict=True
        ):
            row["replanned"] = again
    return rows


def planner_rows(planner: PlannerPipeline, asked: list[Asked], world: World, net, settings: Settings) -> dict:
    """Of every mode, a row a request, as `plan_and_execute` gives it, and what re-planning did."""
    result = {}
    for mode in settings.modes:
        rows = plan_and_execute(planner, asked, mode, world, net, settings)
        if settings.replan:
            how = settings.replan, settings.best_of, settings.follow_path, settings.replan_from
            for row, item in zip(
                rows, tqdm(asked, desc=f"{mode}: re-planning", leave=False, disable=None), strict=True
            ):
                row["replanned"] = {"success": replan(item, planner, mode, net, world, *how)}
        result[mode] = rows
    return result


def evaluate_planner(planner: PlannerPipeline, asked: list[Asked], world: World, net, settings: Settings) -> dict:
    """Rates of every mode, as `planner_rates` gives them, and the rows behind them (`plans`)."""
    rows = planner_rows(planner, asked, world, net, settings)
    return {**planner_rates(rows, asked), "plans": rows}


def planner_rates(plans: dict[str, list[dict]], asked: list) -> dict:
    """Rates of every mode: `success` (the best kept, or re-planned), `single` and `any` beside it where they differ.

    Where a path is drawn also `on_path`: the same plans with the end effector kept on it.

    Args:
        plans: by mode, rows of `planner_rows`.
        asked: of each row, something that has its task.
    """
    result: dict = {"success": {}}
    for mode, rows in plans.items():
        kept = [row["success"] for row in rows]
        if on_path := [row["success_on_path"] for row in rows if "success_on_path" in row]:
            result.setdefault("on_path", {})[mode] = rate(on_path, asked)
        if len(rows[0]["plans"]) > 1:
            single = [row["plans"][0]["success"] for row in rows]
            result.setdefault("single", {})[mode] = rate(single, asked)
            done = [[plan["success"] for plan in row["plans"]] for row in rows]
            result.setdefault("any", {})[mode] = rate([any(group) for group in done], asked)
            # against one of the plans at random: the same in the mean as against the first, with less of chance in it
            result.setdefault("best_of_gain", {})[mode] = difference(kept, [np.mean(group) for group in done])
        if "replanned" in rows[0]:
            again = [row["replanned"]["success"] for row in rows]
            result.setdefault("once", {})[mode] = rate(kept, asked)
            result.setdefault("replan_gain", {})[mode] = difference(again, kept)
            kept = again
        result["success"][mode] = rate(kept, asked)
    return result


def bound_rows(
    asked: list[Asked], world: World, net, planner: PlannerPipeline | None = None, follow_path: bool = False
) -> dict[str, list[bool]]:
    """Success of each request by what is no plan; see `bounds`. The first rows are bounds, the others baselines."""
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


def bound_rates(rows: dict[str, list[bool]], asked: list) -> dict:
    """Rates of `bound_rows`, in groups."""
    rates = {name: rate(done, asked) for name, done in rows.items()}
    return {
        "bounds": {name: rates[name] for name in BOUNDS if name in rates},
        "baselines": {name: row for name, row in rates.items() if name not in BOUNDS},
    }


def bounds(
    asked: list[Asked], world: World, net, planner: PlannerPipeline | None = None, follow_path: bool = False
) -> dict:
    """What no plan can be expected to beat (with a planner also true frames through its autoencoder), and must beat.

    Where plans are executed on the drawn path, the static plan is too ("static_on_path"): what the path alone does.
    """
    return bound_rates(bound_rows(asked, world, net, planner, follow_path), asked)

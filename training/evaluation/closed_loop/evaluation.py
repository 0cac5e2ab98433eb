"""Success of plans in the simulator: of a planner in every mode, and of what it is held against."""

import time
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from simulation.camera import FRONT, MAX_JITTER_M, MAX_TURN_DEG
from simulation.tasks import TASKS
from simulation.world import World
from visual_planner.planner.prompts import MODES

from ...errors import TrainingError
from ...model.pipeline import PlannerPipeline
from ..statistics import bootstrap, wilson
from .planning import make_plans
from .replan import REPLAN_FROM, START, replan
from .requests import Asked, Wording, draw, seeds_and_tasks
from .trial import carry_out, execute_frames, execute_plan, rank


@dataclass(frozen=True)
class Settings:
    """What is evaluated.

    Args:
        modes: of planning.
        first_seed: of the scenes.
        scenes: how many for each mode.
        tasks: which, in turn.
        wordings: "train", "held_out" or "all".
        camera_jitter_m: spread of the camera's place [m].
        camera_turn_deg: where it stands without that, carried so far around the table [degrees].
        best_of: plans of which the best-looking is kept.
        replan: moves after which is planned again; 0: never.
        replan_from: where a new plan begins: at the task's "start", its past kept, or at this "moment".
        follow_path: keep the gripper on the drawn path; the plan's frames then say height, gripper and nothing else.
        batch_size: plans made at once.
    """

    modes: tuple[str, ...] = MODES
    first_seed: int = 9_000_000
    scenes: int = 100
    tasks: tuple[str, ...] = TASKS
    wordings: str = "held_out"
    camera_jitter_m: float = 0.0
    camera_turn_deg: float = 0.0
    best_of: int = 1
    replan: int = 0
    replan_from: str = START
    follow_path: bool = False
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name, least in (("first_seed", 0), ("scenes", 1), ("best_of", 1), ("replan", 0), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise TrainingError(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(self, name)}")
        if self.replan_from not in REPLAN_FROM:
            raise TrainingError(f"--replan-from must be {' or '.join(REPLAN_FROM)}, got {self.replan_from!r}")
        if unknown := [name for name in self.tasks if name not in TASKS]:
            raise TrainingError(f"--tasks must be some of {', '.join(TASKS)}, got {', '.join(unknown)}")
        if not 0 <= self.camera_jitter_m <= MAX_JITTER_M:
            raise TrainingError(f"--camera-jitter must be 0 to {MAX_JITTER_M} m, got {self.camera_jitter_m}")
        if not abs(self.camera_turn_deg) <= MAX_TURN_DEG:
            raise TrainingError(
                f"--camera-turn must be -{MAX_TURN_DEG} to {MAX_TURN_DEG} degrees, got {self.camera_turn_deg}"
            )


def draw_all(world: World, settings: Settings, frames: int) -> list[Asked]:
    """The requests of the settings' seeds, their demonstrations in so many frames."""
    wanted = seeds_and_tasks(settings.first_seed, settings.scenes, settings.tasks)
    camera = FRONT.turned(settings.camera_turn_deg)
    return [
        draw(world, seed, task, settings.wordings, settings.camera_jitter_m, frames, camera)
        for seed, task in tqdm(wanted, desc="scenes")
    ]


def rate(successes: list[bool], asked: list[Asked]) -> dict:
    """Successes with their interval, and the same for each task."""

    def one(chosen: list[bool]) -> dict:
        low, high = wilson(sum(chosen), len(chosen))
        share = sum(chosen) / max(1, len(chosen))
        return {"successes": sum(chosen), "n": len(chosen), "rate": share, "low": low, "high": high}

    names = dict.fromkeys(item.task.name for item in asked)
    pairs = list(zip(successes, asked, strict=True))
    return {
        **one(successes),
        "tasks": {name: one([s for s, item in pairs if item.task.name == name]) for name in names},
    }


def difference(after: list, before: list) -> dict:
    """Mean difference of success (or of a fraction of successes) on the same scenes, with its interval."""
    gained = np.asarray(after, float) - np.asarray(before, float)
    low, high = bootstrap(gained)
    return {"difference": float(gained.mean()), "low": low, "high": high}


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
    plans = make_plans(planner, asked, mode, settings.best_of, wording, settings.batch_size)
    seconds = (time.perf_counter() - start) / (len(asked) * settings.best_of)
    rows = []
    for item, group in zip(tqdm(asked, desc=f"{mode}: execution"), plans, strict=True):
        judged, order = rank(group, item, mode, net)
        done = [execute_plan(plan, item, world, settings.follow_path) for plan in judged]
        rows.append(
            {
                "seed": item.seed, "task": item.task.name, "instruction": item.instruction, "success": done[order[0]],
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
            rows[-1]["success_on_path"] = execute_plan(judged[order[0]], item, world, follow_path=True)
    return rows


def evaluate_planner(planner: PlannerPipeline, asked: list[Asked], world: World, net, settings: Settings) -> dict:
    """Rates of every mode: `success` (the best kept, or re-planned), `single` and `any` beside it where they differ.

    Where a path is drawn also `on_path`: the same plans with the end effector kept on it.
    """
    result: dict = {"success": {}, "plans": {}}
    for mode in settings.modes:
        rows = plan_and_execute(planner, asked, mode, world, net, settings)
        result["plans"][mode] = rows
        single = [row["plans"][0]["success"] for row in rows]
        kept = [row["success"] for row in rows]
        if on_path := [row["success_on_path"] for row in rows if "success_on_path" in row]:
            result.setdefault("on_path", {})[mode] = rate(on_path, asked)
        if settings.best_of > 1:
            result.setdefault("single", {})[mode] = rate(single, asked)
            done = [[plan["success"] for plan in row["plans"]] for row in rows]
            result.setdefault("any", {})[mode] = rate([any(group) for group in done], asked)
            # against one of the plans at random: the same in the mean as against the first, with less of chance in it
            result.setdefault("best_of_gain", {})[mode] = difference(kept, [np.mean(group) for group in done])
        if settings.replan:
            how = settings.replan, settings.best_of, settings.follow_path, settings.replan_from
            again = [replan(item, planner, mode, net, world, *how) for item in tqdm(asked, desc=f"{mode}: re-planning")]
            result.setdefault("once", {})[mode] = rate(kept, asked)
            result.setdefault("replan_gain", {})[mode] = difference(again, kept)
            kept = again
        result["success"][mode] = rate(kept, asked)
    return result


def bounds(
    asked: list[Asked], world: World, net, planner: PlannerPipeline | None = None, follow_path: bool = False
) -> dict:
    """What no plan can be expected to beat (with a planner also true frames through its autoencoder), and must beat.

    Where plans are executed on the drawn path, the static plan is too ("static_on_path"): what the path alone does.
    """
    true_keys = [carry_out(item.keyframes, item, world) for item in tqdm(asked, desc="true keyframes")]
    true_frames = [execute_frames(item.truth, item, net, world) for item in tqdm(asked, desc="true frames")]
    still = [np.repeat(item.first[None], len(item.truth), axis=0) for item in asked]
    static = [execute_frames(frames, item, net, world) for frames, item in zip(still, asked, strict=True)]
    result = {
        "bounds": {"true_keyframes": rate(true_keys, asked), "true_frames": rate(true_frames, asked)},
        "baselines": {"static": rate(static, asked)},
    }
    if follow_path:
        moved = [execute_frames(frames, item, net, world, True) for frames, item in zip(still, asked, strict=True)]
        result["baselines"]["static_on_path"] = rate(moved, asked)
    if planner is not None:
        decoded = (planner.through_autoencoder(item.truth) for item in tqdm(asked, desc="autoencoder"))
        done = [execute_frames(frames, item, net, world) for frames, item in zip(decoded, asked, strict=True)]
        result["bounds"]["autoencoder"] = rate(done, asked)
    return result

"""`python -m training evaluate --closed-loop`: success of plans in the simulator, beside bounds and baselines."""

import argparse
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from simulation.camera import FRONT
from simulation.dataset import MAX_TURN_DEG
from simulation.errors import SimulationError
from simulation.tasks import TASKS
from simulation.wordings import WORDING_SETS
from simulation.world import World
from visual_planner.prompts import MODES

from ..errors import TrainingError
from ..files import write_json
from ..pipeline import PlannerPipeline, open_planner
from ..readout.weights import open_readout
from ..statistics import bootstrap, wilson
from .execution import carry_out, execute_frames, execute_plan, rank
from .planning import make_plans
from .replan import replan
from .requests import Asked, Wording, draw, seeds_and_tasks

FORMAT = "visual_planner.closed_loop"
ROOT = Path(__file__).resolve().parents[2]
PROTOCOL = (
    "frames -> read-out (place and gripper of each frame) -> keyframes -> joint trajectory within limits -> MuJoCo -> "
    "the task's check; seeds follow each other, tasks in turn, no scene is left out; 95% intervals: Wilson for rates, "
    "bootstrap over scenes for differences; the path drawn in modes trajectory and both is that of the scene's "
    "scripted demonstration; with follow_path the hand is kept on it, and "
    "the frames say only distance and gripper; true keyframes: those of the demonstration; true frames: its pictures "
    "through the read-out; autoencoder: the same after the planner's autoencoder; static: the first frame "
    "repeated; no_lora: the base model alone, given the same"
)


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
        follow_path: keep the hand on the drawn path; the plan's frames then say distance, gripper and nothing else.
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
    follow_path: bool = False
    batch_size: int = 16

    def __post_init__(self) -> None:
        for name, least in (("first_seed", 0), ("scenes", 1), ("best_of", 1), ("replan", 0), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise TrainingError(f"--{name.replace('_', '-')} must be at least {least}, got {getattr(self, name)}")
        if unknown := [name for name in self.tasks if name not in TASKS]:
            raise TrainingError(f"--tasks must be some of {', '.join(TASKS)}, got {', '.join(unknown)}")
        if not 0 <= self.camera_jitter_m <= 0.2:
            raise TrainingError(f"--camera-jitter must be 0 to 0.2 m, got {self.camera_jitter_m}")
        if not abs(self.camera_turn_deg) <= MAX_TURN_DEG:
            raise TrainingError(
                f"--camera-turn must be -{MAX_TURN_DEG} to {MAX_TURN_DEG} degrees, got {self.camera_turn_deg}"
            )


def shown(path: Path) -> str:
    """A path as results name it: inside the project from its root on, so that no machine's folders stand in them."""
    path = path.resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


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
    """Mean difference of success (or of shares of it) on the same scenes, with its interval."""
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
    return rows


def evaluate_planner(planner: PlannerPipeline, asked: list[Asked], world: World, net, settings: Settings) -> dict:
    """Rates of every mode: `success` (the best kept, or re-planned), `single` and `any` beside it where they differ."""
    result: dict = {"success": {}, "plans": {}}
    for mode in settings.modes:
        rows = plan_and_execute(planner, asked, mode, world, net, settings)
        result["plans"][mode] = rows
        single = [row["plans"][0]["success"] for row in rows]
        kept = [row["success"] for row in rows]
        if settings.best_of > 1:
            result.setdefault("single", {})[mode] = rate(single, asked)
            done = [[plan["success"] for plan in row["plans"]] for row in rows]
            result.setdefault("any", {})[mode] = rate([any(group) for group in done], asked)
            # against one of the plans at random: the same in the mean as against the first, with less of chance in it
            result.setdefault("best_of_gain", {})[mode] = difference(kept, [np.mean(group) for group in done])
        if settings.replan:
            again = [
                replan(item, planner, mode, net, world, settings.replan, settings.best_of, settings.follow_path)
                for item in tqdm(asked, desc=f"{mode}: re-planning")
            ]
            result.setdefault("once", {})[mode] = rate(kept, asked)
            result.setdefault("replan_gain", {})[mode] = difference(again, kept)
            kept = again
        result["success"][mode] = rate(kept, asked)
    return result


def bounds(
    asked: list[Asked], world: World, net, planner: PlannerPipeline | None = None, follow_path: bool = False
) -> dict:
    """What no plan can be expected to beat (with a planner also true frames through its autoencoder), and must beat.

    Where plans are carried out on the drawn path, the static plan is too ("static_on_path"): what the path alone does.
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


def table(result: dict) -> str:
    """The figures as a text table."""
    lines = [f"{'':18}{'done':>10}{'rate':>7}{'95% interval':>16}   each task"]

    def add(name: str, row: dict) -> None:
        tasks = "  ".join(f"{task} {r['successes']}/{r['n']}" for task, r in row["tasks"].items())
        interval = f"{row['low']:.0%} to {row['high']:.0%}"
        lines.append(f"{name:18}{row['successes']:>6}/{row['n']:<3}{row['rate']:>7.0%}{interval:>16}   {tasks}")

    for name, row in result.get("bounds", {}).items():
        add(name, row)
    for group in ("success", "single", "any", "once"):
        for mode, row in result.get(group, {}).items():
            add(mode if group == "success" else f"{mode} ({group})", row)
    for name, row in result.get("baselines", {}).items():
        for mode, one in row.items() if name == "no_lora" else ((None, row),):
            add(name if mode is None else f"{name} {mode}", one)
    return "\n".join(lines)


def run(options: argparse.Namespace) -> dict:
    """Evaluate and write the JSON file; returns what is in it.

    Raises:
        TrainingError: planner, read-out or settings cannot be used.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    modes = MODES if options.mode == "all" else (options.mode,)
    settings = Settings(
        modes, options.first_seed, options.scenes, tuple(options.tasks.split(",")), options.wordings,
        options.camera_jitter, options.camera_turn, options.best_of, options.replan, options.follow_path,
        options.batch_size,
    )  # fmt: skip
    planner, lora = open_planner(options.planner, options.lora)
    spec, net = planner.spec, open_readout(options.readout)
    if missing := [mode for mode in modes if mode not in spec.modes]:
        raise TrainingError(f"--mode must be one of {', '.join(spec.modes)} for {lora}, got {', '.join(missing)}")
    if spec.cell_height != spec.cell_width:
        raise TrainingError(f"the simulator's frames are square, but {lora} plans {spec.cell_height}x{spec.cell_width}")
    try:
        with World(spec.cell_height) as world:
            asked = draw_all(world, settings, spec.layout.frames)
            used = {"planner": options.planner, "lora": lora, "readout": options.readout}
            result = {"format": FORMAT, "version": 1, "protocol": PROTOCOL, "settings": asdict(settings)}
            result |= {name: shown(path) for name, path in used.items()}
            result |= evaluate_planner(planner, asked, world, net, settings)
            if not options.no_baselines:
                result |= bounds(asked, world, net, planner, settings.follow_path)
                base = PlannerPipeline.load(options.planner, None, spec)
                once = replace(settings, best_of=1)
                rows = {mode: plan_and_execute(base, asked, mode, world, net, once) for mode in modes}
                result["baselines"]["no_lora"] = {
                    mode: rate([row["plans"][0]["success"] for row in rows[mode]], asked) for mode in modes
                }
    except SimulationError as error:
        raise TrainingError(str(error)) from error
    if options.json is not None:
        write_json(options.json, result)
    print(table(result))
    return result


def planner_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that say which planner and which read-out."""
    parser.add_argument("--planner", type=Path, default=ROOT / "models" / "tiny_planner", help="folder of the planner")
    parser.add_argument("--lora", type=Path, help="planner LoRA (default: the one in the folder's loras/)")
    parser.add_argument("--readout", type=Path, default=ROOT / "models" / "readout", help="folder of the read-out")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: torch's choice)")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m training evaluate --closed-loop", description="Execute plans of unseen scenes in the simulator."
    )
    parser.add_argument("--closed-loop", action="store_true", help="(this command)")
    planner_arguments(parser)
    parser.add_argument("--mode", choices=[*MODES, "all"], default="all", help="how the task is said (default all)")
    parser.add_argument("--first-seed", type=int, default=Settings.first_seed, help="seed of the first scene")
    parser.add_argument("--scenes", type=int, default=Settings.scenes, help="scenes for each mode (default 100)")
    parser.add_argument("--tasks", default=",".join(TASKS), help="tasks in turn (default: all four)")
    parser.add_argument("--wordings", choices=WORDING_SETS, default="held_out", help="of instructions (held_out)")
    parser.add_argument("--camera-jitter", type=float, default=0.0, help="spread of the camera's place [m] (0)")
    parser.add_argument(
        "--camera-turn", type=float, default=0.0, help="carry the camera around the table [degrees] (0)"
    )
    parser.add_argument("--best-of", type=int, default=1, help="plans a scene; the best-looking is carried out (1)")
    parser.add_argument("--replan", type=int, default=0, help="plan again after so many frames (0: never)")
    parser.add_argument(
        "--follow-path", action="store_true", help="keep the hand on the drawn path, where there is one"
    )
    parser.add_argument("--batch-size", type=int, default=Settings.batch_size, help="plans made at once (16)")
    parser.add_argument("--no-baselines", action="store_true", help="leave bounds and baselines out")
    parser.add_argument("--json", type=Path, help="file to write")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Run the command on the arguments after `evaluate`."""
    run(parse(arguments))

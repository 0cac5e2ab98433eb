"""`python -m training evaluate --closed-loop`: success of plans in the simulator, beside bounds and baselines."""

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import torch

from simulation.errors import SimulationError
from simulation.tasks import TASKS
from simulation.wordings import WORDING_SETS
from simulation.world import World
from visual_planner.planner.prompts import MODES

from ...errors import TrainingError
from ...files import ROOT, shown, write_json
from ...model.pipeline import PlannerPipeline, open_planner
from ...model.readout import open_readout
from .evaluation import Settings, bounds, draw_all, evaluate_planner, plan_and_execute, rate
from .replan import REPLAN_FROM

FORMAT = "visual_planner.closed_loop"
PROTOCOL = (
    "frames -> read-out (place and gripper of each frame) -> keyframes -> joint trajectory within limits -> MuJoCo -> "
    "the task's check; seeds follow each other, tasks in turn, no scene is left out; 95% intervals: Wilson for rates, "
    "bootstrap over scenes for differences; the path drawn in modes trajectory and both is that of the scene's "
    "scripted demonstration; on_path (and success, with follow_path): the end effector is kept on it, and "
    "the frames say only height and gripper; true keyframes: those of the demonstration; true frames: its pictures "
    "through the read-out; autoencoder: the same after the planner's autoencoder; static: the first frame "
    "repeated; no_lora: the base model alone, given the same"
)


def table(result: dict) -> str:
    """The figures as a text table."""
    lines = [f"{'':18}{'success':>10}{'rate':>7}{'95% interval':>16}   per task"]

    def add(name: str, row: dict) -> None:
        tasks = "  ".join(f"{task} {r['successes']}/{r['n']}" for task, r in row["tasks"].items())
        interval = f"{row['low']:.0%} to {row['high']:.0%}"
        lines.append(f"{name:18}{row['successes']:>6}/{row['n']:<3}{row['rate']:>7.0%}{interval:>16}   {tasks}")

    for name, row in result.get("bounds", {}).items():
        add(name, row)
    for group in ("success", "single", "any", "once", "on_path"):
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
        options.camera_jitter, options.camera_turn, options.best_of, options.replan, options.replan_from,
        options.follow_path, options.batch_size,
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
                result |= bounds(asked, world, net, planner, modes != ("text",))
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
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: torch's default)")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m training evaluate --closed-loop", description="Execute plans of unseen scenes in the simulator."
    )
    parser.add_argument("--closed-loop", action="store_true", help="(this command)")
    planner_arguments(parser)
    parser.add_argument(
        "--mode", choices=[*MODES, "all"], default="all", help="what plans are conditioned on (default all)"
    )
    parser.add_argument("--first-seed", type=int, default=Settings.first_seed, help="seed of the first scene")
    parser.add_argument("--scenes", type=int, default=Settings.scenes, help="scenes per mode (default 100)")
    parser.add_argument("--tasks", default=",".join(TASKS), help="tasks to cycle through (default: all four)")
    parser.add_argument(
        "--wordings", choices=WORDING_SETS, default="held_out", help="phrasings of the instructions (default held_out)"
    )
    parser.add_argument(
        "--camera-jitter", type=float, default=0.0, help="standard deviation of the camera's position [m] (default 0)"
    )
    parser.add_argument(
        "--camera-turn", type=float, default=0.0, help="rotate the camera around the table [degrees] (default 0)"
    )
    parser.add_argument(
        "--best-of", type=int, default=1, help="plans per scene; the one with the highest score is executed (default 1)"
    )
    parser.add_argument("--replan", type=int, default=0, help="replan after this many frames (0: never)")
    parser.add_argument(
        "--replan-from", choices=REPLAN_FROM, default=Settings.replan_from,
        help="a new plan begins at the task's start and keeps the past frames, or at the current moment (default "
        "start)",
    )  # fmt: skip
    parser.add_argument(
        "--follow-path", action="store_true", help="keep the end effector on the drawn path, if there is one"
    )
    parser.add_argument(
        "--batch-size", type=int, default=Settings.batch_size, help="plans generated at once (default 16)"
    )
    parser.add_argument("--no-baselines", action="store_true", help="omit bounds and baselines")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Run the command on the arguments after `evaluate`."""
    run(parse(arguments))

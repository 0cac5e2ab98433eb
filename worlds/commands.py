"""Commands that every world has, through the protocol: show a scene, execute plans from a file."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simulation.files import write_text
from simulation.pictures import save_picture
from visual_planner.errors import brief, plain
from visual_planner.json_text import json_value

from .errors import UnreachableError, WorldError
from .protocol import Viewpoint, World
from .registry import open_world

REQUIRED = ("seed", "task", "end_effector_m", "gripper")


@dataclass(frozen=True)
class Plan:
    """A plan from a file.

    Args:
        name: its name in messages.
        seed: seed of the scene.
        task: name.
        camera: name; empty: the world's first.
        keyframes: (F, 4) x, y, z [m] and gripper [0 open, 1 closed].
    """

    name: str
    seed: int
    task: str
    camera: str
    keyframes: np.ndarray


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add `scene` and `execute` to a world's own command line."""
    scene = commands.add_parser("scene", help="write the first frame of a scene and print its request")
    scene.add_argument("--seed", type=int, required=True, help="which scene")
    scene.add_argument("--task", default="", help="which task (default: drawn from the seed)")
    scene.add_argument("--wordings", default="", help="set of phrasings (default: the world's first)")
    execute = commands.add_parser("execute", help="execute plans and report whether the tasks succeeded")
    execute.add_argument("plans", help="JSON object or list, or .jsonl: seed, task, end_effector_m, gripper, camera")
    execute.add_argument("--limit", type=int, help="execute at most this many plans")
    execute.add_argument("--frames", type=Path, help="folder for the frames of each execution, one strip (PNG) each")
    scene.add_argument("--out", type=Path, required=True, help="PNG of the first frame")
    execute.add_argument("--out", type=Path, help="JSON lines to write as well as to print")
    for command in (scene, execute):
        command.add_argument("--camera", default="", help="which camera (default: the plan's, or the world's first)")
        command.add_argument("--look", default="", help="how the world is rendered")
        command.add_argument("--size", type=int, default=64, help="side of a frame [px] (default 64)")


def main(name: str, arguments: list[str]) -> int:
    """The command line of a world that has none of its own; returns the exit status.

    Raises:
        WorldError: bad input.
    """
    parser = argparse.ArgumentParser(prog=f"python -m worlds --world {name}")
    add_commands(parser.add_subparsers(dest="command", required=True))
    return run(name, parser.parse_args(arguments))


def run(name: str, options: argparse.Namespace) -> int:
    """Run one of the commands in a world; returns the exit status.

    Raises:
        WorldError: bad input.
    """
    if not 16 <= options.size <= 512:
        raise WorldError(f"--size must be 16 to 512 px, got {options.size}")
    with open_world(name, options.size, options.look) as world:
        return {"scene": _scene, "execute": _execute}[options.command](world, options)


def _scene(world: World, options: argparse.Namespace) -> int:
    request = world.draw(options.seed, options.task, options.wordings, Viewpoint(options.camera))
    save_picture(world.first_frame(request), options.out)
    told = {"seed": request.seed, "task": request.task, "instruction": request.instruction, "caption": request.caption,
            "camera": request.camera, "eye_m": request.view.eye_m, "rays": request.view.rays,
            "first_frame": str(options.out)}  # fmt: skip
    print(json.dumps(told, indent=2))
    return 0


def _execute(world: World, options: argparse.Namespace) -> int:
    if options.limit is not None and options.limit < 1:
        raise WorldError(f"--limit must be at least 1, got {options.limit}")
    lines, done = [], {}
    for number, plan in enumerate(read_plans(Path(options.plans))[: options.limit]):
        request = world.draw(plan.seed, plan.task, "", Viewpoint(options.camera or plan.camera))
        rollout = world.start(request, len(plan.keyframes))
        told = {"plan": plan.name, "seed": plan.seed, "task": plan.task, "camera": request.camera}
        try:
            result = rollout.carry_out(plan.keyframes, pictures=options.frames is not None)
        except UnreachableError as error:
            told |= {"success": False, "reason": str(error)}
        else:
            told |= {
                "success": bool(rollout.success),
                "tracking_error_m": round(result.tracking_error_m(plan.keyframes), 4),
                "start_error_m": round(result.start_error_m, 4),
                "clamped": result.clamped,
            }
            if options.frames is not None:
                told["frames"] = str(options.frames / f"{number:06d}.png")
                save_picture(np.concatenate(list(result.frames), axis=1), Path(told["frames"]))
        lines.append(json.dumps(told))
        print(lines[-1], flush=True)
        done.setdefault(plan.task, []).append(told["success"])
    if options.out is not None:
        write_text(options.out, "".join(line + "\n" for line in lines))
    for task, successes in done.items():
        print(f"{task}: {sum(successes)} of {len(successes)} succeeded")
    return 0


def read_plans(path: Path) -> list[Plan]:
    """Plans of a file: one JSON object, a list of them, or JSON lines; a line of `episodes.jsonl` is one.

    Raises:
        WorldError: the file cannot be read, or a plan has a missing or wrong value; the message names it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WorldError(f"the plan file {path} cannot be read: {error}") from error
    parts = [line for line in text.splitlines() if line.strip()] if path.suffix == ".jsonl" else [text]
    values = [json_value(part, f"the plan file {path}", WorldError) for part in parts]
    values = values[0] if len(values) == 1 and isinstance(values[0], list) else values
    if not values:
        raise WorldError(f"{path} holds no plan")
    return [_plan(value, number) for number, value in enumerate(values)]


def _plan(value: object, number: int) -> Plan:
    name = f"plan {plain(str(value.get('id', number)), 80)}" if isinstance(value, dict) else f"plan {number}"
    if not isinstance(value, dict):
        raise WorldError(f"{name} must be a JSON object with {', '.join(REQUIRED)}, got {type(value).__name__}")
    if missing := [key for key in REQUIRED if key not in value]:
        raise WorldError(f"{name} lacks {', '.join(missing)}; it needs {', '.join(REQUIRED)}")
    seed, task, camera = value["seed"], value["task"], value.get("camera", "")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise WorldError(f"{name}: seed must be a whole number from 0, got {brief(seed)}")
    if not isinstance(task, str) or not task:
        raise WorldError(f"{name}: task must be a task's name, got {brief(task)}")
    if value.get("begins"):
        raise WorldError(f"{name} starts in the middle of its task, but a plan is executed from the scene's start")
    try:
        places, gripper = (np.array(value[key], dtype=np.float64) for key in ("end_effector_m", "gripper"))
    except (TypeError, ValueError, OverflowError):
        places = gripper = np.zeros(0)
    count = len(gripper) if gripper.ndim == 1 else 0
    if count < 2 or places.shape != (count, 3) or not (np.isfinite(places).all() and np.isfinite(gripper).all()):
        raise WorldError(
            f"{name}: end_effector_m must be finite [x, y, z] and gripper a finite number for each of two or more "
            f"frames, got shapes {places.shape} and {gripper.shape}"
        )
    return Plan(name, seed, task, camera if isinstance(camera, str) else "", np.column_stack([places, gripper]))

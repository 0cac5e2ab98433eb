"""Command line: ``python -m simulation demonstrate | scene | execute`` (see ``--help``)."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from runtime.entry import end_on_signals, run_command
from runtime.locks import output_lock

from .errors import SimulationError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulation", description="Simulated table scenes with a Jaco arm.")
    commands = parser.add_subparsers(dest="command", required=True)

    make = commands.add_parser("demonstrate", help="write a data set of episodes")
    make.add_argument("--episodes", type=int, required=True, help="number of episodes")
    make.add_argument("--out", required=True, help="folder of the data set; it must not exist yet")
    make.add_argument("--seed", type=int, default=0, help="the same seed gives the same data set (default 0)")
    make.add_argument("--processes", type=int, default=1, help="number of worker processes (default 1)")
    make.add_argument("--size", type=int, default=64, help="height and width of a frame in px (default 64)")
    make.add_argument("--policy", default="demonstration", help="demonstration (default) or play")
    make.add_argument("--tasks", default="reach,push,pick,place", help="tasks to draw from (default: all four)")
    make.add_argument("--wordings", default="train", help="train (default), held_out or all")
    make.add_argument(
        "--camera-jitter", type=float, default=0.0, help="standard deviation of the camera's position in m (default 0)"
    )
    make.add_argument(
        "--camera-turn",
        type=float,
        default=0.0,
        help="rotate the camera around the table by this angle in degrees (default 0)",
    )
    make.add_argument("--frames", type=int, default=9, help="frames per episode, evenly spaced in time (default 9)")
    make.add_argument(
        "--later-share",
        type=float,
        default=0.0,
        help="fraction of episodes that start in the middle of the task (default 0)",
    )
    make.add_argument(
        "--keyframes",
        default="time",
        help="which moments the frames are: evenly in time (default), or by the shape of the gripper's path",
    )
    make.add_argument("--quiet", action="store_true", help="no progress bar")

    scene = commands.add_parser("scene", help="write the first frame of a scene and print its request")
    scene.add_argument("--seed", type=int, required=True, help="which scene")
    scene.add_argument("--task", default="", help="reach, push, pick or place (default: drawn from the seed)")
    scene.add_argument("--out", required=True, help="PNG of the first frame")
    scene.add_argument("--size", type=int, default=64, help="height and width of the frame in px (default 64)")
    scene.add_argument("--wordings", default="train", help="train (default), held_out or all")

    run = commands.add_parser("execute", help="execute plans in the simulator and report whether the tasks succeeded")
    run.add_argument("plans", help="JSON object or list, or .jsonl: seed, task, end_effector_m, gripper")
    run.add_argument("--limit", type=int, default=None, help="execute at most this many plans")
    run.add_argument("--frames", default=None, help="folder for the frames of each execution, one strip (PNG) each")
    run.add_argument("--size", type=int, default=64, help="height and width of a frame in px (default 64)")
    return parser


def _demonstrate(args: argparse.Namespace) -> None:
    from .dataset import DatasetOptions, write_dataset

    options = DatasetOptions(
        episodes=args.episodes,
        seed=args.seed,
        size=args.size,
        policy=args.policy,
        tasks=tuple(name.strip() for name in args.tasks.split(",") if name.strip()),
        wordings=args.wordings,
        camera_jitter_m=args.camera_jitter,
        camera_turn_deg=args.camera_turn,
        frames=args.frames,
        later_share=args.later_share,
        keyframes=args.keyframes,
    )
    start = time.perf_counter()
    with output_lock(args.out, "simulation demonstrate"):
        summary = write_dataset(args.out, options, args.processes, progress=not args.quiet)
    seconds = time.perf_counter() - start
    failures = sum(summary["failures_of_task"].values())
    print(
        f"{args.out}: {args.episodes} episodes in {seconds:.0f} s ({60 * args.episodes / seconds:.0f} per minute), "
        f"{failures} failed attempts left out"
    )


def _scene(args: argparse.Namespace) -> None:
    from .episode import draw_request, first_frame
    from .pictures import save_picture
    from .tasks import TASKS
    from .world import World

    if args.seed < 0:
        raise SimulationError(f"seed must not be negative, got {args.seed}")
    request = draw_request(args.seed, (args.task,) if args.task else TASKS, args.wordings)
    with World(args.size) as world:
        save_picture(first_frame(world, request), Path(args.out))
        tool = world.tool()
    answer = {
        "seed": request.seed,
        "task": request.task.name,
        "instruction": request.instruction,
        "caption": request.scene.caption,
        "target": request.task.target,
        "direction": request.task.direction,
        "end_effector_m": tool.round(4).tolist(),
        "end_effector_px": request.camera.project(tool, args.size, args.size).round(2).tolist(),
        "first_frame": args.out,
    }
    print(json.dumps(answer, indent=2))


def _execute(args: argparse.Namespace) -> None:
    import numpy as np

    from .execution import execute
    from .pictures import save_picture
    from .plans import read_plans
    from .world import World

    if args.limit is not None and args.limit < 1:
        raise SimulationError(f"limit must be at least 1, got {args.limit}")
    plans = read_plans(args.plans, args.limit)
    results: dict[str, list[bool]] = {}
    with World(args.size if args.frames else None) as world:
        for number, plan in enumerate(plans):
            done = execute(plan.keyframes, plan.scene, plan.task, world, plan.camera, plan_frames=len(plan.keyframes))
            results.setdefault(plan.task.name, []).append(done.success)
            line = {
                "plan": plan.name,
                "seed": plan.seed,
                "task": plan.task.name,
                "target": plan.task.target,
                "success": done.success,
                "moved_m": {
                    item.name: round(float(m), 3) for item, m in zip(plan.scene.objects, done.moved_m, strict=True)
                },
                "tracking_error_m": round(done.tracking_error_m, 4),
                "start_error_m": round(done.start_error_m, 4),
                "clamped": done.clamped,
            }
            if args.frames:
                line["frames"] = str(Path(args.frames) / f"{number:06d}.png")
                save_picture(np.concatenate(list(done.frames), axis=1), Path(line["frames"]))
            print(json.dumps(line), flush=True)
    for task, successes in results.items():
        print(f"{task}: {sum(successes)} of {len(successes)} succeeded", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status: 0, 2 on an error, 130 when stopped."""
    args = _parser().parse_args(arguments)
    command = {"demonstrate": _demonstrate, "scene": _scene, "execute": _execute}[args.command]
    stopped = "stopped; no data set was written" if args.command == "demonstrate" else "stopped"
    return run_command(lambda: command(args), (SimulationError,), stopped=stopped)


if __name__ == "__main__":
    end_on_signals()
    sys.exit(main())

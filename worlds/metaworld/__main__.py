"""Command line: `python -m worlds.metaworld COMMAND`."""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from runtime.entry import end_on_signals, run_command
from runtime.locks import output_lock
from simulation.files import write_text
from visual_planner.errors import PlannerError
from visual_planner.execution.camera import View
from visual_planner.execution.keyframes import keyframes
from visual_planner.execution.readout import read_frames
from visual_planner.grid.layout import GridLayout

from ..commands import add_commands, run
from ..errors import WorldError
from .bounds import ROWS, measure_bounds
from .camera import CAMERAS
from .dataset import POLICIES, Options, write_dataset
from .engine import load
from .seen import ROWS as SEEN_ROWS
from .seen import measure_seen
from .tasks import TASKS


def main(arguments: list[str] | None = None) -> int:
    """Run one command; bad input ends with one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m worlds.metaworld", description="Meta-World as a world of plans.")
    commands = parser.add_subparsers(dest="command", required=True)
    data = commands.add_parser("demonstrate", help="write episodes: strips of frames and their records")
    data.add_argument("--runs", type=int, required=True, help="runs of each task, each seen by every camera")
    data.add_argument("--seed", type=int, required=True, help="seed of the first run (0 to 999: evaluation only)")
    data.add_argument("--policy", choices=POLICIES, default="demonstration")
    data.add_argument("--tasks", nargs="+", default=list(TASKS), metavar="TASK")
    data.add_argument("--later-starts", type=int, default=0, help="episodes from a random later moment, beside each")
    data.add_argument("--size", type=int, default=64, help="side of a frame [px]")
    data.add_argument("--shadows", action="store_true", help="with shadows and reflections, ten times slower")
    data.add_argument("--one-phrasing", action="store_true", help="the benchmark's sentence instead of drawn phrasings")
    data.add_argument("--processes", type=int, default=1)
    data.add_argument("--quiet", action="store_true", help="no progress bar")
    data.add_argument("--out", required=True, help="folder to write")
    bounds = commands.add_parser("bounds", help="floors and bounds of the benchmark: blind plans, true keyframes")
    bounds.add_argument("--seeds", type=int, nargs=2, default=(0, 25), metavar=("FIRST", "END"), help="default: 0 25")
    bounds.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), metavar="TASK")
    bounds.add_argument("--readout", type=Path, help="folder of a read-out: also true frames through it, all cameras")
    bounds.add_argument("--planner", type=Path, help="with --readout: planner whose autoencoder they pass as well")
    bounds.add_argument("--look", default="", help="with --readout: plain (default) or shadows")
    bounds.add_argument("--quiet", action="store_true", help="no progress bar")
    bounds.add_argument("--out", required=True, help="JSON file to write")
    add_commands(commands)
    options = parser.parse_args(arguments)
    return run_command(lambda: COMMANDS[options.command](options), (PlannerError,))


def _demonstrate(options: argparse.Namespace) -> int:
    settings = Options(
        runs=options.runs, seed=options.seed, policy=options.policy, tasks=tuple(options.tasks), size=options.size,
        later_starts=options.later_starts, phrasings=not options.one_phrasing, shadows=options.shadows,
    )  # fmt: skip
    with output_lock(options.out, "metaworld demonstrate"):
        summary = write_dataset(options.out, settings, options.processes, not options.quiet)
    print(f"{options.out}: {summary['episodes']} episodes, failed attempts {sum(summary['failures_of_task'].values())}")
    return 0


def _bounds(options: argparse.Namespace) -> int:
    seeds = range(*options.seeds)
    if len(seeds) < 2:
        raise WorldError(f"--seeds must name a range of two or more, got {options.seeds[0]} to {options.seeds[1]}")
    if options.planner and not options.readout:
        raise WorldError("--planner needs --readout: its autoencoder's pictures must be read")
    seen = _seen(options, seeds) if options.readout else {}  # first, so that missing weights are reported at once
    result = measure_bounds(seeds, tuple(options.tasks), not options.quiet)
    record = {
        "format": "visual_planner.metaworld_bounds",
        "version": 1,
        "seeds": [seeds.start, seeds.stop],
        "scenes_of_task": len(seeds),
        "rows": dict(ROWS),
        "mujoco": load().mujoco.__version__,
        "successes": result,
    }
    if seen:
        record["rows"] |= {row: SEEN_ROWS[row] for row in seen}
        record |= {"cameras": list(CAMERAS), "look": options.look or "plain", "successes_of_camera": seen}
    text = json.dumps(record, indent=1) + "\n"
    write_text(Path(options.out), text)
    total = len(seeds) * len(options.tasks)
    for name, successes in result.items():
        print(f"{name}: {sum(successes.values())}/{total} = {sum(successes.values()) / total:.1%}")
    for name, of_task in seen.items():
        done = sum(sum(of_camera.values()) for of_camera in of_task.values())
        print(f"{name}: {done}/{3 * total} = {done / (3 * total):.1%} (three cameras)")
    return 0


def _seen(options: argparse.Namespace, seeds: range) -> dict:
    """Successes of the rows that need weights, which `training` opens."""
    from training.model.autoencoder import load_vae, round_trip
    from training.model.readout import open_readout

    net = open_readout(options.readout)
    vae = None if options.planner is None else load_vae(options.planner / "vae")
    through = None if vae is None else lambda frames: round_trip(vae, frames, GridLayout())
    spec = net.spec

    def read(frames: np.ndarray, view: View) -> np.ndarray:
        return keyframes(read_frames(net, frames, None if spec.view is None else view))

    how = tuple(options.tasks), CAMERAS, options.look, spec.height, not options.quiet
    return measure_seen(seeds, read, through, *how)


COMMANDS = {
    "demonstrate": _demonstrate,
    "bounds": _bounds,
    "scene": lambda options: run("metaworld", options),
    "execute": lambda options: run("metaworld", options),
}

if __name__ == "__main__":
    end_on_signals()
    sys.exit(main())

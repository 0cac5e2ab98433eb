"""Command line: `python -m worlds.metaworld COMMAND`."""

import argparse
import json
import sys
from pathlib import Path

from ..errors import WorldError
from .bounds import ROWS, measure_bounds
from .dataset import POLICIES, Options, write_dataset
from .engine import load
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
    bounds.add_argument("--quiet", action="store_true", help="no progress bar")
    bounds.add_argument("--out", required=True, help="JSON file to write")
    options = parser.parse_args(arguments)
    try:
        if options.command == "bounds":
            return _bounds(options)
        settings = Options(
            runs=options.runs, seed=options.seed, policy=options.policy, tasks=tuple(options.tasks),
            size=options.size, later_starts=options.later_starts, phrasings=not options.one_phrasing,
            shadows=options.shadows,
        )  # fmt: skip
        summary = write_dataset(options.out, settings, options.processes, not options.quiet)
    except WorldError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    print(f"{options.out}: {summary['episodes']} episodes, failed attempts {sum(summary['failures_of_task'].values())}")
    return 0


def _bounds(options: argparse.Namespace) -> int:
    seeds = range(*options.seeds)
    if len(seeds) < 2:
        raise WorldError(f"--seeds must name a range of two or more, got {options.seeds[0]} to {options.seeds[1]}")
    result = measure_bounds(seeds, tuple(options.tasks), not options.quiet)
    record = {
        "format": "visual_planner.metaworld_bounds",
        "version": 1,
        "seeds": [seeds.start, seeds.stop],
        "scenes_of_task": len(seeds),
        "rows": ROWS,
        "mujoco": load().mujoco.__version__,
        "successes": result,
    }
    text = json.dumps(record, indent=1) + "\n"
    Path(options.out).parent.mkdir(parents=True, exist_ok=True)
    Path(options.out).write_text(text, encoding="utf-8")
    total = len(seeds) * len(options.tasks)
    for name, successes in result.items():
        print(f"{name}: {sum(successes.values())}/{total} = {sum(successes.values()) / total:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Command line: `python -m worlds.metaworld COMMAND`."""

import argparse
import sys

from ..errors import WorldError
from .dataset import POLICIES, Options, write_dataset
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
    options = parser.parse_args(arguments)
    try:
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


if __name__ == "__main__":
    sys.exit(main())

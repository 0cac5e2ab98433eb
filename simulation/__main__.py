"""Command line: ``python -m simulation demonstrate`` (see ``--help``)."""

from __future__ import annotations

import argparse
import sys
import time

from .errors import SimulationError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulation", description="The Jaco arm's table.")
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("demonstrate", help="write a data set of episodes")
    make.add_argument("--episodes", type=int, required=True, help="how many episodes")
    make.add_argument("--out", required=True, help="folder of the data set; it must not exist yet")
    make.add_argument("--seed", type=int, default=0, help="the same seed gives the same data set (default 0)")
    make.add_argument("--processes", type=int, default=1, help="how many processes work (default 1)")
    make.add_argument("--size", type=int, default=64, help="height and width of a frame in px (default 64)")
    make.add_argument("--policy", default="demonstration", help="demonstration (default) or play")
    make.add_argument("--tasks", default="reach,push,pick,place", help="tasks to draw from (default: all four)")
    make.add_argument("--wordings", default="train", help="train (default), held_out or all")
    make.add_argument("--camera-jitter", type=float, default=0.0, help="spread of the camera's place in m (default 0)")
    make.add_argument("--quiet", action="store_true", help="no progress bar")
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
    )
    start = time.perf_counter()
    summary = write_dataset(args.out, options, args.processes, progress=not args.quiet)
    seconds = time.perf_counter() - start
    failures = sum(summary["failures_of_task"].values())
    print(
        f"{args.out}: {args.episodes} episodes in {seconds:.0f} s "
        f"({60 * args.episodes / seconds:.0f} a minute), {failures} failed attempts left out"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parser().parse_args(arguments)
    try:
        {"demonstrate": _demonstrate}[args.command](args)
    except SimulationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

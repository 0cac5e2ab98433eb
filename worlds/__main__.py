"""Command line: `python -m worlds COMMAND --world NAME ...` delegates to the world's own command line."""

import argparse
import sys
from importlib import import_module

from runtime.entry import end_on_signals, run_command
from visual_planner.errors import PlannerError

from . import commands
from .registry import WORLDS, world_class


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, or 2 on bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m worlds", add_help=False,
        description="Commands of a world, such as demonstrate and execute; its own help has the rest.",
    )  # fmt: skip
    parser.add_argument("--world", help=f"{' or '.join(WORLDS)}; without it: list the worlds")
    options, rest = parser.parse_known_args(sys.argv[1:] if arguments is None else arguments)
    return run_command(lambda: _run(options.world, rest, parser), (PlannerError,))


def _run(world: str | None, rest: list[str], parser: argparse.ArgumentParser) -> int:
    if world is not None:
        own = world_class(world).command
        return import_module(own).main(rest) if own else commands.main(world, rest)
    parser.print_help()
    for name in WORLDS:
        print(f"  {name}: {_line(name)}")
    return 2 if set(rest) - {"-h", "--help"} else 0


def _line(name: str) -> str:
    try:
        world = world_class(name)
        return f"{world.title}; tasks {', '.join(world.tasks)}"
    except PlannerError as error:
        return f"not available: {error}"


if __name__ == "__main__":
    end_on_signals()
    sys.exit(main())

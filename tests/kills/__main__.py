"""Kills every writing command as often as is asked for; the exit code is 1 if any run broke the law.

python -m tests.kills --kills 10
python -m tests.kills --kills 100 --only train
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from .law import COMMANDS, World


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10, help="of each command")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=COMMANDS, help="commands to kill")
    options = parser.parse_args(arguments)
    broken = False
    with tempfile.TemporaryDirectory(prefix="visual-planner-kills-") as folder:
        world = World(Path(folder))
        for command in COMMANDS:
            tally = world.try_kills(command, options.kills if command in options.only else 0, options.seed)
            print(f"{command}: {tally.kills} kills, {tally.while_writing} while writing, {len(tally.broken)} broken")
            for line in tally.broken:
                print(f"  {line}", flush=True)
            broken = broken or bool(tally.broken)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

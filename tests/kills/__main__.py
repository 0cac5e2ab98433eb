"""Kills every writing command, or breaks its disk; the exit code is 1 if any run broke the law.

python -m tests.kills --kills 10
python -m tests.kills --kills 100 --only train
python -m tests.kills --kills 0 --disks 10
python -m tests.kills --kills 0 --mounts 5 [--file-system ext4] (as root)
"""

import argparse
import random
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from .disks import DISKS, FULL, NO_FILE, READ_ONLY, mounted, own_disk, try_faults
from .law import try_kills
from .world import COMMANDS, World


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10, help="of each command")
    parser.add_argument("--disks", type=int, default=0, help="broken disks of each kind, for each command")
    parser.add_argument("--mounts", type=int, default=0, help="the same on a disk of its own (needs root)")
    parser.add_argument("--file-system", choices=DISKS, default="tmpfs", help="of that disk")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=COMMANDS, help="commands to kill")
    options = parser.parse_args(arguments)
    broken = False
    with tempfile.TemporaryDirectory(prefix="visual-planner-kills-") as folder, ExitStack() as enter:
        place = enter.enter_context(mounted(Path(folder) / "disk", options.file_system)) if options.mounts else None
        world = World(Path(folder), place)
        for command in COMMANDS[: 1 + max(COMMANDS.index(name) for name in options.only)]:
            chosen = command in options.only
            tally = try_kills(world, command, options.kills if chosen else 0, options.seed)
            print(
                f"{command}: {tally.kills} kills, {tally.while_writing} while writing, {len(tally.broken)} broken",
                flush=True,
            )
            lines = tally.broken
            for name, count, disk in (
                ("disks", options.disks, own_disk),
                ("mounts", options.mounts, DISKS[options.file_system]),
            ):
                if not count or not chosen or lines:
                    continue
                world.restore()
                faults = draw_faults(f"{command} {options.seed}", count)
                if disk is not own_disk:  # which is read-only from the beginning
                    faults = [fault for fault in faults if fault[0] != READ_ONLY] + [(READ_ONLY, 1)]
                tried = try_faults(world, command, faults, disk)
                print(f"  {name}: {tried.refused} refused, {tried.unharmed} not reached, {len(tried.broken)} broken")
                lines = tried.broken
            for line in lines:
                print(f"  {line}", flush=True)
            broken = broken or bool(lines)
    return 1 if broken else 0


def draw_faults(seed: str, count: int) -> list[tuple[str, int]]:
    """Some faults of each kind: sizes over the whole range of small files, the first changes, and later ones."""
    rng = random.Random(seed)
    numbers = [*range(1, count // 2 + 1), *(rng.randrange(count // 2 + 1, 40) for _ in range(count - count // 2))]
    sizes = [0, *(int(10 ** rng.uniform(0, 6)) for _ in range(count - 1))]
    return [(FULL, size) for size in sizes] + [(kind, n) for kind in (NO_FILE, READ_ONLY) for n in numbers]


if __name__ == "__main__":
    sys.exit(main())

"""Tries inputs for as long as is asked for; the exit code is 1 if any broke the law.

python -m tests.fuzz --seconds 3600
python -m tests.fuzz --inputs 100 --only "trajectory json"
"""

import argparse
import logging
import math
import os
import resource
import sys
import time
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"  # read when tqdm is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from .core_targets import TARGETS as CORE
from .data_targets import TARGETS as DATA
from .law import CPU_S, Tally, Target, run
from .run_targets import TARGETS as RUNS

ROUND = 25
"""Inputs of a target before the next one has its turn."""
TURN_S = 0.5
"""With `--seconds`: time of a turn, so that every parser has as much and fast ones get more inputs [s]."""
MOST_MEMORY = 8 << 30


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, help="stop after so much time [s]")
    parser.add_argument("--inputs", type=int, help="stop after so many inputs of each target")
    parser.add_argument("--seed", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", nargs="+", default=[""], help="targets of these names, or whose name holds one")
    parser.add_argument("--cpu", type=float, default=CPU_S, help="CPU time that an input may take [s]")
    parser.add_argument(
        "--keep", type=Path, default=Path("output") / "fuzz", help="folder for inputs that broke the law"
    )
    options = parser.parse_args(arguments)
    if options.seconds is None and options.inputs is None:
        parser.error("one of --seconds and --inputs is required")
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    logging.disable(logging.CRITICAL)
    targets = _chosen([*CORE, *DATA, *RUNS], options.only)
    tallies = {target.name: Tally() for target in targets}
    end = time.monotonic() + options.seconds if options.seconds else math.inf
    done, next_turn = dict.fromkeys(tallies, 0), dict.fromkeys(tallies, ROUND)
    while time.monotonic() < end and any(done[name] < (options.inputs or math.inf) for name in done):
        for target in targets:
            name = target.name
            count = next_turn[name] if options.inputs is None else min(ROUND, options.inputs - done[name])
            start = time.monotonic()
            _add(tallies[name], run(target, options.seed + done[name], count, options.cpu, options.keep))
            done[name] += count
            next_turn[name] = max(1, int(count * TURN_S / (time.monotonic() - start)))
    _print(tallies)
    return 1 if any(tally.broken for tally in tallies.values()) else 0


def _chosen(targets: list[Target], texts: list[str]) -> list[Target]:
    names = {target.name for target in targets}
    return [
        target
        for target in targets
        if any(target.name == text or (text not in names and text in target.name) for text in texts)
    ]


def _add(total: Tally, more: Tally) -> None:
    total.results += more.results
    total.errors += more.errors
    total.slowest_s = max(total.slowest_s, more.slowest_s)
    total.largest_mb = max(total.largest_mb, more.largest_mb)
    for fault in more.broken:
        print(fault, flush=True)
    total.broken += more.broken


def _print(tallies: dict[str, Tally]) -> None:
    print(f"{'parser':<24}{'inputs':>9}{'results':>9}{'errors':>9}{'broken':>8}{'most CPU':>10}{'most MB':>9}")
    for name, tally in tallies.items():
        count = tally.results + tally.errors
        print(
            f"{name:<24}{count:>9}{tally.results:>9}{tally.errors:>9}{len(tally.broken):>8}{tally.slowest_s:>8.2f} s"
            f"{tally.largest_mb:>9.0f}"
        )
    total = sum(tally.results + tally.errors for tally in tallies.values())
    print(f"{total} inputs, {sum(len(tally.broken) for tally in tallies.values())} broke the law")


if __name__ == "__main__":
    sys.exit(main())

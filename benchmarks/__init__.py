"""Benchmarks: `run.py bench [NAME] [--json FILE]`. Each compares our code with a named peer and reports a ratio."""

from __future__ import annotations

import importlib
from pathlib import Path

from launcher.console import note
from launcher.errors import LauncherError
from launcher.options import GPU_OPTIONS

from .harness import Benchmark, print_table, write_json

# Name -> module with `run(repeats) -> Benchmark`. Imported only when requested: most of them load torch.
BENCHMARKS = {
    "import": "benchmarks.bench_import",
    "conditioning": "benchmarks.conditioning",
    "plan": "benchmarks.plan",
    "training": "benchmarks.training",
    "switches": "benchmarks.switches",
    "data": "benchmarks.data",
}
GPU = "gpu"
"""The benchmark with its own options, which runs only when it is named."""


def run_benchmarks(name: str | None, json_file: Path | None, repeats: int | None) -> int:
    """Run one benchmark or all, print a table and write the JSON file.

    Args:
        name: Name of a benchmark, None for all.
        json_file: Where to write the results.
        repeats: Repeats of each case; each benchmark's own number by default.

    Raises:
        LauncherError: There is no benchmark of that name.
    """
    if name is not None and name not in BENCHMARKS:
        raise LauncherError(f"benchmark must be one of {', '.join([*BENCHMARKS, GPU])}, got {name!r}")
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise LauncherError(f"--json must name a file in a folder that exists, got {json_file}")
    results: list[Benchmark] = []
    for chosen in [name] if name is not None else BENCHMARKS:
        note(f"Benchmark {chosen} ...")
        results.append(importlib.import_module(BENCHMARKS[chosen]).run(repeats))
        print_table(results[-1])
    if json_file is not None:
        write_json(json_file, results)
    return 0


def require_own_options(options) -> None:
    """Refuse options of `bench gpu` for another benchmark, and vice versa.

    Raises:
        LauncherError: an option has no meaning for the benchmark.
    """
    foreign = ("json", "repeats") if options.name == GPU else GPU_OPTIONS
    given = [f"--{name}" for name in foreign if getattr(options, name)]
    if given:
        asked = "bench" if options.name is None else f"bench {options.name}"
        whose = "the other benchmarks" if options.name == GPU else f"bench {GPU}"
        raise LauncherError(f"{', '.join(given)} must be given to {whose}, got {asked}")

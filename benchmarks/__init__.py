"""Benchmarks: `run.py bench [NAME] [--json FILE]`. Each compares ours with something named, and reports a ratio."""

from __future__ import annotations

import importlib
from pathlib import Path

from launcher.console import note
from launcher.errors import LauncherError

from .harness import Benchmark, print_table, write_json

# Name → module with `run(repeats) -> Benchmark`. Imported when asked for: most of them load torch.
BENCHMARKS = {
    "import": "benchmarks.bench_import",
    "conditioning": "benchmarks.conditioning",
    "training": "benchmarks.training",
    "data": "benchmarks.data",
}


def run_benchmarks(name: str | None, json_file: Path | None, repeats: int | None) -> int:
    """Run one benchmark or all, print a table and write the JSON file.

    Args:
        name: Name of one, None for all.
        json_file: Where to write the results.
        repeats: Repeats of each case; each benchmark's own number by default.

    Raises:
        LauncherError: There is no benchmark of that name.
    """
    if name is not None and name not in BENCHMARKS:
        raise LauncherError(f"benchmark must be one of {', '.join(BENCHMARKS)}, got {name!r}")
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

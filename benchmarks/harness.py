"""Measure: interleaved repeats of all cases, medians with spread, and ratios taken repeat by repeat.

Interleaving matters: a machine that slows down during measurement would otherwise favour the first case. A ratio is
the median of the ratios of neighbours in time, not the ratio of two medians.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Benchmark:
    """Result of one benchmark.

    Attributes:
        name: Its name.
        unit: Unit of the raw values.
        raw: Case -> one value per repeat, with all cases in the same order of repeats.
        ratios_of: Ratio's name -> (case, case it is divided by).
        notes: Further facts, by name.
    """

    name: str
    unit: str
    raw: dict[str, list[float]]
    ratios_of: dict[str, tuple[str, str]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def ratios(self) -> dict[str, float]:
        """Ratio's name -> median ratio."""
        return {name: statistics.median(self.paired(name)) for name in self.ratios_of}

    def paired(self, ratio: str) -> list[float]:
        """The ratio of each repeat."""
        case, reference = self.ratios_of[ratio]
        return [ours / other for ours, other in zip(self.raw[case], self.raw[reference], strict=True)]

    def summary(self) -> dict[str, dict[str, Any]]:
        """Case -> median, quartiles and raw values."""
        return {case: {**spread(values), "raw": values} for case, values in self.raw.items()}


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles; with fewer than three values the quartiles are the extremes."""
    if len(values) < 3:
        return {"median": statistics.median(values), "q1": min(values), "q3": max(values)}
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": median, "q1": q1, "q3": q3}


def interleave(
    cases: Mapping[str, Callable[[], Any]],
    repeats: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time functions in turn.

    Args:
        cases: Name -> function to time.
        repeats: Timed rounds; each calls every case once, in alternating order.
        warmup: Untimed rounds before.
        clock: Clock [s].

    Returns:
        Case -> seconds of each round [s].
    """
    for _ in range(warmup):
        for function in cases.values():
            function()
    raw: dict[str, list[float]] = {name: [] for name in cases}
    names = list(cases)
    for index in range(repeats):
        for name in names if index % 2 == 0 else reversed(names):
            started = clock()
            cases[name]()
            raw[name].append(clock() - started)
    return raw


def print_table(benchmark: Benchmark) -> None:
    """Print cases and ratios."""
    width = max(len(name) for name in (*benchmark.raw, *benchmark.ratios_of))
    print(f"\n{benchmark.name}")
    for case, numbers in benchmark.summary().items():
        print(
            f"  {case:<{width}}  {numbers['median']:10.3f} {benchmark.unit}"
            f"   (quartiles {numbers['q1']:.3f} to {numbers['q3']:.3f}, {len(numbers['raw'])} repeats)"
        )
    for name in benchmark.ratios_of:
        numbers = spread(benchmark.paired(name))
        print(
            f"  {name:<{width}}  {numbers['median']:10.3f} x    (quartiles {numbers['q1']:.3f} to {numbers['q3']:.3f})"
        )
    for name, value in benchmark.notes.items():
        print(f"  {name}: {value}")


def report(results: list[Benchmark]) -> dict[str, Any]:
    """All results in the form of the JSON file: `ratios` flat, raw times and spread beside them."""
    return {
        "ratios": {name: value for result in results for name, value in result.ratios.items()},
        "benchmarks": {
            result.name: {"unit": result.unit, "cases": result.summary(), "notes": result.notes} for result in results
        },
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """The machine, and how busy it was."""
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
    }


def write_json(file: Path, results: list[Benchmark]) -> None:
    """Write the results whole or not at all."""
    temporary = file.with_name(f".{file.name}.partial")
    try:
        temporary.write_text(json.dumps(report(results), indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)

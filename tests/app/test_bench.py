"""The benchmark harness; the benchmarks themselves are run as commands of the README and in files of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import benchmarks
from benchmarks import run_benchmarks
from benchmarks.harness import Benchmark, interleave, report, spread, write_json
from launcher.errors import LauncherError


def test_cases_take_turns_and_the_warm_up_is_not_timed() -> None:
    calls = []
    ticks = iter(range(100))
    cases = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    raw = interleave(cases, repeats=3, warmup=1, clock=lambda: next(ticks))
    assert calls == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert raw == {"a": [1, 1, 1], "b": [1, 1, 1]}


def test_a_ratio_is_the_median_of_the_ratios_of_neighbours() -> None:
    benchmark = Benchmark("x", "s", {"ours": [1.0, 20.0, 3.0], "theirs": [2.0, 10.0, 3.0]}, {"x/y": ("ours", "theirs")})
    assert benchmark.paired("x/y") == [0.5, 2.0, 1.0]
    assert benchmark.ratios == {"x/y": 1.0}


def test_the_spread_of_few_values_is_their_range() -> None:
    assert spread([3.0]) == {"median": 3.0, "q1": 3.0, "q3": 3.0}
    assert spread([1.0, 3.0]) == {"median": 2.0, "q1": 1.0, "q3": 3.0}
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == {"median": 3.0, "q1": 2.0, "q3": 4.0}


def test_the_file_has_flat_ratios_beside_the_raw_values(tmp_path: Path) -> None:
    results = [
        Benchmark("one", "ms", {"a": [2.0], "b": [1.0]}, {"one/b": ("a", "b")}, {"note": "n"}),
        Benchmark("two", "s", {"c": [1.0]}, {}),
    ]
    write_json(tmp_path / "r.json", results)
    written = json.loads((tmp_path / "r.json").read_text())
    assert written == json.loads(json.dumps(report(results)))
    assert written["ratios"] == {"one/b": 2.0}
    assert written["benchmarks"]["one"]["cases"]["a"] == {"median": 2.0, "q1": 2.0, "q3": 2.0, "raw": [2.0]}
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]


def test_unknown_names_and_places_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks, "BENCHMARKS", {})
    with pytest.raises(LauncherError, match="benchmark must be one of .*, got 'speed'"):
        run_benchmarks("speed", None, None)
    with pytest.raises(LauncherError, match="--json must name a file in a folder that exists"):
        run_benchmarks(None, tmp_path / "no" / "r.json", None)

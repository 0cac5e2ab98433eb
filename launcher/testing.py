"""Run the tests in tiers, each in its own pytest process, and close with one summary line.

Tiers are separate processes because the core tests import the repository's packages by name and the others import
ComfyUI, whose module `nodes` has the name of our folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from .paths import ROOT

TESTS = ROOT / "tests"
TIERS = {
    "core": ("core", "web", "simulation", "worlds", "training", "kills", "fuzz"),
    "nodes": ("nodes",),
    "app": ("app",),
    "trajectory": ("browser/trajectory",),
    "workflows": ("browser/workflows",),
}
PRIORITY = ("workflows", "trajectory", "app", "core", "nodes")
"""Tiers that run side by side, beginning with those that wait most (for pages, servers and commands), which must not
also wait for a core. The later ones compute, and take what is left."""
NICE_STEP = 2
REPORT_VARIABLE = "VISUAL_PLANNER_TEST_REPORT"
NO_SKIP_VARIABLE = "VISUAL_PLANNER_NO_SKIPPED_TEST"
"""Environment variable under which a skipped test is a failure, for machines that have everything the tests need."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
IN_TURN = frozenset(("-x", "--exitfirst", "--maxfail", "-s", "--capture", "--pdb", "--collect-only", "--co"))
"""pytest options with which tiers run one after the other."""
Ended = tuple[int, dict]
"""Exit code and report of a tier."""
# Order and terms of pytest's own summary line.
OUTCOMES = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "errors")
# pytest options whose value is the next argument: such a value is never a path to tests.
VALUE_OPTIONS = frozenset(
    ("-k", "-m", "-p", "-o", "-W", "-c", "-r", "--maxfail", "--durations", "--deselect", "--ignore", "--tb", "--color")
)


@dataclass
class Selection:
    """Arguments for pytest, split into paths and others."""

    options: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


def split_arguments(arguments: list[str]) -> Selection:
    """Separate the paths inside tests/ (made absolute, `::` parts kept) from the other arguments."""
    selection = Selection()
    previous = ""
    for argument in arguments:
        path = _test_path(argument) if previous not in VALUE_OPTIONS else None
        if path is None:
            selection.options.append(argument)
        else:
            selection.paths.append(path)
        previous = argument
    return selection


def _test_path(argument: str) -> str | None:
    if argument.startswith("-"):
        return None
    name, separator, rest = argument.partition("::")
    for folder in (Path.cwd(), ROOT):
        path = (folder / name).resolve()
        if path.exists() and path.is_relative_to(TESTS):
            return f"{path}{separator}{rest}"
    return None


def tier_paths(folders: tuple[str, ...], selected: list[str]) -> list[str]:
    """What one tier runs: its folders within a selected path, and selected paths in its folders; by default all."""
    homes = [TESTS / folder for folder in folders]
    found = []
    for text in selected or [str(TESTS)]:
        path = Path(text.partition("::")[0])
        if inside := [home for home in homes if home.is_relative_to(path)]:
            found += [str(home) for home in inside if any(home.glob("**/test_*.py"))]
        elif any(path.is_relative_to(home) for home in homes):
            found.append(text)
    return found


def run_tests(arguments: list[str]) -> int:
    """Run every tier that the arguments select, side by side if possible.

    Returns:
        0 if all passed, 5 if nothing was selected, otherwise the first failing tier's exit code; 1 for skipped tests
        if `NO_SKIP_VARIABLE` is set.
    """
    selection = split_arguments(arguments)
    started = time.monotonic()
    tiers = {name: paths for name, folders in TIERS.items() if (paths := tier_paths(folders, selection.paths))}
    in_turn = len(tiers) < 2 or any(option.split("=")[0] in IN_TURN for option in selection.options)
    ended = _in_turn(tiers, selection.options) if in_turn else _side_by_side(tiers, selection.options)
    counts: Counter[str] = Counter()
    folders: dict[str, Counter[str]] = {}
    for _, report in ended:
        counts.update(report["counts"])
        folders.update({name: Counter(seconds) for name, seconds in report["folders"].items()})
    print(folder_table(folders), end="")
    print(summary_line(counts, time.monotonic() - started), flush=True)
    failing = [code for code, _ in ended if code not in (0, 5)]
    if failing:
        return failing[0]
    if counts["skipped"] and os.environ.get(NO_SKIP_VARIABLE):
        print(f"{counts['skipped']} skipped tests: none may be skipped here ({NO_SKIP_VARIABLE})", flush=True)
        return 1
    return 0 if 0 in [code for code, _ in ended] else 5


def _in_turn(tiers: dict[str, list[str]], options: list[str]) -> list[Ended]:
    """Run the tiers one after the other, each printing directly to the terminal."""
    ended = []
    for name, paths in tiers.items():
        print(_title(name, paths), flush=True)
        with _Tier(paths, options) as tier:
            ended.append(tier.wait())
        if ended[-1][0] not in (0, 5) and {"-x", "--exitfirst"} & set(options):
            break
    return ended


def _side_by_side(tiers: dict[str, list[str]], options: list[str]) -> list[Ended]:
    """Run all tiers at once: the first prints to the terminal, the others' output follows when they end."""
    with ExitStack() as stack:
        running = [
            (
                name,
                paths,
                stack.enter_context(
                    _Tier(paths, options, own_output=number > 0, niceness=NICE_STEP * PRIORITY.index(name))
                ),
            )
            for number, (name, paths) in enumerate(tiers.items())
        ]
        ended = []
        for name, paths, tier in running:
            print(_title(name, paths), flush=True)
            ended.append(tier.wait())
    return ended


def _title(name: str, paths: list[str]) -> str:
    return f"\n{name} tests: {', '.join(os.path.relpath(path, ROOT) for path in paths)}"


class _Tier:
    """One pytest process; used as a context manager.

    Args:
        paths: what it runs.
        options: pytest's other arguments.
        own_output: keep its output until `wait` prints it, instead of letting it print directly.
        niceness: increase of its niceness, where the system supports that (not Windows).
    """

    def __init__(self, paths: list[str], options: list[str], own_output: bool = False, niceness: int = 0) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="visual-planner-tests-")
        self._report = Path(self._folder.name) / "report.json"
        self._output = Path(self._folder.name) / "output.txt" if own_output else None
        command = [sys.executable, "-m", "pytest", "-c", str(TESTS / "pytest.ini"), "--rootdir", str(TESTS)]
        command += ["-p", "launcher.pytest_counts", *options, *paths]
        # In the tests' small models several threads only wait for each other, and the tiers share the cores.
        environment = {**dict.fromkeys(THREADS, "1"), **os.environ, REPORT_VARIABLE: str(self._report)}
        sink = self._output.open("wb") if self._output else None
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=sink, stderr=sink)
        if niceness and hasattr(os, "setpriority"):
            own = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, self._process.pid, own + niceness)  # its child processes inherit it
        if sink is not None:
            sink.close()

    def __enter__(self) -> _Tier:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.wait()  # after Ctrl-C pytest has received the same signal and is ending the servers it started
        self._folder.cleanup()

    def wait(self) -> Ended:
        """Wait for its end, print its output, and return exit code and report."""
        code = self._process.wait()
        if self._output is not None:
            print(self._output.read_text(encoding="utf-8", errors="replace"), end="", flush=True)
        if self._report.is_file():
            return code, json.loads(self._report.read_text(encoding="utf-8"))
        # Ended without a report: a crash, a timeout, or wrong usage. It must not look like a pass.
        return code or 1, {"counts": {"errors": 1}, "folders": {}}


def folder_table(folders: dict[str, Counter[str]]) -> str:
    """One line per folder: tests, seconds of wall time, and CPU seconds of the tests with their child processes."""
    lines = [
        f"{name:<20}{entry['tests']:>6} tests{entry['wall']:>9.1f} s{entry['cpu']:>9.1f} s CPU\n"
        for name, entry in sorted(folders.items())
    ]
    return "".join(["\n", *lines]) if lines else ""


def summary_line(counts: Counter[str], seconds: float) -> str:
    """The closing line in pytest's form."""
    parts = [f"{counts[name]} {_word(name, counts[name])}" for name in OUTCOMES if counts[name]]
    text = f" {', '.join(parts) or 'no tests ran'} in {seconds:.2f}s "
    return text.center(100, "=")


def _word(outcome: str, number: int) -> str:
    return "error" if outcome == "errors" and number == 1 else outcome

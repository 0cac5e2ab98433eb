"""Runs the tests in tiers, each a pytest process of its own, and closes with one summary line.

Tiers are processes because the core tests import the repository's packages by name and the others import ComfyUI, whose
module `nodes` has the name of our folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .paths import ROOT

TESTS = ROOT / "tests"
TIERS = {
    "core": ("core", "web", "simulation", "training"),
    "ComfyUI": ("nodes", "app", "browser"),
}
COUNTS_VARIABLE = "VISUAL_PLANNER_TEST_COUNTS"
# Order and words of pytest's own summary line.
OUTCOMES = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "errors")
# pytest options whose value is the next argument: such a value is never a path to tests.
VALUE_OPTIONS = frozenset(
    ("-k", "-m", "-p", "-o", "-W", "-c", "-r", "--maxfail", "--durations", "--deselect", "--ignore", "--tb", "--color")
)


@dataclass
class Selection:
    """Arguments for pytest, taken apart."""

    options: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


def split_arguments(arguments: list[str]) -> Selection:
    """Tell the paths inside tests/ (made absolute, `::` parts kept) from the other arguments."""
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
    """What one tier runs: its folders that hold tests, or those of the selected paths that lie in them."""
    homes = [TESTS / folder for folder in folders]
    if not selected:
        return [str(home) for home in homes if any(home.glob("**/test_*.py"))]
    found = []
    for text in selected:
        path = Path(text.partition("::")[0])
        if path == TESTS:
            found += tier_paths(folders, [])
        elif any(path.is_relative_to(home) for home in homes):
            found.append(text)
    return found


def run_tests(arguments: list[str]) -> int:
    """Run every tier that the arguments select.

    Returns:
        0 when all passed, 5 when nothing was selected, else the first failing tier's exit code.
    """
    selection = split_arguments(arguments)
    counts: Counter[str] = Counter()
    codes: list[int] = []
    started = time.monotonic()
    for name, folders in TIERS.items():
        paths = tier_paths(folders, selection.paths)
        if not paths:
            continue
        print(f"\n{name} tests: {', '.join(_shown(path) for path in paths)}", flush=True)
        code, tier_counts = _run_tier(paths, selection.options)
        codes.append(code)
        counts.update(tier_counts)
        if code not in (0, 5) and {"-x", "--exitfirst"} & set(selection.options):
            break
    print(summary_line(counts, time.monotonic() - started), flush=True)
    failing = [code for code in codes if code not in (0, 5)]
    if failing:
        return failing[0]
    return 0 if 0 in codes else 5


def _shown(path: str) -> str:
    return os.path.relpath(path, ROOT)


def _run_tier(paths: list[str], options: list[str]) -> tuple[int, Counter[str]]:
    with tempfile.TemporaryDirectory(prefix="visual-planner-tests-") as folder:
        counts_file = Path(folder) / "counts.json"
        command = [sys.executable, "-m", "pytest", "-c", str(TESTS / "pytest.ini"), "--rootdir", str(TESTS)]
        command += ["-p", "launcher.pytest_counts", *options, *paths]
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, COUNTS_VARIABLE: str(counts_file)})
        try:
            code = process.wait()
        except BaseException:
            process.wait()  # pytest has got the same Ctrl-C and is ending the servers it started
            raise
        if counts_file.is_file():
            return code, Counter(json.loads(counts_file.read_text(encoding="utf-8")))
    # Ended without saying anything: a crash, a timeout, or wrong usage. It must not look like a pass.
    return code or 1, Counter(errors=1)


def summary_line(counts: Counter[str], seconds: float) -> str:
    """The closing line, in the form of pytest's own."""
    parts = [f"{counts[name]} {_word(name, counts[name])}" for name in OUTCOMES if counts[name]]
    text = f" {', '.join(parts) or 'no tests ran'} in {seconds:.2f}s "
    return text.center(100, "=")


def _word(outcome: str, number: int) -> str:
    return "error" if outcome == "errors" and number == 1 else outcome

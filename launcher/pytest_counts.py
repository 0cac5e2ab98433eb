"""pytest plugin of `run.py test`: passes the outcome counts of one tier to the launcher, which prints one total."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .testing import REPORT_VARIABLE

# pytest's category -> word in the summary line.
_WORDS = {"error": "errors"}
_folders: dict[str, dict[str, float]] = {}
_CATEGORIES = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "error")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Leave out this tier's own closing line: a reader (or a program) must find one total, not several."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and hasattr(reporter, "summary_stats"):
        reporter.summary_stats = lambda: None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Add up the time of each folder's tests; shared set-up counts for the first test that needs it."""
    wall, cpu = time.perf_counter(), _cpu_seconds()
    yield
    folder = item.path.parent.relative_to(item.config.rootpath).as_posix()
    entry = _folders.setdefault(folder, {"tests": 0, "wall": 0.0, "cpu": 0.0})
    entry["tests"] += 1
    entry["wall"] += time.perf_counter() - wall
    entry["cpu"] += _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    """CPU time of this process and of its ended children [s]."""
    return sum(os.times()[:4])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the counts to the file that the launcher named."""
    counts = {_WORDS.get(name, name): len(terminalreporter.stats.get(name, ())) for name in _CATEGORIES}
    report = {"counts": counts, "folders": _folders}
    Path(os.environ[REPORT_VARIABLE]).write_text(json.dumps(report), encoding="utf-8")

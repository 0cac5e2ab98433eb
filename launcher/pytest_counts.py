"""pytest plugin of `run.py test`: passes the outcome counts of one tier to the launcher, which prints one total."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from .testing import COUNTS_VARIABLE

# pytest's category → word in the summary line.
_WORDS = {"error": "errors"}
_CATEGORIES = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "error")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Leave out this tier's own closing line: a reader (or a program) must find one total, not several."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and hasattr(reporter, "summary_stats"):
        reporter.summary_stats = lambda: None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the counts to the file that the launcher named."""
    counts = {_WORDS.get(name, name): len(terminalreporter.stats.get(name, ())) for name in _CATEGORIES}
    Path(os.environ[COUNTS_VARIABLE]).write_text(json.dumps(counts), encoding="utf-8")

"""The editor's pure modules, run by node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
NOT_RUN = "NO NODE.JS, SO NO TEST OF THE EDITOR'S STATE WAS RUN"


@pytest.fixture(scope="session")
def node():
    """`node(script, *arguments, given=text)`: what the script wrote, as an object."""
    program = shutil.which("node")
    if program is None:
        pytest.skip(NOT_RUN)

    def run(script: str, *arguments: str, given: str = "") -> Any:
        command = [program, str(HERE / script), *arguments]
        result = subprocess.run(command, input=given, capture_output=True, text=True, encoding="utf-8", timeout=300)
        assert result.returncode == 0, result.stderr[-3000:]
        return json.loads(result.stdout)

    return run


@pytest.fixture
def ask(node):
    """`ask(call, items)`: an answer for each item; see answer.js."""
    return lambda call, items: node("answer.js", given=json.dumps({"call": call, "items": items}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it where nobody can miss it."""
    if any(NOT_RUN in str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])):
        terminalreporter.section(NOT_RUN, sep="!", red=True, bold=True)

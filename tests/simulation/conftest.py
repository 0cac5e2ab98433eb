"""Tables to test on: one without pictures (always), one with (skipped, loudly, where no OpenGL works)."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from simulation.errors import SimulationError
from simulation.world import World


@pytest.fixture(scope="session")
def blind_world():
    with World(size=None) as world:
        yield world


@pytest.fixture(scope="session")
def world():
    try:
        made = World(size=64)
    except SimulationError as error:
        pytest.skip(f"NO RENDERING TEST HAS RUN: {error}")
    with made:
        yield made


@pytest.fixture
def command(repository):
    """Run ``python -m simulation`` with arguments; extra environment by keyword."""

    def run(*arguments, **environment):
        return subprocess.run(
            [sys.executable, "-m", "simulation", *map(str, arguments)],
            cwd=repository,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run

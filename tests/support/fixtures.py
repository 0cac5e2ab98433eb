"""Fixtures that any test may ask for. Heavy imports happen inside the fixtures: the core tests must stay fast."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def repository() -> Path:
    """Folder of the repository."""
    return ROOT

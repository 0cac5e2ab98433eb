"""Shared test set-up: import paths, and the fixtures of tests/support."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# The repository root gives `visual_planner`, `simulation`, `training` and `launcher`. Tests that import
# ComfyUI in this process put its folder in front (tests/support/inprocess.py), so that `import nodes` finds ComfyUI's.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

pytest_plugins = ["support.fixtures"]

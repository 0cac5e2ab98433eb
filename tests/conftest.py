"""Shared test set-up: import paths, and the fixtures of tests/support."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Where no compiled files are wanted beside the sources, they go to the cache, for this process and its children, as
# run.py has it: each of the many processes of the tests would compile all that it imports.
if sys.dont_write_bytecode:
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.pycache_prefix = os.environ.setdefault("PYTHONPYCACHEPREFIX", str(ROOT / ".cache" / "bytecode"))
    sys.dont_write_bytecode = False

# The repository root gives `visual_planner`, `simulation`, `training` and `launcher`. Tests that import
# ComfyUI in this process put its folder in front (tests/support/inprocess.py), so that `import nodes` finds ComfyUI's.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

# Importing torch, ComfyUI and diffusers, and torch.compile's tracing, make millions of objects that stay: looking for
# garbage after every 700 new ones takes a tenth of the time.
gc.set_threshold(50_000, 20, 20)

pytest_plugins = ["support.fixtures"]


def pytest_collection_finish() -> None:
    """What the imports have made stays to the end: no garbage collection need look at it again."""
    gc.collect()
    gc.freeze()

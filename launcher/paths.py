"""Paths of the project on disk."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
CACHE = ROOT / ".cache"
OUTPUT = ROOT / "output"
WORKFLOWS = ROOT / "workflows"
EXAMPLES = ROOT / "models" / "tiny_planner" / "examples"

SECONDS_VARIABLE = "VISUAL_PLANNER_ENVIRONMENT_SECONDS"
"""Environment variable with the time that the first half took to prepare the environment [s]."""

# Name of the plugin's folder inside custom_nodes of the servers started here. ComfyUI shows it in its template browser.
PLUGIN_NAME = "visual_planner"


def venv_python(venv: Path) -> Path:
    """Path of the Python program inside a virtual environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def shown(path: Path) -> str:
    """A path as the user would type it: relative to the current folder if it lies below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)

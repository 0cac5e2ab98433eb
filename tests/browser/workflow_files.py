"""The repository's workflow files by name."""

from __future__ import annotations

import json
import time
from typing import Any

from launcher.client import ComfyClient
from launcher.copies import APP_NAMES
from launcher.paths import WORKFLOWS
from launcher.serve import EXAMPLE_PICTURES

JsonObject = dict[str, Any]

TINY = ("tiny_both", "tiny_text", "tiny_trajectory")
FLUX = ("flux_dev_text", "flux_dev_trajectory")
KLEIN = ("klein_both", "klein_text", "klein_trajectory")
"""Workflows for FLUX.2-klein, whose stock loaders need a ComfyUI of 2026 to load the real weights."""
NAMES = (*FLUX, *KLEIN, *TINY)
SIMULATED = ("tiny_plan_and_execute", "tiny_replan")
"""Workflows whose first frame comes from the simulator."""
GOAL = "tiny_goal"
"""Workflow that plans towards a goal picture."""
HANDED_ON = ("tiny_extend", "tiny_upscale")
"""Workflows in which plans go on: to a further plan, and to ComfyUI's own nodes."""
WAN = "wan_first_last_frame"
"""Workflow that hands frames of a plan to Wan, whose weights no test has."""
TRAINED = "tiny_train"
"""Workflow that trains a planner and plans with it; one test runs it, with fewer steps."""
METAWORLD = "metaworld_plan_and_execute"
"""Workflow of Meta-World, whose planner's weights do not ship."""
RUNNABLE = (*TINY, GOAL, *SIMULATED, *HANDED_ON)
"""Workflows that need nothing but this repository and its packages; their thumbnails show them after a run."""
ALL = (*RUNNABLE, TRAINED, *FLUX, *KLEIN, WAN, METAWORLD)
NEWER = {"ltx_first_last_frame": "0.18.1", "minimax_first_last_frame": "0.33.0", "tiny_interpolate": "0.20.0"}
"""Workflows with nodes that the oldest supported ComfyUI lacks -> the version that their stock nodes name."""
FILES = (*ALL, *NEWER)
"""Every workflow; those of `ALL` open in each supported ComfyUI."""
APPS = tuple(APP_NAMES.values())
"""Copies that open in App mode; the graphs are those of their workflows."""
TEMPLATES = (*FILES, *APPS)
"""What the template browser offers."""
FIRST_FRAME = "visual_planner_first_frame.png"
"""Name in ComfyUI's input folder under which the workflow files expect the example scene."""


def upload_examples(client: ComfyClient) -> None:
    """Put the pictures that the workflow files load into a server's input folder."""
    for name, file in EXAMPLE_PICTURES.items():
        client.upload_image(file.read_bytes(), name)


def forget_results(client: ComfyClient) -> None:
    """Empty a server's cache, so that the next run executes every node.

    ComfyUI sends nothing of a cached node that is no output: the loader's text would stay away, and its height with it.
    The request is a flag that wakes the server's worker; it is repeated because a worker that tidies up after a run
    does not notice it.
    """
    for _ in range(3):
        client.post("/free", {"free_memory": True})
        time.sleep(0.7)


def read(name: str) -> JsonObject:
    """Content of a workflow file."""
    return json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))


def mode_of(name: str) -> str:
    """What the workflow plans from: `text`, `trajectory` or `both`."""
    return name.rpartition("_")[2]

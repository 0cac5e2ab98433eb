"""Copies of the workflow files in the two other forms that ComfyUI supports: API prompts and App mode.

Run `.venv/bin/python -m launcher.copies` after changing a workflow file; a test compares the copies with the files.

- `workflows/api/NAME.json` is what `POST /prompt` takes. Titles, packs and versions are in `_meta`, which the server
  ignores and the editor reads when it opens the file.
- `workflows/robot_planner_NAME.app.json` is the same graph with the widgets and the results that App mode shows
  (`extra.linearData` and `extra.linearMode`; frontends without App mode show the graph). Widgets are named by node and
  name, the form that every frontend with App mode reads. The template browser lists files by their names alone,
  which is why they begin with the words that people search for.
"""

from __future__ import annotations

import copy
import json
import sys

from .client import ComfyClient
from .comfyui import find_comfyui
from .errors import LauncherError, exit_code_of
from .paths import WORKFLOWS, shown
from .server import ComfyServer
from .workflow import JsonObject, Workflow, feeding

PLANS = ("tiny_both", "tiny_goal", "tiny_text", "tiny_trajectory", "klein_both", "klein_text", "klein_trajectory")
OTHERS = ("tiny_extend", "tiny_plan_and_execute", "tiny_replan", "tiny_train", "tiny_upscale")
API = (*PLANS, *OTHERS)
"""Workflows that have an API copy."""
APP_NAMES = {name: f"robot_planner_{name}.app" for name in PLANS}
"""Workflows that have an App mode copy -> its name."""
API_FOLDER = WORKFLOWS / "api"
APP_INPUTS = (
    ("LoadImage", "image", "The scene before the robot moves"),
    ("VisualPlannerPrompt", "instruction", "What the robot should do"),
    ("VisualPlannerTrajectory", "trajectory_editor", "The path of the gripper: drag its points"),
    ("KSampler", "seed", "Another number is another plan"),
    ("KSampler", "steps", "Fewer are faster"),
)
"""Inputs of App mode: type of node, widget, text below its name."""
GOAL_INPUT = "The scene as it should be at the end"
"""Text below the name of the picture that is connected to Condition's *goal*."""
APP_OUTPUTS = ("SaveVideo", "SaveImage", "VisualPlannerCheck")
"""Types of the nodes whose results App mode shows."""


def api_copy(workflow: Workflow) -> JsonObject:
    """The API prompt of a workflow file: node id -> class_type, inputs, `_meta` with title, pack and version.

    Raises:
        WorkflowError: A node's type is unknown to the server.
    """
    prompt = workflow.to_prompt()
    for node in workflow.data["nodes"]:
        if (entry := prompt.get(str(node["id"]))) is not None:
            known = node.get("properties") or {}
            entry["_meta"] |= {key: known[key] for key in ("cnr_id", "ver") if key in known}
    return prompt


def app_copy(data: JsonObject) -> JsonObject:
    """A workflow that opens in App mode, with its widgets and results in the order of `APP_INPUTS` and `APP_OUTPUTS`.

    Raises:
        LauncherError: It has none of the results that App mode shows.
    """
    app = copy.deepcopy(data)
    nodes = app["nodes"]
    goal = feeding(app, "VisualPlannerCondition", "goal")
    inputs = [
        [node["id"], widget, {"description": GOAL_INPUT if node is goal else description}]
        for kind, widget, description in APP_INPUTS
        for node in nodes
        if node["type"] == kind
    ]
    outputs = [node["id"] for kind in APP_OUTPUTS for node in nodes if node["type"] == kind]
    if not outputs:
        raise LauncherError(f"a workflow must have one of {', '.join(APP_OUTPUTS)} to be shown in App mode, got none")
    app["extra"] = {**app.get("extra", {}), "linearMode": True, "linearData": {"inputs": inputs, "outputs": outputs}}
    return app


def texts(object_info: JsonObject) -> dict[str, str]:
    """Every copy: its path below `workflows` -> content of the file.

    Args:
        object_info: Node types of a server that has the plugin.

    Raises:
        WorkflowError: A file is missing, or has a node that the server lacks.
    """
    made = {}
    for name in API:
        workflow = Workflow.load(WORKFLOWS / f"{name}.json", object_info)
        made[f"api/{name}.json"] = _written(api_copy(workflow))
        if name in APP_NAMES:
            made[f"{APP_NAMES[name]}.json"] = _written(app_copy(workflow.data))
    return made


def _written(data: JsonObject) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Write all copies, with the node types of the ComfyUI that `run.py` uses."""
    with ComfyServer(find_comfyui(), cpu=True) as server:
        made = texts(ComfyClient(server.url).object_info())
    API_FOLDER.mkdir(exist_ok=True)
    for path, text in made.items():
        (WORKFLOWS / path).write_text(text, encoding="utf-8")
        print(shown(WORKFLOWS / path))
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))

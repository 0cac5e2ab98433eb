"""`run.py demo`: from a first frame to a nine-frame plan, through the workflow file that a user opens in ComfyUI."""

from __future__ import annotations

import argparse
import hashlib
import os
import time
from typing import Any

import numpy as np

from visual_planner.planner.prompts import parts_of

from .client import ComfyClient, PromptError, Run
from .comfyui import find_comfyui
from .console import StatusLine, note
from .demo_goal import workflow_for
from .demo_inputs import DemoRequest, png_of, read_request
from .demo_results import build_report, collect, write_results
from .errors import LauncherError
from .paths import PLUGIN_NAME, SECONDS_VARIABLE, WORKFLOWS, shown
from .serve import SERVE_BASE, offer_workflows, wait_until_ended
from .server import ComfyServer, first_free_port
from .workflow import Workflow

SEED_WIDGETS = ("seed", "noise_seed")


def run_demo(options: argparse.Namespace) -> int:
    """Make a plan and write it.

    Raises:
        LauncherError: Bad input, or the run failed; nothing has been written then.
    """
    phases = Phases()
    request = read_request(options)
    phases.end("input")
    comfyui = find_comfyui()
    phases.end("ComfyUI")
    status = StatusLine("Plan")
    status.update(f"starting ComfyUI {comfyui.version}")
    settings: dict[str, Any] = {}
    if options.serve:
        offer_workflows(SERVE_BASE)
        settings = {"base": SERVE_BASE, "port": first_free_port(8188)}
    with ComfyServer(comfyui, **settings) as server:
        phases.end("server start")
        client = ComfyClient(server.url)
        workflow = workflow_for(request.mode, WORKFLOWS, client.object_info())
        used = fill_in(workflow, request, client)
        run = follow(client, workflow, status)
        phases.end("plan")
        plan = collect(client, workflow, run)
        report = build_report(request, plan, run, workflow, used, server.seconds_to_start, client.system_stats())
        files = write_results(request.out, plan, report)
        phases.end("files")
        status.close("done")
        note(phases.text())
        for file in files:
            print(shown(file))
        if options.serve:
            where = f"ComfyUI stays open at {server.url}, workflows under {PLUGIN_NAME}/ in the sidebar (key W)."
            wait_until_ended(server, where)
    return 0


class Phases:
    """How long each part took, beginning with the first half's work on the environment."""

    def __init__(self) -> None:
        self.seconds = {"environment": float(os.environ.pop(SECONDS_VARIABLE, 0.0))}
        self._since = time.monotonic()

    def end(self, name: str) -> None:
        """End a phase, which began when the previous one ended."""
        now = time.monotonic()
        self.seconds[name] = now - self._since
        self._since = now

    def text(self) -> str:
        """One line with every phase and their sum [s]."""
        parts = [f"{name} {seconds:.1f}" for name, seconds in self.seconds.items()]
        return f"Seconds: {', '.join(parts)}; in all {sum(self.seconds.values()):.1f}"


def fill_in(workflow: Workflow, request: DemoRequest, client: ComfyClient) -> dict[str, Any]:
    """Set the workflow's widgets to the requested values, as a user would in the editor.

    Returns:
        The settings that the report names, as they are now in the workflow.

    Raises:
        LauncherError: The workflow lacks a node that must be set.
    """
    goal = workflow.feeding("VisualPlannerCondition", "goal")
    first = [node for node in workflow.find("LoadImage") if node is not goal]
    workflow.set_widget(_one(workflow, "LoadImage", first), "image", upload(client, request.first_frame, "first_frame"))
    if request.goal is not None:
        found = [node for node in (goal,) if node is not None]
        workflow.set_widget(_one(workflow, "goal picture's", found), "image", upload(client, request.goal, "goal"))
    if request.trajectory is not None:
        workflow.set_widget(_only(workflow, "VisualPlannerTrajectory"), "trajectory_json", request.trajectory)
    prompt_node = _only(workflow, "VisualPlannerPrompt")
    workflow.set_widget(prompt_node, "mode", request.mode)
    told = parts_of(request.mode).text
    if not told:
        if request.instruction is not None:
            note(f"Note: mode {request.mode} ignores the instruction.")
    elif request.instruction is not None:
        workflow.set_widget(prompt_node, "instruction", request.instruction)
    _set_everywhere(workflow, SEED_WIDGETS, request.seed)
    if request.steps is not None:
        _set_everywhere(workflow, ("steps",), request.steps)
    instruction = workflow.get_widget(prompt_node, "instruction") if told else None
    return {"instruction": instruction, "steps": _first_value(workflow, "steps")}


def upload(client: ComfyClient, picture: np.ndarray, kind: str) -> str:
    """Put a picture into the input folder; returns its name.

    It is named by its content: the folder of `--serve` is kept, and must not fill up with copies.
    """
    content = png_of(picture)
    return client.upload_image(content, f"{kind}_{hashlib.sha256(content).hexdigest()[:12]}.png")


def follow(client: ComfyClient, workflow: Workflow, status: StatusLine) -> Run:
    """Run the workflow and show its progress.

    Raises:
        PromptError: It failed.
    """
    prompt = workflow.to_prompt()
    titles = {node_id: node["_meta"]["title"] for node_id, node in prompt.items()}

    def show(kind: str, data: dict[str, Any]) -> None:
        node = titles.get(str(data.get("node")), "")
        if kind == "executing" and node:
            status.update(node)
        elif kind == "progress" and node:
            status.update(f"{node} {data['value']}/{data['max']}")

    try:
        return client.run(prompt, workflow.data, show)
    except KeyboardInterrupt:
        client.interrupt()
        raise
    except PromptError:
        status.close()
        raise


def _only(workflow: Workflow, node_type: str) -> dict[str, Any]:
    return _one(workflow, node_type, workflow.find(node_type))


def _one(workflow: Workflow, node_type: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    if len(found) != 1:
        raise LauncherError(f"{workflow.name} must have one {node_type} node, it has {len(found)}")
    return found[0]


def _nodes_with(workflow: Workflow, name: str) -> list[dict[str, Any]]:
    return [node for node in workflow.data["nodes"] if workflow.has_widget(node, name)]


def _set_everywhere(workflow: Workflow, names: tuple[str, ...], value: int) -> None:
    nodes = [(node, name) for name in names for node in _nodes_with(workflow, name)]
    if not nodes:
        raise LauncherError(f"{workflow.name} has no node with {' or '.join(names)}")
    for node, name in nodes:
        workflow.set_widget(node, name, value)


def _first_value(workflow: Workflow, name: str) -> Any:
    return next((workflow.get_widget(node, name) for node in _nodes_with(workflow, name)), None)

"""The demo's results: plan.mp4, grid.png, frames/*.png and report.json, all of them or none."""

from __future__ import annotations

import io
import json
import math
import os
import platform
import shutil
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from runtime.writing import writing
from visual_planner.checks.diagnostics import diagnose
from visual_planner.grid.frame import fit_frame
from visual_planner.trajectory.parse import parse_trajectory

from .client import ComfyClient, Run
from .demo_inputs import DemoRequest
from .errors import LauncherError
from .paths import ROOT
from .workflow import Workflow

JsonObject = dict[str, Any]

# Node type -> phase in the report; everything else counts as "other".
PHASES = {
    "VisualPlannerTinyLoader": "load",
    "VisualPlannerLoraLoader": "load",
    "CLIPTextEncode": "text",
    "VisualPlannerCondition": "condition",
    "KSampler": "sample",
    "SamplerCustom": "sample",
    "SamplerCustomAdvanced": "sample",
    "VAEDecode": "decode",
    "VisualPlannerCheck": "check",
    "SaveVideo": "save",
    "SaveImage": "save",
}


@dataclass(frozen=True)
class Plan:
    """The files of a finished plan, still in memory."""

    video: bytes
    grid: bytes
    frames: tuple[bytes, ...]

    def frame_arrays(self) -> np.ndarray:
        """(F, h, w, 3) float32 in [0, 1]."""
        arrays = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in self.frames]
        return np.stack(arrays).astype(np.float32) / 255


def collect(client: ComfyClient, workflow: Workflow, run: Run) -> Plan:
    """Fetch video, grid and frames of a run from the server.

    The video is what Save Video wrote; grid and frames are what picture nodes after VAE Decode and Slice Grid show.

    Raises:
        LauncherError: The workflow does not give one of them.
    """
    prompt = workflow.to_prompt()
    wanted = {
        "video (Save Video)": [node_id for node_id, node in prompt.items() if node["class_type"] == "SaveVideo"],
        "grid (Save Image behind VAE Decode)": _picture_nodes_behind(prompt, "VAEDecode"),
        "frames (Save Image behind Slice Grid)": _picture_nodes_behind(prompt, "VisualPlannerSliceGrid"),
    }
    files = []
    for what, nodes in wanted.items():
        found = next((found for node_id in nodes if (found := run.files(node_id))), None)
        if found is None:
            raise LauncherError(f"{workflow.name} produced no {what}")
        files.append(found)
    video, grid, frames = files
    return Plan(client.download(video[0]), client.download(grid[0]), tuple(client.download(file) for file in frames))


def _picture_nodes_behind(prompt: JsonObject, class_type: str) -> list[str]:
    """Ids of the nodes that save or show the output of nodes of a type."""
    found = []
    for node_id, node in prompt.items():
        source = node["inputs"].get("images")
        if node["class_type"] not in ("SaveImage", "PreviewImage") or not isinstance(source, list):
            continue
        if prompt.get(source[0], {}).get("class_type") == class_type:
            found.append(node_id)
    return found


def build_report(
    request: DemoRequest, plan: Plan, run: Run, workflow: Workflow, used: JsonObject, start: float, stats: JsonObject
) -> JsonObject:
    """Content of report.json.

    Args:
        request: The request.
        plan: The resulting plan.
        run: The run on the server.
        workflow: The workflow that was run.
        used: Settings as the workflow had them (instruction, steps, prompt).
        start: Seconds that the server took to start [s].
        stats: The server's `/system_stats`.
    """
    return {
        "mode": request.mode,
        **used,
        "seed": request.seed,
        "workflow": workflow.name,
        "seconds": phase_seconds(workflow, run, start),
        "diagnostics": plan_diagnostics(request, plan),
        "versions": versions(stats),
    }


def phase_seconds(workflow: Workflow, run: Run, start: float) -> JsonObject:
    """Seconds of each phase: the server's start, then the nodes grouped by what they do [s]."""
    types = {node_id: node["class_type"] for node_id, node in workflow.to_prompt().items()}
    seconds: dict[str, float] = {"server_start": start}
    for node_id, spent in run.node_seconds.items():
        phase = PHASES.get(types.get(node_id, ""), "other")
        seconds[phase] = seconds.get(phase, 0.0) + spent
    seconds["run"] = run.seconds
    return {name: round(value, 3) for name, value in seconds.items()}


def plan_diagnostics(request: DemoRequest, plan: Plan) -> JsonObject:
    """The planner's own checks of the frames (see `visual_planner.checks.diagnostics`)."""
    frames = plan.frame_arrays()
    count, height, width, _ = frames.shape
    first = fit_frame(request.first_frame, height, width)[0]
    points = None
    if request.trajectory is not None:
        points = parse_trajectory(request.trajectory).scaled(width, height).paths[0].resample(count)
    return _without_nan(diagnose(frames, first, points).as_dict())


def _without_nan(value: Any) -> Any:
    """The value with null in place of numbers that JSON cannot represent."""
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def versions(stats: JsonObject) -> JsonObject:
    """Versions of everything that influences a plan."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    system = stats["system"]
    return {
        "visual_planner": project["version"],
        "comfyui": system["comfyui_version"],
        "torch": system["pytorch_version"],
        "python": system["python_version"].split()[0],
        "platform": platform.platform(),
        "devices": [device["name"] for device in stats["devices"]],
    }


def write_results(out: Path, plan: Plan, report: JsonObject) -> list[Path]:
    """Write everything into a folder beside `out` first, then move it into place, the report last.

    Returns:
        The files, in the order in which they are worth looking at.

    Raises:
        LauncherError: They cannot be written. Nothing has been changed in `out`, unless the move itself failed.
    """
    with writing(out, LauncherError):
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.partial-", dir=out.parent))
        try:
            (partial / "frames").mkdir()
            (partial / "plan.mp4").write_bytes(plan.video)
            (partial / "grid.png").write_bytes(plan.grid)
            for index, frame in enumerate(plan.frames):
                (partial / "frames" / f"{index:03}.png").write_bytes(frame)
            (partial / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            _move_into_place(partial, out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return [out / "plan.mp4", out / "grid.png", out / "frames", out / "report.json"]


def _move_into_place(partial: Path, out: Path) -> None:
    out.mkdir(exist_ok=True)
    (out / "report.json").unlink(missing_ok=True)  # an old report must not remain beside new pictures
    if (out / "frames").is_dir():
        for stale in (out / "frames").glob("[0-9][0-9][0-9].png"):
            stale.unlink()
    (out / "frames").mkdir(exist_ok=True)
    for file in sorted((partial / "frames").iterdir()):
        os.replace(file, out / "frames" / file.name)
    for name in ("plan.mp4", "grid.png", "report.json"):
        os.replace(partial / name, out / name)

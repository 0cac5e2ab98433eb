"""Thumbnails of the workflows: the first frame with the drawn path, the plan in its grid, and words."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from browser.workflow_files import JsonObject, read
from launcher.copies import API_FOLDER, APP_NAMES
from visual_planner.trajectory.overlay import draw_overlay
from visual_planner.trajectory.parse import parse_trajectory

WIDTH, HEIGHT, MARGIN, GAP = 640, 376, 12, 4  # [px]
WORDS = 44  # height of the strip of words [px]
SIDE = HEIGHT - WORDS - 2 * MARGIN  # of the first frame, and of a grid of 3x3 [px]
BACKGROUND, INK, FAINT = "#f4f4f2", "#1d1d1f", "#6a6a70"
START, END = "#2b6cb0", "#c05621"  # frames that are handed on


@dataclass(frozen=True)
class Sheet:
    """What a thumbnail says, and from which run its plan is.

    Attributes:
        title: What the workflow does, in a few words.
        note: What else there is to know; of a workflow that needs weights, whose plan is shown.
        source: The workflow whose run gives the plan, of those that need no further weights.
        marked: Frames with a coloured border.
    """

    title: str
    note: str
    source: str
    marked: tuple[int, ...] = ()


REQUEST = '"Put the red cube onto the plate"'
GOAL_NOTE = "the last frame as the goal shows it"
STAND_IN = "the picture shows the tiny planner's plan"
MODES = {
    "text": "an instruction",
    "trajectory": "a drawn path",
    "both": "an instruction and a drawn path",
    "goal": "a goal picture",
}


def _plans() -> dict[str, Sheet]:
    made = {}
    for name in APP_NAMES:
        base, mode = name.rsplit("_", 1)
        planner = {"tiny": "tiny planner", "klein": "FLUX.2-klein"}[base]
        note = f"needs weights; {STAND_IN}" if base != "tiny" else GOAL_NOTE if mode == "goal" else REQUEST
        made[name] = Sheet(f"Robot plan from {MODES[mode]}: {planner}", note, f"tiny_{mode}")
        made[APP_NAMES[name]] = Sheet(f"App: robot plan from {MODES[mode]}, {planner}", note, f"tiny_{mode}")
    return made


SHEETS = {
    **_plans(),
    "flux_dev_text": Sheet("Robot plan from an instruction: FLUX.1-dev", f"needs weights; {STAND_IN}", "tiny_text"),
    "flux_dev_trajectory": Sheet(
        "Robot plan from a drawn path: FLUX.1-dev", f"needs weights; {STAND_IN}", "tiny_trajectory"
    ),
    "tiny_goal": Sheet("Robot plan towards a goal picture: tiny planner", GOAL_NOTE, "tiny_goal"),
    "tiny_extend": Sheet(
        "A longer robot plan: one line, one plan",
        '"Pick up the red cube", then "Put the red cube onto the plate"',
        "tiny_extend",
    ),
    "tiny_plan_and_execute": Sheet(
        "Plan, then execute it in the simulator",
        "a simulated scene, its plan, the actions, and the verdict",
        "tiny_plan_and_execute",
    ),
    "tiny_replan": Sheet(
        "Execute, look, and plan the rest again",
        "the first five frames are as observed",
        "tiny_replan",
        (0, 1, 2, 3, 4),
    ),
    "tiny_train": Sheet(
        "Train a robot planner, then plan with it", f"ten steps beside ComfyUI; {STAND_IN}", "tiny_text"
    ),
    "tiny_upscale": Sheet("Frames of a plan, enlarged", "eight times larger, and a video of them", "tiny_upscale"),
    "tiny_interpolate": Sheet(
        "Frames of a plan, with frames between them", "needs weights (23 MB); the picture shows the plan", "tiny_text"
    ),
    "ltx_first_last_frame": Sheet(
        "Two frames of a plan, joined by LTX-2.3", "needs weights; LTX paints what lies between", "tiny_text", (0, 8)
    ),
    "minimax_first_last_frame": Sheet(
        "Two frames of a plan, joined by MiniMax H3", "needs weights; H3 paints what lies between", "tiny_text", (0, 8)
    ),
    "wan_first_last_frame": Sheet(
        "Two frames of a plan, joined by Wan", "needs weights; Wan paints what lies between", "tiny_text", (0, 8)
    ),
}
"""Workflow -> its thumbnail. Meta-World's is a picture of its graph: neither its planner nor a plan of it ships."""


def drawn_path(name: str) -> str | None:
    """The trajectory of a workflow file, as text."""
    data: JsonObject = read(name)
    found = [node["widgets_values"][0] for node in data["nodes"] if node["type"] == "VisualPlannerTrajectory"]
    return found[0] if found else None


def contact_sheet(name: str, frames: list[Image.Image]) -> Image.Image:
    """The thumbnail of a workflow.

    Args:
        name: The workflow, one of `SHEETS`.
        frames: Its plan, in time order, all of one size; the first is the scene before the robot moves.

    Returns:
        `WIDTH` x `HEIGHT` pixels.
    """
    sheet = SHEETS[name]
    first = frames[0]
    if (path := drawn_path(sheet.source)) is not None:
        drawn = parse_trajectory(path).scaled(first.width, first.height)
        first = Image.fromarray(draw_overlay(np.asarray(first.convert("RGB")), drawn))
    picture = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    picture.paste(first.resize((SIDE, SIDE), Image.Resampling.BICUBIC), (MARGIN, MARGIN))
    left, room = 2 * MARGIN + SIDE, WIDTH - 3 * MARGIN - SIDE
    cols = min(range(1, len(frames) + 1), key=lambda count: -_cell(len(frames), count, room))
    cell = _cell(len(frames), cols, room)
    top = MARGIN + (SIDE - (cell + GAP) * -(-len(frames) // cols) + GAP) // 2
    pen = ImageDraw.Draw(picture)
    for number, frame in enumerate(frames):
        row, col = divmod(number, cols)
        if row % 2:  # time runs like a snake, as in the grid that the model generates
            col = cols - 1 - col
        x, y = left + col * (cell + GAP), top + row * (cell + GAP)
        picture.paste(frame.convert("RGB").resize((cell, cell), Image.Resampling.BICUBIC), (x, y))
        if number in sheet.marked:
            color = START if number < len(frames) - 1 else END
            pen.rectangle((x, y, x + cell - 1, y + cell - 1), outline=color, width=4)
    base = HEIGHT - WORDS - 2
    pen.text((MARGIN, base), sheet.title, INK, ImageFont.load_default(18))
    pen.text((MARGIN, base + 23), sheet.note, FAINT, ImageFont.load_default(13))
    return picture


def _cell(count: int, cols: int, room: int) -> int:
    rows = -(-count // cols)
    return min((room - (cols - 1) * GAP) // cols, (SIDE - (rows - 1) * GAP) // rows)


def plan_prompt(name: str) -> JsonObject:
    """The API prompt of the run whose frames a thumbnail shows."""
    return json.loads((API_FOLDER / f"{SHEETS[name].source}.json").read_text(encoding="utf-8"))


def plan_node(prompt: JsonObject) -> str:
    """Node of a prompt that shows the plan's frames: where they are saved, else the last one that slices a grid."""
    titled = [node for node, entry in prompt.items() if entry["_meta"]["title"] == "Save frames"]
    sliced = [node for node, entry in prompt.items() if entry["class_type"] == "VisualPlannerSliceGrid"]
    return (titled or sliced)[-1]

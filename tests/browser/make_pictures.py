"""Makes the workflows' thumbnails (contact sheets of a run's plan) and photographs the editor for the README.

Run `PYTHONPATH=.:tests .venv/bin/python tests/browser/make_pictures.py` when a workflow, the look of a node or the
planner has changed, and look at the result; with names of workflows behind it (or `readme`), these alone.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from browser.chrome import chrome
from browser.contact_sheet import SHEETS, contact_sheet, plan_node, plan_prompt
from browser.editor import NO_OFFERS, SETTINGS, Editor
from browser.workflow_files import METAWORLD, TEMPLATES, upload_examples
from launcher.client import ComfyClient, Run
from launcher.comfyui import find_comfyui
from launcher.paths import EXAMPLES, ROOT, WORKFLOWS, shown
from launcher.server import ComfyServer
from visual_planner.trajectory.overlay import draw_overlay
from visual_planner.trajectory.parse import parse_trajectory

IMAGES = ROOT / "docs" / "images"
README, README_WORKFLOW = "readme", "tiny_both"
EVERYTHING = (*TEMPLATES, README)
THUMBNAIL_WIDTH, README_WIDTH = 640, 1600  # [px]
MARGIN = 8  # around the graph [px]
ENLARGED, GAP = 2, 6  # frames in the README's strip: factor, and space between them [px]
PHOTOGRAPHED = {
    **NO_OFFERS,
    "LiteGraph.Canvas.LowQualityRenderingZoomThreshold": 0.0,  # a graph that is shown whole keeps its words
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}
"""Settings for photographs; frontends know one of the last two."""
SPACE, FRAME_MS = 24, 400  # the README's animation: between its three parts [px], and how long a frame is shown


def main(names: tuple[str, ...] = EVERYTHING) -> None:
    """Make the thumbnails of the named workflows; `readme` stands for the README's pictures."""
    with ComfyServer(find_comfyui(), cpu=True) as server:
        client = ComfyClient(server.url, timeout=180)
        upload_examples(client)
        plans: dict[str, list[Image.Image]] = {}
        for name in names:
            if name not in SHEETS:
                continue
            source = SHEETS[name].source
            if source not in plans:
                prompt = plan_prompt(name)
                plans[source] = pictures_of(client, client.run(prompt), plan_node(prompt))
            save(contact_sheet(name, plans[source]), WORKFLOWS / f"{name}.jpg")
        if photographed := [name for name in (README, METAWORLD) if name in names]:
            # before the page opens: a new user's would show templates instead of a graph
            client.post("/settings", {**SETTINGS, **PHOTOGRAPHED})
            with chrome() as browser:
                photograph(client, Editor(browser, client.url), photographed)


def photograph(client: ComfyClient, editor: Editor, names: list[str]) -> None:
    """Photograph the README's workflow after a run, and the thumbnail of the one that has no plan to show."""
    for name in names:
        editor.open_file(WORKFLOWS / f"{README_WORKFLOW if name == README else name}.json")
        place = editor.show_all()
        ended = editor.run() if name == README else {"kind": "execution_success"}
        if ended["kind"] != "execution_success":
            raise SystemExit(f"{name} did not run: {ended}")
        window = Image.open(io.BytesIO(editor.page.screenshot())).convert("RGB")
        if name != README:
            save(crop(window, place, THUMBNAIL_WIDTH), WORKFLOWS / f"{name}.jpg")
            continue
        save(crop(window, place, README_WIDTH), IMAGES / "readme_workflow.jpg")
        frames = plan_frames(client, editor, ended["prompt_id"])
        save(strip(frames), IMAGES / "demo_plan.png")
        save_animation(animation(frames), IMAGES / "plan.webp")
    editor.close()


def crop(window: Image.Image, place: tuple[float, float, float, float], width: int) -> Image.Image:
    """The graph out of a photograph of the window, at most `width` wide."""
    left, top, right, bottom = place[0], place[1], place[0] + place[2], place[1] + place[3]
    picture = window.crop(tuple(map(round, (left - MARGIN, top - MARGIN, right + MARGIN, bottom + MARGIN))))
    width = min(width, picture.width)
    return picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)


def plan_frames(client: ComfyClient, editor: Editor, prompt_id: str) -> list[Image.Image]:
    """Frames of a finished run in time order."""
    node = next(node for node in editor.nodes() if node["type"] == "VisualPlannerSliceGrid")
    run = Run(prompt_id, client.get(f"/history/{prompt_id}")[prompt_id]["outputs"])
    return pictures_of(client, run, str(node["id"]))


def pictures_of(client: ComfyClient, run: Run, node: str) -> list[Image.Image]:
    """Pictures that a node of a run has made, in order."""
    return [Image.open(io.BytesIO(client.download(file))).convert("RGB") for file in run.files(node)]


def strip(frames: list[Image.Image]) -> Image.Image:
    """Frames side by side."""
    frames = [enlarged(frame) for frame in frames]
    width, height = frames[0].size
    picture = Image.new("RGB", (len(frames) * (width + GAP) - GAP, height), "white")
    for number, frame in enumerate(frames):
        picture.paste(frame, (number * (width + GAP), 0))
    return picture


def enlarged(frame: Image.Image) -> Image.Image:
    """A frame as large as the README shows it."""
    return frame.resize((frame.width * ENLARGED, frame.height * ENLARGED), Image.Resampling.BICUBIC)


def animation(frames: list[Image.Image]) -> list[Image.Image]:
    """For each frame: the condition, the plan as a 3x3 serpentine grid with that cell outlined, and the frame."""
    frames = [enlarged(frame) for frame in frames]
    side = 3 * (frames[0].width + GAP) - GAP
    with Image.open(EXAMPLES / "first_frame.png") as opened:
        first = np.asarray(opened.convert("RGB"))
    path = parse_trajectory((EXAMPLES / "trajectory.json").read_text())
    condition = Image.fromarray(draw_overlay(first, path.scaled(first.shape[1], first.shape[0])))
    cells = [(number // 3, number % 3 if number // 3 != 1 else 2 - number % 3) for number in range(len(frames))]
    pictures = []
    for frame in frames:
        picture = Image.new("RGB", (3 * side + 2 * SPACE, side), "white")
        for left, shown_frame in ((0, condition), (2 * (side + SPACE), frame)):
            picture.paste(shown_frame.resize((side, side), Image.Resampling.BICUBIC), (left, 0))
        for (row, col), cell in zip(cells, frames, strict=True):
            place = (side + SPACE + col * (cell.width + GAP), row * (cell.height + GAP))
            if cell is frame:
                picture.paste(
                    "#e0007a", (place[0] - 3, place[1] - 3, place[0] + cell.width + 3, place[1] + cell.height + 3)
                )
            picture.paste(cell, place)
        pictures.append(picture)
    return pictures


def save_animation(pictures: list[Image.Image], file: Path) -> None:
    """Write an endless animation that rests on its last picture."""
    pauses = [*[FRAME_MS] * (len(pictures) - 1), 4 * FRAME_MS]
    pictures[0].save(file, save_all=True, append_images=pictures[1:], duration=pauses, loop=0, quality=88, method=6)
    print(f"{shown(file)}: {pictures[0].width}x{pictures[0].height}, {file.stat().st_size / 1000:.0f} kB")


def save(picture: Image.Image, file: Path) -> None:
    """Write a picture and say so."""
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file, **({"quality": 82, "optimize": True} if file.suffix == ".jpg" else {"optimize": True}))
    print(f"{shown(file)}: {picture.width}x{picture.height}, {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or EVERYTHING)

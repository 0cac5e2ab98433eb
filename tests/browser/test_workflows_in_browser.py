"""Every workflow file in ComfyUI's own editor; the tiny planner's ones run there to the finished video."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from typing import Any

import av
import pytest
from editor import Editor
from workflow_files import ALL, TINY, JsonObject, read

from launcher.client import ComfyClient, Run
from launcher.paths import WORKFLOWS
from launcher.workflow import Workflow

Box = list[float]

pytestmark = [pytest.mark.browser, pytest.mark.comfyui, pytest.mark.timeout(1200)]
FRAMES = 9
CELL = 64


def overlapping(nodes: list[JsonObject]) -> list[tuple[str, str]]:
    """Pairs of nodes that lie on each other."""
    return [(a["title"], b["title"]) for a, b in itertools.combinations(nodes, 2) if _touch(a["box"], b["box"])]


def _touch(a: Box, b: Box) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def _inside(box: Box, outer: Box) -> bool:
    return (
        box[0] >= outer[0]
        and box[1] >= outer[1]
        and box[0] + box[2] <= outer[0] + outer[2]
        and box[1] + box[3] <= outer[1] + outer[3]
    )


def check_layout(editor: Editor) -> None:
    """No node on another, each but the note inside one group, groups apart."""
    nodes, groups = editor.nodes(), editor.groups()
    assert overlapping(nodes) == []
    assert overlapping(groups) == []
    for node in nodes:
        homes = [group["title"] for group in groups if _inside(node["box"], group["box"])]
        assert len(homes) == (node["type"] != "MarkdownNote"), f"{node['title']} lies in {homes}"


@pytest.mark.parametrize("name", ALL)
def test_a_workflow_opens_as_it_was_saved(editor: Editor, client: ComfyClient, pictures: Path, name: str) -> None:
    file = WORKFLOWS / f"{name}.json"
    saved = read(name)
    editor.open_file(file)
    editor.screenshot(pictures / f"{name}_opened.png")
    models = [model for node in saved["nodes"] for model in node.get("properties", {}).get("models", [])]
    if models:  # no test has them: the editor offers each for download
        offer = editor.close_dialog()
        assert offer.startswith("Missing Models") and [m["name"] for m in models if m["name"] not in offer] == []
    assert editor.messages() == []
    # The dialog asks the internet for the size of each, which no test may reach.
    expected = (*(model["url"] for model in models), *(["console: Error fetching file size"] if models else []))
    assert [text for text in editor.problems if not any(part in text for part in expected)] == []
    assert [node["type"] for node in editor.nodes() if not node["known"]] == []
    check_layout(editor)

    now = editor.serialise()
    assert widget_values(now) == widget_values(saved)
    assert sorted(now["links"]) == sorted(saved["links"])
    assert [group["title"] for group in now["groups"]] == [group["title"] for group in saved["groups"]]
    asked = Workflow.load(file, client.object_info()).to_prompt()
    assert without_shown_texts(editor.prompt()) == asked, "the demo would run something else"
    editor.show_all()
    editor.screenshot(pictures / f"{name}.png")


def without_shown_texts(prompt: JsonObject) -> JsonObject:
    """The prompt without what Preview Any shows: the editor sends that along, and no node reads it."""
    for node in prompt.values():
        if node["class_type"] == "PreviewAny":
            node["inputs"].pop("preview", None)
    return prompt


def widget_values(workflow: JsonObject) -> dict[int, list[Any]]:
    values = {int(node["id"]): node.get("widgets_values") or [] for node in workflow["nodes"]}
    assert any(values.values())
    return values


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_workflow_runs_to_the_finished_video(
    editor: Editor, client: ComfyClient, pictures: Path, name: str
) -> None:
    editor.open_file(WORKFLOWS / f"{name}.json")
    editor.show_all()  # the editor fetches pictures when it draws their nodes
    ended = editor.run()
    editor.screenshot(pictures / f"{name}_run.png")
    assert ended["kind"] == "execution_success", ended
    assert editor.messages() == []
    assert editor.problems == []
    check_layout(editor)

    nodes = {node["title"]: node for node in editor.nodes()}
    assert nodes["Slice Grid (Visual Planner)"]["pictures"] == [CELL] * FRAMES
    assert nodes["Save frames"]["pictures"] == [CELL] * FRAMES
    assert nodes["Save grid"]["pictures"] == [3 * CELL]
    assert len(nodes["Check Plan (Visual Planner)"]["pictures"]) == 1
    assert editor.page.locator("video").count() >= 1, "Save Video shows nothing"
    check_video(client, ended["prompt_id"], str(nodes["Save Video"]["id"]))


def check_video(client: ComfyClient, prompt_id: str, node_id: str) -> None:
    """Nine frames of a cell's size in the file that Save Video wrote."""
    files = Run(prompt_id, client.get(f"/history/{prompt_id}")[prompt_id]["outputs"]).files(node_id)
    assert len(files) == 1
    assert files[0].filename.endswith(".mp4")
    with av.open(io.BytesIO(client.download(files[0]))) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert [frame.shape for frame in frames] == [(CELL, CELL, 3)] * FRAMES


def test_a_broken_file_is_seen(editor: Editor, tmp_path: Path) -> None:
    """The checks above see what they are there for: an unknown node, and nodes that lie on each other."""
    broken = read("tiny_text")
    broken["nodes"][1]["type"] = "NoSuchNode"
    broken["nodes"][4]["pos"] = broken["nodes"][3]["pos"]
    file = tmp_path / "broken.json"
    file.write_text(json.dumps(broken), encoding="utf-8")
    editor.open_file(file)
    assert any("NoSuchNode" in message for message in editor.messages())
    assert [node["type"] for node in editor.nodes() if not node["known"]] == ["NoSuchNode"]
    with pytest.raises(AssertionError, match="First frame"):
        check_layout(editor)

"""Every workflow file in ComfyUI's own editor, in canvas nodes and in Nodes 2.0; what can run here runs there."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from browser import layout
from browser.editor import NO_OFFERS, SETTINGS, Editor
from browser.workflow_files import ALL, RUNNABLE, TINY, JsonObject, forget_results, read
from playwright.sync_api import Browser

from launcher.client import ComfyClient, Run
from launcher.paths import WORKFLOWS
from launcher.server import ComfyServer
from launcher.workflow import Workflow

pytestmark = [pytest.mark.browser, pytest.mark.comfyui, pytest.mark.timeout(1200)]
FRAMES = 9
CELL = 64


NEWEST = ("tiny_both", "tiny_replan", "tiny_extend")
"""Workflows that have all nodes of the others: they are run in the newer frontend, too."""


LOADERS_TEXTS = """() => window.app.graph.nodes.filter(node => node.type === 'VisualPlannerLoraLoader')
    .map(node => node.widgets.find(w => w.name === 'visual_planner_text')?.element.textContent ?? '')"""


def check_layout(editor: Editor) -> None:
    """No node on another, each but the note inside one group and below its title, groups apart."""
    assert layout.faults(editor.nodes(), editor.groups()) == []


@pytest.mark.parametrize("name", ALL)
def test_a_workflow_opens_as_it_was_saved(editor: Editor, client: ComfyClient, pictures: Path, name: str) -> None:
    file = WORKFLOWS / f"{name}.json"
    saved = read(name)
    editor.open_file(file)
    editor.screenshot(pictures / f"{name}_opened.png")
    models = [
        model
        for node in saved["nodes"]
        if node.get("mode", 0) == 0 or not editor.has_errors_tab  # older frontends offer those of bypassed nodes, too
        for model in node.get("properties", {}).get("models", [])
    ]
    if models:  # no test has them: the editor offers each for download
        offer = editor.missing()
        assert "Missing Models" in offer and [m["name"] for m in models if m["name"] not in offer] == []
    assert editor.messages() == []
    # The editor asks the internet for the size of each, which no test may reach.
    expected = (*(model["url"] for model in models), *(["console: Error fetching file size"] if models else []))
    assert [text for text in editor.problems if not any(part in text for part in expected)] == []
    assert [node["type"] for node in editor.nodes() if not node["known"]] == []
    check_layout(editor)

    now = editor.serialise()
    assert values_of_saved_widgets(now, saved) == widget_values(saved)
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


def values_of_saved_widgets(now: JsonObject, saved: JsonObject) -> dict[int, list[Any]]:
    """Without the widgets that a newer ComfyUI's nodes have more, behind those that the file knows.

    What these say is in the prompt, which is compared with the defaults.
    """
    known = {number: len(values) for number, values in widget_values(saved).items()}
    return {number: values[: known.get(number)] for number, values in widget_values(now).items()}


def widget_values(workflow: JsonObject) -> dict[int, list[Any]]:
    values = {int(node["id"]): node.get("widgets_values") or [] for node in workflow["nodes"]}
    assert any(values.values())
    return values


@pytest.fixture
def canvas_again(editor: Editor) -> Iterator[None]:
    """No offer of models over the graph; afterwards the module's page has it, and canvas nodes, again."""
    offers = [setting for setting in NO_OFFERS if editor.has(setting)]
    for setting in offers:
        editor.set(setting, False)
    yield
    for setting in offers:
        editor.set(setting, True)
    editor.set("Comfy.VueNodes.Enabled", False)


@pytest.mark.parametrize("name", RUNNABLE)
@pytest.mark.usefixtures("canvas_again")
def test_a_workflow_runs_and_lies_clean_in_both_renderers(
    editor: Editor, client: ComfyClient, pictures: Path, name: str
) -> None:
    """Each renderer shows a run in which every node is executed, and one that takes all from the server's cache."""
    for nodes2 in (False, True):
        forget_results(client)
        editor.set("Comfy.VueNodes.Enabled", nodes2)
        editor.open_file(WORKFLOWS / f"{name}.json")
        editor.show_all()  # the editor fetches pictures when it draws their nodes
        check_layout(editor)
        ended = editor.run()
        editor.screenshot(pictures / f"{name}_run{'_nodes2' if nodes2 else ''}.png")
        assert ended["kind"] == "execution_success", ended
        check_layout(editor)
        check_texts(editor)
        assert editor.problems == []
        if name in TINY and not nodes2:
            check_results(editor, client, ended["prompt_id"])
        assert editor.run()["kind"] == "execution_success"
        check_layout(editor)


@pytest.mark.parametrize("name", [name for name in ALL if name not in RUNNABLE])
@pytest.mark.usefixtures("canvas_again")
def test_what_cannot_run_here_lies_clean_in_nodes2(editor: Editor, pictures: Path, name: str) -> None:
    """Before a run; for what one adds, each node has the height that nodes of its kind have where they run."""
    editor.set("Comfy.VueNodes.Enabled", True)
    editor.open_file(WORKFLOWS / f"{name}.json")
    editor.show_all()
    editor.screenshot(pictures / f"{name}_nodes2.png")
    check_layout(editor)
    needed = layout.heights_by_kind([read(other) for other in RUNNABLE])
    nodes = {(node["type"], node["size"][0]): node["size"][1] for node in read(name)["nodes"]}
    low = {kind: (height, needed[kind]) for kind, height in nodes.items() if height < needed.get(kind, 0)}
    assert low == {}, "make_layouts.py gives them their heights"


@pytest.fixture(scope="module")
def newest(browser: Browser, newer_server: ComfyServer) -> Iterator[Editor]:
    """A page of the newer frontend with Nodes 2.0."""
    ComfyClient(newer_server.url).post("/settings", SETTINGS | {"Comfy.VueNodes.Enabled": True})
    editor = Editor(browser, newer_server.url, "newer_nodes2")
    yield editor
    editor.close()
    ComfyClient(newer_server.url).post("/settings", SETTINGS)


@pytest.mark.parametrize("name", NEWEST)
def test_the_newer_frontend_lays_it_out_clean(
    newest: Editor, newer_server: ComfyServer, pictures: Path, name: str
) -> None:
    forget_results(ComfyClient(newer_server.url))
    newest.open_file(WORKFLOWS / f"{name}.json")
    newest.show_all()
    check_layout(newest)
    ended = newest.run()
    newest.screenshot(pictures / f"{name}_run_newer_nodes2.png")
    assert ended["kind"] == "execution_success", ended
    check_layout(newest)
    check_texts(newest)


def check_texts(editor: Editor) -> None:
    """The loader says what it loaded: else its node has not the height that the layout must have room for."""
    loaders = editor.page.evaluate(LOADERS_TEXTS)
    assert loaders and all("3x3 serpentine" in text for text in loaders), loaders


def check_results(editor: Editor, client: ComfyClient, prompt_id: str) -> None:
    """Grid, frames, check and video of a tiny workflow."""
    nodes = {node["title"]: node for node in editor.nodes()}
    assert nodes["Slice Grid (Visual Planner)"]["pictures"] == [CELL] * FRAMES
    assert nodes["Save frames"]["pictures"] == [CELL] * FRAMES
    assert nodes["Save grid"]["pictures"] == [3 * CELL]
    assert len(nodes["Check Plan (Visual Planner)"]["pictures"]) == 1
    assert editor.page.locator("video").count() >= 1, "Save Video shows nothing"
    check_video(client, prompt_id, str(nodes["Save Video"]["id"]))


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
    told = editor.missing()
    assert "NoSuchNode" in told or "comfyui-visual-planner" in told  # the node, or the pack that the file says it is of
    assert [node["type"] for node in editor.nodes() if not node["known"]] == ["NoSuchNode"]
    with pytest.raises(AssertionError, match="First frame"):
        check_layout(editor)

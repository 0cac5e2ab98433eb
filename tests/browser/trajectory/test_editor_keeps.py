"""What the trajectory editor takes in and keeps: pictures, copies of the node, subgraphs, a reload of the page."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from browser.drawing import TRAJECTORY, Drawing
from browser.editor import READY

pytestmark = [pytest.mark.browser, pytest.mark.comfyui, pytest.mark.timeout(1200)]

UNLINK = """type => {
    const node = window.app.canvas.graph.nodes.find(one => one.type === type)
    node.disconnectInput(node.inputs.findIndex(input => input.name === 'first_frame'))
}"""
COPY_PICTURE = """async () => {
    const canvas = Object.assign(document.createElement('canvas'), {width: 90, height: 50})
    canvas.getContext('2d').fillRect(0, 0, 90, 50)
    const blob = await new Promise(resolve => canvas.toBlob(resolve))
    await navigator.clipboard.write([new ClipboardItem({'image/png': blob})])
}"""
TEXTS = """type => window.app.canvas.graph.nodes.filter(one => one.type === type)
    .map(node => node.widgets.find(w => w.name === 'trajectory_json').value)"""
SELECT = """type => {
    const {canvas} = window.app
    canvas.deselectAll?.()
    canvas.selectNode(canvas.graph.nodes.find(one => one.type === type))
    document.activeElement?.blur()
    canvas.canvas.focus?.()
}"""
ASIDE = """type => {
    const {graph} = window.app.canvas
    graph.nodes.findLast(one => one.type === type).pos = [60, 560]
    window.app.canvas.setDirty(true, true)
}"""
WRAP = """type => {
    const {canvas} = window.app
    const node = canvas.graph.nodes.find(one => one.type === type)
    const {node: outer, subgraph} = canvas.graph.convertToSubgraph(new Set([node]))
    canvas.openSubgraph(subgraph, outer)
}"""
LEAVE = "() => window.app.canvas.setGraph(window.app.canvas.graph.rootGraph)"


def kinds(drawing: Drawing) -> list[str]:
    return drawing.page.evaluate("() => window.app.canvas.graph.nodes.map(node => node.type).sort()")


def queued(drawing: Drawing) -> list[str]:
    """Trajectories that would be sent to the server."""
    entries = drawing.editor.prompt().values()
    return [entry["inputs"]["trajectory_json"] for entry in entries if entry["class_type"] == TRAJECTORY]


def test_a_picture_can_be_pasted(drawing: Drawing, pictures: Path) -> None:
    page = drawing.page
    page.evaluate(UNLINK, TRAJECTORY)
    drawing.draw_three()
    before = kinds(drawing)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate(COPY_PICTURE)
    drawing.keys("Control+v")
    drawing.wait_for("state.picture && state.picture[0] === 90")
    assert kinds(drawing) == before, "the paste is the editor's, not the graph's"
    state = drawing.state()
    assert state["options"]["picture"].startswith("visual_planner/")
    assert (state["doc"]["width"], state["doc"]["height"]) == (90, 50), "what was drawn goes with the frame's size"
    assert len(drawing.points()) == 3
    drawing.shot(pictures, "pasted")
    assert drawing.editor.faults() == []


def test_a_file_can_be_dropped(drawing: Drawing, pictures: Path, tmp_path: Path) -> None:
    """As the system drops it: the browser itself reads the file."""
    file = tmp_path / "a scene.png"
    cv2.imwrite(str(file), np.full((40, 80, 3), 90, np.uint8))
    drawing.page.evaluate(UNLINK, TRAJECTORY)
    drawing.wait_for("state.picture === null")
    before = kinds(drawing)
    x, y = drawing.place(32, 32)
    chrome = drawing.page.context.new_cdp_session(drawing.page)
    data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        chrome.send("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})
    drawing.wait_for("state.picture && state.picture[0] === 80")
    assert kinds(drawing) == before
    assert drawing.state()["options"]["picture"].startswith("visual_planner/a scene")
    drawing.shot(pictures, "dropped")
    assert drawing.editor.faults() == []


def test_a_copy_of_the_node_has_the_drawing_and_goes_its_own_way(drawing: Drawing, pictures: Path) -> None:
    drawing.draw_three()
    drawn = drawing.state()["text"]
    drawing.page.evaluate(SELECT, TRAJECTORY)
    drawing.keys("Control+c", "Control+v")
    drawing.page.wait_for_function(f"type => ({TEXTS})(type).length === 2", arg=TRAJECTORY)
    assert drawing.page.evaluate(TEXTS, TRAJECTORY) == [drawn, drawn]
    drawing.page.evaluate(ASIDE, TRAJECTORY)
    drawing.editor.rest(600)
    drawing.click(40, 50)
    drawing.shot(pictures, "copied")
    texts = drawing.page.evaluate(TEXTS, TRAJECTORY)
    assert sorted(len(json.loads(text)["paths"][0]["points"]) for text in texts) == [3, 4]
    assert drawn in texts, "the copy keeps what it was copied with"
    assert drawing.editor.faults() == []


def test_drawing_inside_a_subgraph(drawing: Drawing, pictures: Path) -> None:
    drawing.page.evaluate(WRAP, TRAJECTORY)
    drawing.wait_for("state.box[2] > 100 && state.picture")
    assert kinds(drawing) == [TRAJECTORY]
    assert drawing.state()["picture"] == [64, 64], "the picture of the Load Image outside"
    drawing.editor.rest(600)
    drawing.draw_three()
    drawn = drawing.state()["text"]
    assert len(drawing.points()) == 3
    drawing.shot(pictures, "subgraph")
    drawing.page.evaluate(LEAVE)
    drawing.editor.rest(600)
    assert queued(drawing) == [drawn]
    ended = drawing.editor.run()
    assert ended["kind"] == "execution_success", ended

    saved = drawing.editor.serialise()
    drawing.page.evaluate("async saved => { await window.app.loadGraphData(saved) }", saved)
    drawing.editor.settle()
    assert queued(drawing) == [drawn], "saved and loaded inside its subgraph"
    assert drawing.editor.faults() == []


def test_a_reload_of_the_page_keeps_what_was_drawn(drawing: Drawing, pictures: Path) -> None:
    drawing.draw_three()
    drawn = drawing.state()["text"]
    drawing.editor.rest(2000)  # ComfyUI keeps the open workflow a moment after each change
    drawing.page.reload(wait_until="domcontentloaded")
    drawing.page.wait_for_function(READY)
    drawing.page.wait_for_function(
        f"([type, drawn]) => ({TEXTS})(type).includes(drawn)", arg=[TRAJECTORY, drawn], timeout=60_000
    )
    drawing.wait_for("state.picture && state.box[2] > 100")
    assert drawing.state()["doc"]["paths"][0]["points"][1]["x"] == pytest.approx(30, abs=0.5)
    drawing.shot(pictures, "reloaded")
    assert queued(drawing) == [drawn]
    assert drawing.editor.faults() == []


LINK = """
text => {
  const graph = window.app.graph;
  const source = window.LiteGraph.createNode("PrimitiveStringMultiline");
  graph.add(source);
  source.widgets[0].value = text;
  const node = graph.nodes.find(({ type }) => type === "VisualPlannerTrajectory");
  source.connect(0, node, node.inputs.findIndex(({ name }) => name === "trajectory_json"));
}
"""


def test_a_linked_text_is_shown_after_the_run_and_not_drawn_over(drawing: Drawing) -> None:
    """A text in another pack's form, from another node: the editor shows what was run, without the unseen point."""
    text = '[{"x": 4, "y": 5}, {"x": -100, "y": -100}, {"x": 30, "y": 40}]'
    drawing.page.evaluate(LINK, text)
    drawing.settle()
    ended = drawing.editor.run()
    assert ended["kind"] == "execution_success", ended
    drawing.wait_for("state.doc.paths[0].points[0].x === 4")
    (shown,) = drawing.state()["doc"]["paths"]
    assert [(point["x"], point["y"], point["t"]) for point in shown["points"]] == [(4, 5, 0), (30, 40, 1)]
    drawing.click(50, 30)
    assert "the text comes from another node" in drawing.state()["status"]
    assert drawing.state()["doc"]["paths"] == [shown]
    prompt = drawing.editor.prompt()
    node = next(entry for entry in prompt.values() if entry["class_type"] == TRAJECTORY)
    assert isinstance(node["inputs"]["trajectory_json"], list), "the link stays"
    assert drawing.editor.faults() == []

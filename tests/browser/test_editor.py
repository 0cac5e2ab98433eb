"""The trajectory editor in ComfyUI: drawn by mouse and keys, stored, loaded, undone, copied, and queued as drawn.

The pinned frontend is tested with its canvas nodes and with Nodes 2.0. A newer one is tested in the same way where its
unpacked `static` folder is named by the environment variable VISUAL_PLANNER_FRONTEND.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from editor import SETTINGS, Editor
from workflow_files import FIRST_FRAME, JsonObject

from launcher.client import ComfyClient
from launcher.comfyui import ComfyUI
from launcher.paths import EXAMPLES, WORKFLOWS
from launcher.server import ComfyServer

pytestmark = [pytest.mark.browser, pytest.mark.comfyui, pytest.mark.timeout(1200)]

NODE = "VisualPlannerTrajectory"
NEWER = os.environ.get("VISUAL_PLANNER_FRONTEND")
MODES = {"canvas": (False, False), "nodes2": (False, True), "newer_canvas": (True, False), "newer_nodes2": (True, True)}
START = """async ([node, picture]) => {
    await window.app.loadGraphData({last_node_id: 0, last_link_id: 0, nodes: [], links: [], version: 0.4})
    const {graph} = window.app
    const [load, path, show] = ['LoadImage', node, 'PreviewAny'].map(type => LiteGraph.createNode(type))
    load.pos = [60, 100]; path.pos = [460, 100]; show.pos = [1000, 100]
    for (const one of [load, path, show]) graph.add(one)
    load.widgets.find(w => w.name === 'image').value = picture
    load.connect(0, path, path.inputs.findIndex(i => i.name === 'first_frame'))
    path.connect(1, show, 0)
    const {ds} = window.app.canvas
    ds.scale = 1; ds.offset[0] = 60; ds.offset[1] = 60
    window.app.canvas.setDirty(true, true)
}"""
STATE = """type => {
    const node = window.app.graph.nodes.find(one => one.type === type)
    const {editor} = node.visualPlanner, {session, view, picture} = editor
    const box = editor.part.canvas.getBoundingClientRect(), strip = editor.part.strip.getBoundingClientRect()
    return {
        text: node.widgets.find(w => w.name === 'trajectory_json').value, selection: session.selection,
        doc: session.doc, picture: picture && [picture.naturalWidth, picture.naturalHeight],
        box: [box.x, box.y, box.width, box.height], strip: [strip.x, strip.y, strip.width, strip.height],
        zoom: box.width / editor.part.canvas.clientWidth, view: [view.scale, view.left, view.top],
        status: editor.part.status.textContent, size: Array.from(node.size), problem: editor.problem,
        focused: document.activeElement === editor.part.keys, options: node.properties.visual_planner_editor ?? {},
    }
}"""


class Drawing:
    """The editor of the only Trajectory node on the page."""

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        self.page = editor.page

    def state(self) -> JsonObject:
        return self.page.evaluate(STATE, NODE)

    def points(self) -> list[JsonObject]:
        """Points of the first path, as they are stored."""
        return json.loads(self.state()["text"])["paths"][0]["points"]

    def place(self, x: float, y: float) -> tuple[float, float]:
        """A place of the first frame [px] in the window [px]."""
        state = self.state()
        scale, left, top = state["view"]
        return (
            state["box"][0] + (x * scale + left) * state["zoom"],
            state["box"][1] + (y * scale + top) * state["zoom"],
        )

    def click(self, x: float, y: float, **how: Any) -> None:
        self.page.mouse.click(*self.place(x, y), **how)
        self.settle()

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.drag_in_window(self.place(*start), self.place(*end))

    def drag_in_window(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(*end, steps=4)
        self.page.mouse.up()
        self.settle()

    def moment(self, time: float) -> tuple[float, float]:
        """A time on the strip, in the window [px]."""
        state = self.state()
        left, top, width, height = state["strip"]
        side = 14 * state["zoom"]
        return left + side + time * (width - 2 * side), top + height * 0.75

    def keys(self, *names: str) -> None:
        for name in names:
            self.page.keyboard.press(name)
        self.settle()

    def button(self, label: str) -> None:
        self.page.locator(f".vp-editor button[aria-label^='{label}']").click()
        self.settle()

    def settle(self) -> None:
        self.page.wait_for_timeout(60)

    def wait_for(self, condition: str) -> None:
        """Wait until a condition on `state` holds."""
        self.page.wait_for_function(f"type => {{ const state = ({STATE})(type); return {condition} }}", arg=NODE)


@pytest.fixture(scope="module")
def newer_server(comfyui: ComfyUI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    arguments = ["--front-end-root", str(NEWER)]
    base = tmp_path_factory.mktemp("newer")
    with ComfyServer(comfyui, base=base, cpu=True, extra_arguments=arguments) as server:
        ComfyClient(server.url).upload_image((EXAMPLES / "first_frame.png").read_bytes(), FIRST_FRAME)
        yield server


@pytest.fixture(scope="module", params=MODES)
def page(request: pytest.FixtureRequest, browser) -> Iterator[Editor]:
    """The editor's page in each mode, with the example picture and a new Trajectory node on the graph."""
    newer, vue = MODES[request.param]
    if newer and not NEWER:
        pytest.skip("no newer frontend: VISUAL_PLANNER_FRONTEND must name its `static` folder")
    url = request.getfixturevalue("newer_server" if newer else "client").url
    ComfyClient(url).post("/settings", SETTINGS | {"Comfy.VueNodes.Enabled": vue})
    editor = Editor(browser, url)
    editor.mode = request.param
    yield editor
    editor.close()
    ComfyClient(url).post("/settings", SETTINGS)


@pytest.fixture
def drawing(page: Editor) -> Drawing:
    page.problems.clear()
    page.page.evaluate(START, [NODE, FIRST_FRAME])
    drawing = Drawing(page)
    drawing.wait_for("state.picture && state.box[2] > 100")
    page.settle(300)
    return drawing


def shot(drawing: Drawing, pictures: Path, name: str) -> None:
    drawing.editor.screenshot(pictures / f"editor_{drawing.editor.mode}_{name}.png")


def problems(editor: Editor) -> list[str]:
    """What went wrong; a newer frontend without the internet fills the console itself, so there script errors count."""
    newer = MODES[editor.mode][0]
    return [text for text in editor.problems if not newer or text.startswith("page error")]


def node_sizes(drawing: Drawing) -> dict[str, list[float]]:
    return drawing.page.evaluate(
        "() => Object.fromEntries(window.app.graph.nodes.map(node => [node.type, Array.from(node.size)]))"
    )


def draw_three(drawing: Drawing) -> None:
    """Begin with an empty path and click three points."""
    drawing.button("Delete this path")
    for x, y in ((12, 50), (30, 20), (50, 30)):
        drawing.click(x, y)


def test_draw_drag_delete_undo_time_save_queue(drawing: Drawing, pictures: Path) -> None:
    assert drawing.state()["picture"] == [64, 64], "the first frame is there without a run"
    draw_three(drawing)
    places = [(point["x"], point["y"]) for point in drawing.points()]
    assert places == [pytest.approx(place, abs=0.5) for place in ((12, 50), (30, 20), (50, 30))]
    assert drawing.state()["doc"]["width"] == 64, "points are in pixels of the first frame"
    shot(drawing, pictures, "drawn")

    drawing.drag((30, 20), (34, 10))
    assert (drawing.points()[1]["x"], drawing.points()[1]["y"]) == pytest.approx((34, 10), abs=0.5)
    drawing.click(50, 30)
    drawing.keys("Delete")
    assert len(drawing.points()) == 2
    drawing.keys("Control+z")
    assert len(drawing.points()) == 3
    drawing.keys("Control+z")
    assert (drawing.points()[1]["x"], drawing.points()[1]["y"]) == pytest.approx((30, 20), abs=0.5)
    drawing.keys("Control+y")
    assert (drawing.points()[1]["x"], drawing.points()[1]["y"]) == pytest.approx((34, 10), abs=0.5)

    drawing.click(34, 10)
    drawing.page.keyboard.press("Alt+ArrowRight")
    drawing.settle()
    given = drawing.points()[1]["t"]
    drawing.drag_in_window(drawing.moment(given), drawing.moment(6 / 8))
    assert drawing.points()[1]["t"] == pytest.approx(6 / 8, abs=1e-4), "drawn to the seventh frame"
    assert "frame 7" in drawing.state()["status"]
    drawn = drawing.state()["text"]
    shot(drawing, pictures, "timed")

    prompt = drawing.editor.prompt()
    node = next(entry for entry in prompt.values() if entry["class_type"] == NODE)
    assert node["inputs"]["trajectory_json"] == drawn
    ended = drawing.editor.run()
    assert ended["kind"] == "execution_success", ended
    shot(drawing, pictures, "run")

    saved = drawing.editor.serialise()
    stored = next(one for one in saved["nodes"] if one["type"] == NODE)
    assert stored["widgets_values"][0] == drawn
    assert len(stored["widgets_values"]) == 2, "the editor itself is not stored"
    sizes = node_sizes(drawing)
    drawing.page.evaluate("async saved => { await window.app.loadGraphData(saved) }", saved)
    drawing.wait_for("state.picture !== null")
    after = drawing.state()
    assert after["text"] == drawn
    assert len(after["doc"]["paths"][0]["points"]) == 3
    # When Nodes 2.0 loads what canvas nodes saved, it enlarges every node alike.
    ratios = {kind: new[0] / sizes[kind][0] for kind, new in node_sizes(drawing).items()}
    assert ratios[NODE] == pytest.approx(ratios["LoadImage"], rel=0.01), "the node keeps the user's size"
    assert problems(drawing.editor) == []


def test_keys_alone(drawing: Drawing) -> None:
    draw_three(drawing)
    drawing.keys("Shift+Tab", "Shift+Tab")
    assert drawing.state()["selection"] == {"path": 0, "point": 0}
    before = drawing.points()[0]
    drawing.keys("ArrowRight", "Shift+ArrowUp")
    after = drawing.points()[0]
    assert (after["x"], after["y"]) == pytest.approx((before["x"] + 1, before["y"] - 10))
    drawing.keys("Tab", "Insert")
    assert len(drawing.points()) == 4
    drawing.keys("h")
    assert len(drawing.points()) == 5
    drawing.keys("n")
    assert len(drawing.state()["doc"]["paths"]) == 2
    drawing.keys("Control+z", "Control+z", "Control+z")
    assert len(drawing.points()) == 3
    nodes = len(drawing.page.evaluate("() => window.app.graph.nodes.map(node => node.type)"))
    drawing.keys("Escape", "Delete", "Backspace")
    assert len(drawing.page.evaluate("() => window.app.graph.nodes.map(n => n.type)")) == nodes
    assert drawing.state()["focused"]
    assert problems(drawing.editor) == []


def test_overlapping_points_and_lines(drawing: Drawing) -> None:
    draw_three(drawing)
    drawing.click(30, 20)
    drawing.keys("h")
    assert len(drawing.points()) == 4
    drawing.click(50, 30)
    chosen = []
    for _ in range(3):
        drawing.click(30, 20)
        chosen.append(drawing.state()["selection"]["point"])
    assert chosen in ([1, 2, 1], [2, 1, 2]), "each click takes the other one"
    drawing.click(30, 20, button="right")
    assert len(drawing.points()) == 3


def test_the_graphs_own_undo_and_a_copy(drawing: Drawing) -> None:
    draw_three(drawing)
    drawn = drawing.state()["text"]
    copies = drawing.page.evaluate(
        """type => {
            const node = window.app.graph.nodes.find(one => one.type === type)
            const copy = node.clone()
            window.app.graph.add(copy)
            const text = copy.widgets.find(w => w.name === 'trajectory_json').value
            window.app.graph.remove(copy)
            return text
        }""",
        NODE,
    )
    assert copies == drawn
    drawing.page.evaluate("() => { document.activeElement?.blur(); window.app.canvas.canvas.focus?.() }")
    drawing.page.evaluate(
        "async () => { await window.app.extensionManager.workflow.activeWorkflow.changeTracker.undo() }"
    )
    drawing.wait_for(f"state.text !== {json.dumps(drawn)}")
    drawing.wait_for("state.doc.paths[0]?.points.length !== 3")
    assert problems(drawing.editor) == []


def test_bad_text_says_where(drawing: Drawing, pictures: Path) -> None:
    drawing.button("Show the trajectory as text")
    text = drawing.page.locator(".vp-editor .vp-text")
    text.fill('{"version": 1,\n "width": 64,, }')
    drawing.settle()
    assert "line 2 column 14" in drawing.state()["status"]
    shot(drawing, pictures, "bad_text")
    text.fill('{"version": 1, "width": 64, "height": 64, "paths": [{"points": [{"x": 1, "y": 2}, {"x": 9, "y": 9}]}]}')
    drawing.settle()
    assert drawing.state()["problem"] is None
    assert drawing.points() == [{"x": 1, "y": 2}, {"x": 9, "y": 9}]
    drawing.button("Show the trajectory as text")
    drawing.click(40, 40)
    assert len(drawing.points()) == 3


def test_a_picture_can_be_dropped(drawing: Drawing) -> None:
    drawing.page.evaluate(
        """async type => {
            const node = window.app.graph.nodes.find(one => one.type === type)
            node.disconnectInput(node.inputs.findIndex(i => i.name === 'first_frame'))
            const canvas = Object.assign(document.createElement('canvas'), {width: 90, height: 50})
            canvas.getContext('2d').fillRect(0, 0, 90, 50)
            const blob = await new Promise(resolve => canvas.toBlob(resolve))
            const data = new DataTransfer()
            data.items.add(new File([blob], 'dropped.png', {type: 'image/png'}))
            const drop = new DragEvent('drop', {dataTransfer: data, bubbles: true})
            node.visualPlanner.editor.part.root.dispatchEvent(drop)
        }""",
        NODE,
    )
    drawing.wait_for("state.picture && state.picture[0] === 90")
    assert drawing.state()["options"]["picture"].startswith("visual_planner/dropped")
    assert problems(drawing.editor) == []


def test_the_shipped_workflow_shows_its_path(page: Editor, pictures: Path) -> None:
    page.problems.clear()
    page.open_file(WORKFLOWS / "tiny_trajectory.json")
    drawing = Drawing(page)
    drawing.wait_for("state.picture !== null")
    page.show_all()
    shot(drawing, pictures, "workflow")
    assert len(drawing.state()["doc"]["paths"][0]["points"]) == 9
    assert problems(page) == []

"""The Trajectory node's own editor on a page: where its points lie in the window, and mouse and keys on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from browser.editor import Editor, JsonObject

TRAJECTORY = "VisualPlannerTrajectory"
THREE = ((12, 50), (30, 20), (50, 30))
NEW_DRAWING = """async ([node, picture]) => {
    await window.app.loadGraphData({last_node_id: 0, last_link_id: 0, nodes: [], links: [], version: 0.4})
    const {graph} = window.app
    const [load, path, show] = ['LoadImage', node, 'PreviewAny'].map(type => LiteGraph.createNode(type))
    load.pos = [60, 100]; path.pos = [460, 100]; show.pos = [1120, 100]
    for (const one of [load, path, show]) graph.add(one)
    load.widgets.find(w => w.name === 'image').value = picture
    load.connect(0, path, path.inputs.findIndex(i => i.name === 'first_frame'))
    path.connect(1, show, 0)
    const {ds} = window.app.canvas
    ds.scale = 1; ds.offset[0] = 60; ds.offset[1] = 60
    window.app.canvas.setDirty(true, true)
}"""
DRAWING_STATE = """type => {
    const node = window.app.canvas.graph.nodes.find(one => one.type === type)
    if (!node?.visualPlanner) return null // a workflow that is still being opened
    const {editor} = node.visualPlanner, {session, view, picture} = editor
    const box = editor.part.canvas.getBoundingClientRect(), strip = editor.part.strip.getBoundingClientRect()
    return {
        text: node.widgets.find(w => w.name === 'trajectory_json').value,
        selection: session.selection, group: session.group,
        doc: session.doc, picture: picture && [picture.naturalWidth, picture.naturalHeight],
        box: [box.x, box.y, box.width, box.height], strip: [strip.x, strip.y, strip.width, strip.height],
        zoom: box.width / editor.part.canvas.clientWidth, view: [view.scale, view.left, view.top],
        status: editor.part.status.textContent, size: Array.from(node.size), problem: editor.problem,
        focused: document.activeElement === editor.part.keys, options: node.properties.visual_planner_editor ?? {},
    }
}"""
DRAWN = "() => new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)))"


class Drawing:
    """The editor of the only Trajectory node on the page."""

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        self.page = editor.page

    def state(self) -> JsonObject:
        return self.page.evaluate(DRAWING_STATE, TRAJECTORY)

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

    def click(self, x: float, y: float, hold: str | None = None, **how: Any) -> None:
        if hold:
            self.page.keyboard.down(hold)
        self.page.mouse.click(*self.place(x, y), **how)
        if hold:
            self.page.keyboard.up(hold)
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
        """Wait until what was done is drawn."""
        self.page.evaluate(DRAWN)

    def wait_for(self, condition: str) -> None:
        """Wait until a condition on `state` holds."""
        self.page.wait_for_function(
            f"type => {{ const state = ({DRAWING_STATE})(type); return state !== null && ({condition}) }}",
            arg=TRAJECTORY,
        )

    def begin(self, picture: str) -> None:
        """Put a new Trajectory node on an empty graph, behind a Load Image with a picture of the input folder."""
        self.page.evaluate(NEW_DRAWING, [TRAJECTORY, picture])
        self.wait_for("state.picture && state.box[2] > 100")
        self.editor.settle()

    def draw_three(self) -> None:
        """Begin with an empty path and click three points."""
        self.button("Delete this path")
        for x, y in THREE:
            self.click(x, y)

    def shot(self, pictures: Path, name: str) -> None:
        """Photograph the window, under a name that tells the mode."""
        self.editor.screenshot(pictures / f"editor_{self.editor.mode}_{name}.png")

"""ComfyUI's editor in a browser page, with the questions that the tests ask it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Error, Response

JsonObject = dict[str, Any]

SETTINGS = {
    "Comfy.TutorialCompleted": True,  # else the template browser opens over the graph
    "Comfy.VueNodes.Enabled": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
}
BARS = (70, 140, 60)  # the editor's bars that lie over the canvas: left, top, bottom [px]
BEFORE_START = "localStorage.setItem('vueNodesBannerDismissed', 'true')"
WAIT_MS = 180_000  # the machine may be busy with other work
SIZE = {"width": 1920, "height": 1200}
# What ComfyUI's editor says at any start, with no plugin and no workflow of ours.
KNOWN_MISSING = re.compile(r"/user\.css|/userdata[/?]|/api/userdata|experiment/models|/workflow_templates")
KNOWN_NOISE = re.compile(
    "Failed to load resource"  # counted as responses
    "|api\\.comfy\\.org"  # the registry of node packs: asked for names of packs, forbidden by the server's own policy
    r"|reading 'id'\)[\s\S]*at onChange [\s\S]*/GraphView-"  # settings are read before a workflow is open
)

# The editor opens ComfyUI's own default workflow last; a file opened before that would be replaced by it.
READY = """() => window.app?.graph?.nodes?.length > 0 && window.app.extensionManager?.workflow?.activeWorkflow
    && 'VisualPlannerCheck' in LiteGraph.registered_node_types"""
OPEN_FILE = """async ([name, text]) => {
    await window.app.handleFile(new File([text], name, {type: 'application/json'}))
}"""
NODES = """() => window.app.graph.nodes.map(node => ({
    id: node.id, type: node.type, title: node.title, known: node.type in LiteGraph.registered_node_types
        || node.isVirtualNode === true,
    box: Array.from(node.getBounding()), error: node.has_errors === true,
    widgets: Object.fromEntries((node.widgets ?? []).filter(w => w.serialize !== false).map(w => [w.name, w.value])),
    pictures: (node.imgs ?? []).map(image => image.naturalWidth),
}))"""
GROUPS = "() => window.app.graph.groups.map(group => ({title: group.title, box: Array.from(group.boundingRect)}))"
WATCH = """() => {
    window.plannerRun = new Promise(resolve => {
        for (const kind of ['execution_success', 'execution_error', 'execution_interrupted'])
            window.comfyAPI.api.api.addEventListener(kind, event => resolve({kind, ...event.detail}), {once: true})
    })
}"""
PICTURES_SHOWN = """() => Object.entries(window.app.nodeOutputs).every(([id, output]) => {
    if (!output?.images || output.animated?.[0]) return true
    const shown = window.app.graph.getNodeById(id)?.imgs ?? []
    return shown.length === output.images.length && shown.every(image => image.complete)
})"""
FIT = """() => {
    const {graph, canvas} = window.app
    const boxes = [...graph.nodes.map(n => n.getBounding()), ...graph.groups.map(g => g.boundingRect)]
    const left = Math.min(...boxes.map(b => b[0])), top = Math.min(...boxes.map(b => b[1]))
    const right = Math.max(...boxes.map(b => b[0] + b[2])), bottom = Math.max(...boxes.map(b => b[1] + b[3]))
    return [left, top, right - left, bottom - top]
}"""
VIEW = """([x, y, scale]) => {
    const ds = window.app.canvas.ds
    ds.scale = scale; ds.offset[0] = x; ds.offset[1] = y
    window.app.canvas.setDirty(true, true)
}"""


class Editor:
    """One page with the editor of a running server.

    Attributes:
        page: Playwright's page.
        problems: Script errors, error messages of the console and requests that failed, apart from the known noise.
    """

    def __init__(self, browser: Browser, url: str) -> None:
        """Open the page, with a storage of its own, and wait until the editor can be used."""
        self.problems: list[str] = []
        self.page = browser.new_page(viewport=SIZE)
        self.page.add_init_script(BEFORE_START)
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("pageerror", self._on_page_error)
        self.page.on("console", self._on_console)
        self.page.on("response", self._on_response)
        self.page.goto(url, wait_until="domcontentloaded")
        self.page.wait_for_function(READY)

    def _on_page_error(self, error: Error) -> None:
        self.problems.append(f"page error: {error}")

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not KNOWN_NOISE.search(message.text):
            self.problems.append(f"console: {message.text}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400 and not KNOWN_MISSING.search(response.url):
            self.problems.append(f"{response.status}: {response.url}")

    def open_file(self, file: Path) -> None:
        """Open a workflow file, as dropping it into the window does."""
        self.page.evaluate(OPEN_FILE, [file.name, file.read_text(encoding="utf-8")])
        count = len(json.loads(file.read_text(encoding="utf-8"))["nodes"])
        self.page.wait_for_function("count => window.app.graph.nodes.length === count", arg=count)
        self.settle()

    def settle(self, milliseconds: int = 1000) -> None:
        """Give the editor time to lay out and draw."""
        self.page.wait_for_timeout(milliseconds)

    def messages(self) -> list[str]:
        """Texts of the dialogs and notices that stand over the graph."""
        found = self.page.locator(".p-dialog:visible, .p-toast-message:visible, .comfy-modal:visible")
        return [text.strip() for text in found.all_inner_texts()]

    def nodes(self) -> list[JsonObject]:
        """Nodes as they stand on the canvas: id, type, title, known, box [x, y, w, h], widgets, pictures."""
        return self.page.evaluate(NODES)

    def groups(self) -> list[JsonObject]:
        """Groups: title, box [x, y, w, h]."""
        return self.page.evaluate(GROUPS)

    def serialise(self) -> JsonObject:
        """The workflow file that saving would write."""
        return json.loads(self.page.evaluate("() => JSON.stringify(window.app.graph.serialize())"))

    def prompt(self) -> JsonObject:
        """What the editor would send to the server: node id → class_type, inputs, title."""
        return self.page.evaluate("async () => (await window.app.graphToPrompt()).output")

    def run(self) -> JsonObject:
        """Press Run and wait for the end; returns how it ended (`kind`, `prompt_id`, ...)."""
        self.page.evaluate(WATCH)
        self.page.get_by_test_id("queue-button").click()
        ended = self.page.evaluate("() => window.plannerRun")
        self.page.wait_for_function(PICTURES_SHOWN)
        self.settle()
        return ended

    def show_all(self) -> tuple[float, float, float, float]:
        """Zoom so that the whole graph is seen; returns its place in the window (x, y, width, height) [px]."""
        left, top, width, height = self.page.evaluate(FIT)
        window = self.page.viewport_size
        room = window["width"] - BARS[0] - 20, window["height"] - BARS[1] - BARS[2]
        scale = min(room[0] / width, room[1] / height)
        x, y = BARS[0] + (room[0] - width * scale) / 2, BARS[1] + (room[1] - height * scale) / 2
        self.page.evaluate(VIEW, [x / scale - left, y / scale - top, scale])
        self.settle()
        return x, y, width * scale, height * scale

    def screenshot(self, file: Path) -> Path:
        """Photograph the window."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=file, timeout=WAIT_MS)
        return file

    def close(self) -> None:
        """Close the page without being asked whether to save."""
        self.page.close()

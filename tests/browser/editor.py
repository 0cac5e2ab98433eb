"""ComfyUI's editor in a browser page, with the questions that the tests ask it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Error, Request, Response

from launcher.paths import PLUGIN_NAME

JsonObject = dict[str, Any]

SETTINGS = {
    "Comfy.TutorialCompleted": True,  # else the template browser opens over the graph
    "Comfy.VueNodes.Enabled": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
}
ERRORS_TAB = "Comfy.RightSidePanel.ShowErrorsTab"
NO_OFFERS = {"Comfy.Workflow.ShowMissingModelsWarning": False, ERRORS_TAB: False}
"""Settings without the offer to download missing models, which lies over the graph; frontends know one or both."""
BARS = (70, 140, 60)  # the editor's bars that lie over the canvas: left, top, bottom [px]
BEFORE_START = """localStorage.setItem('vueNodesBannerDismissed', 'true')
localStorage.setItem('comfy.vueNodesMigration.dismissed', 'true')"""
WAIT_MS = 180_000  # the machine may be busy with other work
SIZE = {"width": 1920, "height": 1200}
# What ComfyUI's editor says at any start, with no plugin and no workflow of ours.
KNOWN_MISSING = re.compile(
    r"/user\.css|/userdata[/?]|/api/userdata|experiment/models|/workflow_templates|/templates/index"
)
KNOWN_NOISE = re.compile(
    "Failed to load resource"  # counted as responses
    "|Error loading core workflow templates"  # their package is not installed here
    "|cleanup event listeners for graph that was never set up"  # said when a subgraph is left
    "|api\\.comfy\\.org"  # the registry of node packs: asked for names of packs, forbidden by the server's own policy
    r"|reading 'id'\)[\s\S]*at onChange [\s\S]*/GraphView-"  # settings are read before a workflow is open
)

OURS = f"/extensions/{PLUGIN_NAME}/"
NUMBER = re.compile(r"\d+")


def shape_of(text: str) -> str:
    """A message without its numbers: ports, lines, ids of nodes."""
    return NUMBER.sub("#", text)


# The editor opens ComfyUI's own default workflow last; a file opened before that would be replaced by it.
READY = """() => window.app?.graph?.nodes?.length > 0 && window.app.extensionManager?.workflow?.activeWorkflow
    && 'VisualPlannerCheck' in LiteGraph.registered_node_types"""
OPEN_FILE = """async ([name, text]) => {
    await window.app.handleFile(new File([text], name, {type: 'application/json'}))
}"""
HAS_SETTING = "name => window.app.extensionManager.setting.get(name) !== undefined"
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
    const element = document.querySelector(`[data-node-id="${id}"]`) // Nodes 2.0
    const seen = [...(element?.querySelectorAll('img') ?? [])]
    if (element) return seen.length > 0 && seen.every(image => image.complete)
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
QUIET = """([quiet, most]) => new Promise(resolve => {
    const nodes = () => [...(window.app.canvas?.graph?.nodes ?? [])]
    const lies = () => JSON.stringify([
        nodes().map(node => Array.from(node.getBounding())),
        window.app.graph.groups.map(group => Array.from(group.boundingRect)),
        Array.from(window.app.canvas.ds.offset), window.app.canvas.ds.scale,
    ])
    const waits = () => [...document.images, ...nodes().flatMap(node => node.imgs ?? [])].some(one => !one.complete)
        || document.getAnimations().some(one => one.playState === 'running'
            && Number.isFinite(one.effect?.getComputedTiming().endTime ?? Infinity))
    const start = performance.now()
    let since = start, last = lies()
    const changed = () => { since = performance.now() }
    const watch = new MutationObserver(changed)
    watch.observe(document, {subtree: true, childList: true, attributes: true, characterData: true})
    for (const node of nodes()) node.visualPlanner?.refresh() // what it does by itself every 400 ms
    const look = () => {
        const now = lies()
        if (now !== last || waits()) changed()
        last = now
        const time = performance.now()
        if (time - since < quiet && time - start < most) return void setTimeout(() => requestAnimationFrame(look), 20)
        watch.disconnect()
        resolve(time - since >= quiet)
    }
    requestAnimationFrame(look)
})"""
QUIET_MS, SETTLE_MS = 250, 1000
"""For how long nothing must change, and after which time some change or other (a running clock) is no matter [ms]."""
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
        mode: Name of the frontend and of its kind of nodes, for the names of pictures.
    """

    def __init__(self, browser: Browser, url: str, mode: str = "canvas") -> None:
        """Open the page, with a storage of its own, and wait until the editor can be used."""
        self.problems: list[str] = []
        self._noise: set[str] = set()
        self.mode = mode
        self.page = browser.new_page(viewport=SIZE)
        self.page.add_init_script(BEFORE_START)
        self.page.set_default_timeout(WAIT_MS)
        self.page.on("pageerror", self._on_page_error)
        self.page.on("console", self._on_console)
        self.page.on("response", self._on_response)
        self._asked: set[Request] = set()  # requests without an answer yet
        self.page.on("request", lambda request: self._asked.add(request))
        for ended in ("requestfinished", "requestfailed"):
            self.page.on(ended, lambda request: self._asked.discard(request))
        self.page.goto(url, wait_until="domcontentloaded")
        self.page.wait_for_function(READY)
        self.settle()
        self._forget_own_noise()

    def _forget_own_noise(self) -> None:
        """Leave out from now on what this frontend says of itself: with no workflow open but its own default one."""
        self._noise |= {shape_of(text) for text in self.problems if OURS not in text}
        self.problems[:] = [text for text in self.problems if OURS in text]

    def _note(self, text: str) -> None:
        if shape_of(text) not in self._noise:
            self.problems.append(text)

    def _on_page_error(self, error: Error) -> None:
        self._note(f"page error: {error}")

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not KNOWN_NOISE.search(message.text):
            self._note(f"console: {message.text} ({message.location['url']})")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400 and not KNOWN_MISSING.search(response.url):
            self._note(f"{response.status}: {response.url}")

    def faults(self) -> list[str]:
        """The problems; of a newer frontend, which asks the internet for much, only script errors and our files'."""
        newer = self.mode.startswith("newer")
        return [text for text in self.problems if not newer or text.startswith("page error") or OURS in text]

    def open_file(self, file: Path) -> None:
        """Open a workflow file, as dropping it into the window does."""
        self.page.evaluate(OPEN_FILE, [file.name, file.read_text(encoding="utf-8")])
        count = len(json.loads(file.read_text(encoding="utf-8"))["nodes"])
        self.page.wait_for_function("count => window.app.graph.nodes.length === count", arg=count)
        self.settle()

    def set(self, setting: str, value: object) -> None:
        """Change one of ComfyUI's settings; Nodes 2.0 is in effect for files that are opened from here on."""
        self.page.evaluate("([name, value]) => window.app.extensionManager.setting.set(name, value)", [setting, value])
        self.settle()

    def settle(self) -> None:
        """Wait until the editor has laid out and drawn: nothing changes on graph and page, no request is open."""
        end = time.monotonic() + SETTLE_MS / 1000
        while not (self.page.evaluate(QUIET, [QUIET_MS, SETTLE_MS]) and not self._asked):
            if time.monotonic() > end:
                return

    def rest(self, milliseconds: int) -> None:
        """Wait for what the editor does now and then."""
        self.page.wait_for_timeout(milliseconds)

    def messages(self) -> list[str]:
        """Texts of the dialogs and notices that stand over the graph."""
        found = self.page.locator(".p-dialog:visible, .p-toast-message:visible, .comfy-modal:visible")
        return [text.strip() for text in found.all_inner_texts()]

    def has(self, setting: str) -> bool:
        """Whether the frontend knows a setting."""
        return self.page.evaluate(HAS_SETTING, setting)

    @property
    def has_errors_tab(self) -> bool:
        """Whether the frontend shows what a workflow lacks in a side panel; older ones open a dialog."""
        return self.has(ERRORS_TAB)

    def missing(self) -> str:
        """Text of what the editor says that the workflow lacks (models, nodes), which is closed."""
        if not self.has_errors_tab:
            dialog = self.page.locator(".p-dialog:visible")
            text = dialog.inner_text()
            self.page.keyboard.press("Escape")
            dialog.wait_for(state="hidden")
            return text
        self.page.get_by_test_id("error-overlay-see-errors").click()
        panel = self.page.get_by_test_id("properties-panel")
        text = panel.inner_text()
        panel.get_by_label("Toggle properties panel").click()
        self.settle()
        return text

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
        """What the editor would send to the server: node id -> class_type, inputs, title."""
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

    def look_at(self, kind: str) -> None:
        """Show the node of a type in its full size: Nodes 2.0 leaves details out where nodes are small."""
        x, y = next(node["box"][:2] for node in self.nodes() if node["type"] == kind)
        self.page.evaluate(VIEW, [BARS[0] + 300 - x, BARS[1] - y, 1])
        self.settle()

    def screenshot(self, file: Path) -> Path:
        """Photograph the window."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=file, timeout=WAIT_MS)
        return file

    def close(self) -> None:
        """Close the page without being asked whether to save."""
        self.page.close()

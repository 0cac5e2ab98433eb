"""Nodes and trajectory editor in each of ComfyUI's languages that the plugin speaks, word for word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from browser.drawing import Drawing
from browser.editor import SETTINGS, Editor, JsonObject
from browser.workflow_files import FIRST_FRAME
from playwright.sync_api import Browser

from launcher.client import ComfyClient
from launcher.paths import PLUGIN_NAME, ROOT

pytestmark = [pytest.mark.browser, pytest.mark.comfyui, pytest.mark.timeout(1200)]

PREFIX = "VisualPlanner"
LANGUAGES = sorted(path.name for path in (ROOT / "locales").iterdir() if path.is_dir())
CASES = [(server, language) for server in ("client", "newer_server") for language in LANGUAGES]
CASES.remove(("newer_server", "de"))  # it has no German, and shows English then
SHOWN = """() => {
    const {part} = window.app.graph.nodes.find(one => one.visualPlanner).visualPlanner.editor
    const all = [...part.root.querySelectorAll('*')]
    return {
        hints: all.flatMap(one => [one.title, one.getAttribute('aria-label')]).filter(Boolean),
        texts: all.filter(one => ['BUTTON', 'LABEL', 'OPTION'].includes(one.tagName)).map(one => one.textContent),
    }
}"""
TEXTS = """async ([language, plugin]) =>
    (await import(`/extensions/${plugin}/editor/texts/${language}.js`)).default"""
NODES = """types => Object.fromEntries(types.map(type => {
    const node = LiteGraph.createNode(type), {nodeData} = node.constructor
    const slots = list => list.map(slot => [slot.name, slot.localized_name ?? slot.label ?? slot.name])
    const widgets = (node.widgets ?? []).map(widget => [widget.name, widget.label ?? widget.name])
    node.visualPlanner?.remove?.()
    return [type, {
        display_name: nodeData.display_name, description: nodeData.description,
        inputs: Object.fromEntries([...widgets, ...slots(node.inputs)]), outputs: slots(node.outputs).map(s => s[1]),
    }]
}))"""


def open_in(language: str, browser: Browser, url: str, mode: str) -> Editor:
    """A new page in a language: frontends that are running lose the plugins' texts when the language changes."""
    ComfyClient(url).post("/settings", SETTINGS | {"Comfy.Locale": language})
    page = Editor(browser, url, mode)
    Drawing(page).begin(FIRST_FRAME)
    return page


def has_german(url: str) -> bool:
    """Whether the server's frontend knows German, if only by its plugins' texts: 1.32.9 does, 1.49.6 does not."""
    version = ComfyClient(url).get("/system_stats")["system"]["required_frontend_version"]
    return tuple(map(int, version.split(".")[:2])) < (1, 49)


def check_english_names(page: Editor, url: str) -> None:
    """Every node has the name that the server tells."""
    told = {kind: node["display_name"] for kind, node in ComfyClient(url).object_info().items() if PREFIX in kind}
    shown = page.page.evaluate(NODES, list(told))
    assert {kind: node["display_name"] for kind, node in shown.items()} == told


def check_nodes(page: Editor, language: str) -> None:
    """Every node's title, description, inputs and outputs are those of the locale's file."""
    file = ROOT / "locales" / language / "nodeDefs.json"
    texts: JsonObject = json.loads(file.read_text(encoding="utf-8"))
    shown = page.page.evaluate(NODES, list(texts))
    for node_id, written in texts.items():
        node = shown[node_id]
        assert node["display_name"] == written["display_name"]
        assert node["description"] == written["description"]
        for name, entry in written.get("inputs", {}).items():
            assert node["inputs"][name] == entry["name"], f"{node_id}.{name}"
        assert node["outputs"] == [entry["name"] for entry in written.get("outputs", {}).values()], node_id


@pytest.mark.parametrize(("server", "language"), CASES)
def test_nodes_and_editor_speak_comfyuis_language(
    server: str, language: str, request: pytest.FixtureRequest, browser: Browser, pictures: Path
) -> None:
    url = request.getfixturevalue(server).url
    before = ComfyClient(url).get("/settings")
    mode = {"client": "canvas", "newer_server": "newer_canvas"}[server]
    page = open_in(language, browser, url, mode)
    try:
        # The older frontend lays the texts of its own languages, of which German is none, over those of plugins.
        spoken = "en" if language == "de" and not has_german(url) else language
        if spoken == "en":
            check_english_names(page, url)
        elif server == "newer_server" or language == "de":
            check_nodes(page, language)
        shown = page.page.evaluate(SHOWN)
        english, own = (page.page.evaluate(TEXTS, [name, PLUGIN_NAME]) for name in ("en", spoken))
        expected = {own[key] for key in ("pathName", "undoHint", "guidesHint", "loadHint", "strip")}
        assert expected <= set(shown["hints"])
        assert own["frame"] in shown["texts"]
        different = {text for key, text in english.items() if isinstance(text, str) and own[key] != text}
        assert not different & set(shown["hints"]), "hints that stayed English"
        page.screenshot(pictures / f"language_{mode}_{language}.png")
        assert page.faults() == []
    finally:
        page.close()
        # For the pages of other tests that are open, and for those that come after.
        ComfyClient(url).post("/settings", {"Comfy.Locale": "en"} | before)

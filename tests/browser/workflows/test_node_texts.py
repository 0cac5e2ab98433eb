"""What a node says of its run is shown below it: by every node of the pack, in every frontend, and after a real run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser.drawing import TRAJECTORY
from browser.editor import Editor

from launcher.client import ComfyClient
from launcher.paths import WORKFLOWS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.comfyui, pytest.mark.timeout(1200)]

SAY = """async type => {
    await window.app.loadGraphData({last_node_id: 0, last_link_id: 0, nodes: [], links: [], version: 0.4})
    const node = LiteGraph.createNode(type)
    window.app.graph.add(node)
    const {ds} = window.app.canvas
    ds.scale = 1; ds.offset[0] = 200 - node.pos[0]; ds.offset[1] = 200 - node.pos[1]
    node.onExecuted({text: ['first line', 'second line']})
    window.app.canvas.setDirty(true, true)
    await new Promise(resolve => setTimeout(resolve, 120))
    const box = node.widgets?.find(widget => widget.name === 'visual_planner_text')?.element
    const shown = box && {text: box.textContent, height: box.getBoundingClientRect().height}
    const saved = JSON.stringify(window.app.graph.serialize())
    node.onExecuted({text: []})
    return {shown, saved: saved.includes('first line'), after: box?.textContent}
}"""
TYPES = "() => Object.keys(LiteGraph.registered_node_types).filter(type => type.startsWith('VisualPlanner')).sort()"
SAID = """() => Object.entries(window.app.nodeOutputs)
    .map(([id, output]) => [window.app.graph.getNodeById(id), output?.text])
    .filter(([node, text]) => node?.type.startsWith('VisualPlanner') && text?.length)
    .map(([node, text]) => [node.type, text.join('\\n'),
        node.widgets?.find(widget => widget.name === 'visual_planner_text')?.element.textContent ?? null])"""

SHOWN = """() => Object.fromEntries(window.app.graph.nodes.map(node =>
    [node.type, node.widgets?.find(widget => widget.name === 'visual_planner_text')?.element.textContent])
    .filter(([, text]) => text))"""
SEED = """seed => {
    const {widgets} = window.app.graph.nodes.find(node => node.type === 'KSampler')
    widgets.find(widget => widget.name === 'seed').value = seed
}"""


def test_every_node_shows_its_text(page: Editor) -> None:
    types = page.page.evaluate(TYPES)
    assert len(types) >= 20
    for name in types:
        if name == TRAJECTORY:
            continue  # its editor shows the run
        said = page.page.evaluate(SAY, name)
        assert said["shown"] == {"text": "first line\nsecond line", "height": said["shown"]["height"]}, name
        assert said["shown"]["height"] > 20, f"{name}: the text is not visible"
        assert not said["saved"], f"{name}: what was said is part of the saved workflow"
        assert said["after"] == "", f"{name}: an old text stays"


@pytest.mark.parametrize("name", ["tiny_text", "tiny_plan_and_execute"])
def test_texts_of_a_run_are_shown(editor: Editor, client: ComfyClient, pictures: Path, name: str) -> None:
    editor.open_file(WORKFLOWS / f"{name}.json")
    editor.show_all()
    assert editor.run()["kind"] == "execution_success"
    editor.screenshot(pictures / f"{name}_texts.png")
    said = editor.page.evaluate(SAID)
    assert len(said) >= 2
    for node, text, shown in said:
        if node != TRAJECTORY:
            assert shown == text, node


@pytest.mark.parametrize("newer", [False, True], ids=["pinned", "newer"])
def test_a_fresh_page_shows_what_cached_nodes_said(
    browser: Browser, request: pytest.FixtureRequest, pictures: Path, newer: bool
) -> None:
    url = request.getfixturevalue("newer_server" if newer else "client").url
    shown = []
    for number, seed in enumerate((1000, 1000, 1001)):
        page = Editor(browser, url, "newer_canvas" if newer else "canvas")
        try:
            page.open_file(WORKFLOWS / "tiny_text.json")
            page.page.evaluate(SEED, seed)
            assert page.run()["kind"] == "execution_success"
            page.page.wait_for_function(f"() => Object.keys(({SHOWN})()).length === 3")
            shown.append(page.page.evaluate(SHOWN))
            page.screenshot(pictures / f"cached_texts_{page.mode}_{number}.png")
            assert page.faults() == []
        finally:
            page.close()
    assert shown[1] == shown[0]
    kept = ("VisualPlannerTinyLoader", "VisualPlannerLoraLoader", "VisualPlannerPrompt")
    assert all(shown[2].get(node) == shown[0].get(node) for node in kept)
    assert "VisualPlannerLoraLoader" in shown[2]

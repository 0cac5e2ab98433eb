"""The blueprint in ComfyUI's editor: one node, whose widgets are those of the nodes inside."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser.editor import Editor

from launcher.paths import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.comfyui, pytest.mark.timeout(1200)]
FILE = ROOT / "subgraphs" / "Visual planner.json"
ASK = "push the green cylinder to the left"
# Whether the editor has it among the nodes that can be added; newer ones rename what is inside, but not the list.
OFFERED = """() => {
    const {$pinia} = document.querySelector('#vue-app').__vue_app__.config.globalProperties
    return $pinia._s.get('subgraph').subgraphBlueprints.map(one => [one.display_name, one.description])
}"""
SET_WIDGETS = """([text, seed]) => {
    const {widgets} = window.app.graph.nodes[0]
    widgets.find(widget => widget.name === 'instruction').value = text
    widgets.find(widget => widget.name === 'seed').value = seed
}"""


def test_the_editor_offers_it_and_one_node_makes_a_plan(editor: Editor, pictures: Path) -> None:
    offered = dict(editor.page.evaluate(OFFERED))
    assert offered["Visual planner"].startswith("First frame and instruction")

    editor.open_file(FILE)
    assert editor.messages() == []
    assert editor.problems == []
    (node,) = editor.nodes()
    assert node["title"] == "Visual planner" and node["known"]
    assert node["widgets"] == {"instruction": "put the red cube onto the plate", "seed": 1}
    editor.page.evaluate(SET_WIDGETS, [ASK, 7])
    editor.screenshot(pictures / "blueprint.png")

    prompt = editor.prompt()
    (plan,) = [entry["inputs"] for entry in prompt.values() if entry["class_type"] == "VisualPlannerExtend"]
    assert (plan["instructions"], plan["seed"], plan["plans"]) == (ASK, 7, 0)
    kinds = {number: entry["class_type"] for number, entry in prompt.items()}
    origins = {name: (kinds[plan[name][0]], plan[name][1]) for name in ("model", "clip", "vae", "spec")}
    assert origins == {
        "model": ("VisualPlannerLoraLoader", 0),
        "spec": ("VisualPlannerLoraLoader", 1),
        "clip": ("VisualPlannerTinyLoader", 1),
        "vae": ("VisualPlannerTinyLoader", 2),
    }
    assert "trajectory" not in plan and "first_frame" not in plan, "nothing is connected outside"

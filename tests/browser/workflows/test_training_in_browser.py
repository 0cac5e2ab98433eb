"""A training seen from the graph: its live picture on the node, and a plan with the LoRA that it installs."""

from __future__ import annotations

from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote

import pytest
from browser.editor import PICTURES_SHOWN, WATCH, Editor
from browser.workflow_files import TRAINED

from launcher.client import ComfyClient
from launcher.paths import WORKFLOWS
from launcher.server import ComfyServer

pytestmark = [pytest.mark.browser, pytest.mark.comfyui, pytest.mark.timeout(1800)]
NAME, STEPS, WIDTH = "seen", 3, 480
WIDGETS = {
    "VisualPlannerTrainingData": {"name": NAME, "episodes": 4, "held_out": 1},
    "VisualPlannerTrain": {"name": NAME, "steps": STEPS, "validate_every": STEPS},
    "KSampler": {"steps": 2},
}
SET = """widgets => {
    for (const [type, values] of Object.entries(widgets)) {
        const node = window.app.graph.nodes.find(one => one.type === type)
        for (const [name, value] of Object.entries(values)) node.widgets.find(w => w.name === name).value = value
    }
}"""
FOLLOW = """() => {
    const {api} = window.comfyAPI.api, node = window.app.graph.nodes.find(one => one.type === 'VisualPlannerTrain')
    window.seen = {steps: [], pictures: 0}
    api.addEventListener('progress', ({detail}) => {
        if (`${detail.node}` === `${node.id}`) window.seen.steps.push(detail.value)
    })
    api.addEventListener('b_preview_with_metadata', ({detail}) => {
        if (`${detail.nodeId}` === `${node.id}`) window.seen.pictures += 1
    })
}"""
PICTURE = """() => {
    const node = window.app.graph.nodes.find(one => one.type === 'VisualPlannerTrain')
    const [image] = node.imgs ?? []
    return image?.naturalWidth > 0 && window.seen.steps.some(step => step > 0)
}"""
TEXT = """() => window.app.graph.nodes.find(one => one.type === 'VisualPlannerTrain')
    .widgets.find(w => w.name === 'visual_planner_text').element.textContent"""


def test_a_training_is_seen_and_its_lora_plans(
    editor: Editor, client: ComfyClient, planner_server: ComfyServer, pictures: Path
) -> None:
    editor.open_file(WORKFLOWS / f"{TRAINED}.json")
    editor.page.evaluate(SET, WIDGETS)
    editor.page.evaluate(FOLLOW)
    editor.show_all()
    editor.page.evaluate(WATCH)
    editor.page.get_by_test_id("queue-button").click()
    see(editor, pictures)
    ended = editor.page.evaluate("() => window.plannerRun")
    editor.page.wait_for_function(PICTURES_SHOWN)
    assert ended["kind"] == "execution_success", ended
    editor.settle()
    editor.screenshot(pictures / "training_ended.png")
    assert editor.messages() == []
    assert editor.problems == []

    seen = editor.page.evaluate("() => window.seen")
    assert seen["steps"] == sorted(seen["steps"]) and set(seen["steps"]) >= {0, STEPS}
    assert seen["pictures"] >= 2
    nodes = {node["type"]: node for node in editor.nodes()}
    assert nodes["VisualPlannerTrain"]["pictures"] == [WIDTH]
    text = editor.page.evaluate(TEXT)
    assert f"step {STEPS} of {STEPS}: loss 0." in text and f"installed as {NAME}.safetensors" in text
    base = planner_server.base
    assert (base / "models" / "loras" / f"{NAME}.safetensors").is_file()
    folder = base / "user" / "__visual_planner" / "training"
    assert sorted(path.name for path in folder.iterdir()) == ["data", "runs"]
    outputs = client.get(f"/history/{ended['prompt_id']}")[ended["prompt_id"]]["outputs"]
    assert len(outputs[str(nodes["SaveVideo"]["id"])]["images"]) == 1
    for path in (f"data/{NAME}/made.json", f"runs/{NAME}/log.jsonl"):
        assert (folder / path).is_file()
        with pytest.raises(HTTPError, match="40[034]"):  # what a run writes is reached by no client
            client.get(f"/userdata/..%2F__visual_planner%2Ftraining%2F{quote(path, safe='')}")


def see(editor: Editor, pictures: Path) -> None:
    """The picture stands on the node while the training goes on."""
    editor.page.wait_for_function(PICTURE, timeout=900_000)
    editor.look_at("VisualPlannerTrain")
    editor.screenshot(pictures / "training_running.png")
    editor.show_all()  # the editor fetches pictures when it draws their nodes

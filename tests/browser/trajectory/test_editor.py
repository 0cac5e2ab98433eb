"""The trajectory editor in ComfyUI: drawn by mouse and keys, stored, loaded, undone, copied, and queued as drawn.

The pinned frontend is tested with its canvas nodes and with Nodes 2.0, and so is a newer one, which is fetched once;
the environment variable VISUAL_PLANNER_FRONTEND names the unpacked `static` folder of another.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from browser.drawing import THREE, TRAJECTORY, Drawing
from browser.editor import Editor

from launcher.paths import WORKFLOWS

pytestmark = [pytest.mark.browser, pytest.mark.comfyui, pytest.mark.timeout(1200)]


def node_sizes(drawing: Drawing) -> dict[str, list[float]]:
    return drawing.page.evaluate(
        "() => Object.fromEntries(window.app.graph.nodes.map(node => [node.type, Array.from(node.size)]))"
    )


def test_draw_drag_delete_undo_time_save_queue(drawing: Drawing, pictures: Path) -> None:
    assert drawing.state()["picture"] == [64, 64], "the first frame is there without a run"
    drawing.draw_three()
    places = [(point["x"], point["y"]) for point in drawing.points()]
    assert places == [pytest.approx(place, abs=0.5) for place in THREE]
    assert drawing.state()["doc"]["width"] == 64, "points are in pixels of the first frame"
    drawing.shot(pictures, "drawn")

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
    drawing.shot(pictures, "timed")

    prompt = drawing.editor.prompt()
    node = next(entry for entry in prompt.values() if entry["class_type"] == TRAJECTORY)
    assert node["inputs"]["trajectory_json"] == drawn
    ended = drawing.editor.run()
    assert ended["kind"] == "execution_success", ended
    drawing.shot(pictures, "run")

    saved = drawing.editor.serialise()
    stored = next(one for one in saved["nodes"] if one["type"] == TRAJECTORY)
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
    assert ratios[TRAJECTORY] == pytest.approx(ratios["LoadImage"], rel=0.01), "the node keeps the user's size"
    assert drawing.editor.faults() == []


def test_keys_alone(drawing: Drawing) -> None:
    drawing.draw_three()
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
    assert drawing.editor.faults() == []


def test_overlapping_points_and_lines(drawing: Drawing) -> None:
    drawing.draw_three()
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
    drawing.draw_three()
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
        TRAJECTORY,
    )
    assert copies == drawn
    drawing.page.evaluate("() => { document.activeElement?.blur(); window.app.canvas.canvas.focus?.() }")
    drawing.page.evaluate(
        "async () => { await window.app.extensionManager.workflow.activeWorkflow.changeTracker.undo() }"
    )
    drawing.wait_for(f"state.text !== {json.dumps(drawn)}")
    drawing.wait_for("state.doc.paths[0]?.points.length !== 3")
    assert drawing.editor.faults() == []


def test_bad_text_says_where(drawing: Drawing, pictures: Path) -> None:
    drawing.button("Show the trajectory as text")
    text = drawing.page.locator(".vp-editor .vp-text")
    text.fill('{"version": 1,\n "width": 64,, }')
    drawing.settle()
    assert "line 2 column 14" in drawing.state()["status"]
    drawing.shot(pictures, "bad_text")
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
        TRAJECTORY,
    )
    drawing.wait_for("state.picture && state.picture[0] === 90")
    assert drawing.state()["options"]["picture"].startswith("visual_planner/dropped")
    assert drawing.editor.faults() == []


def test_the_shipped_workflow_shows_its_path(page: Editor, pictures: Path) -> None:
    page.problems.clear()
    page.open_file(WORKFLOWS / "tiny_trajectory.json")
    drawing = Drawing(page)
    drawing.wait_for("state.picture !== null")
    page.show_all()
    drawing.shot(pictures, "workflow")
    assert len(drawing.state()["doc"]["paths"][0]["points"]) == 9
    assert page.faults() == []

"""The trajectory editor without a mouse, and points that lie on each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from editor import TRAJECTORY, WATCH, Drawing

pytestmark = [pytest.mark.browser, pytest.mark.comfyui, pytest.mark.timeout(1200)]

MOST_TABS = 60
FOCUS = """type => {
    const {editor} = window.app.canvas.graph.nodes.find(one => one.type === type).visualPlanner
    document.activeElement?.blur()
    editor.part.path.focus()
}"""
LABEL = "() => document.activeElement?.getAttribute('aria-label') ?? ''"


def tab_to(drawing: Drawing, label: str, key: str = "Tab") -> None:
    """Press Tab until the field of that label has the focus."""
    for _ in range(MOST_TABS):
        if drawing.page.evaluate(LABEL).startswith(label):
            return
        drawing.keys(key)
    raise AssertionError(f"{label} is not reached by {key}")


def test_a_path_is_drawn_timed_and_run_by_keys(drawing: Drawing, pictures: Path) -> None:
    drawing.page.evaluate(FOCUS, TRAJECTORY)  # the first field of the editor; from here on no mouse and no script
    tab_to(drawing, "Delete this path")
    drawing.keys("Enter")
    tab_to(drawing, "Trajectory")
    assert drawing.state()["focused"]
    drawing.keys("n", "Insert", *["Shift+ArrowLeft"] * 2, "Insert", *["Shift+ArrowRight"] * 3, "ArrowDown")
    first, second = drawing.points()
    assert (first["x"], first["y"]) == (12, 32)
    assert (second["x"], second["y"]) == pytest.approx((12 + 3.2 + 30, 32 + 3.2 + 1))
    drawing.keys("Insert", "Shift+ArrowUp", "Alt+Shift+ArrowLeft")
    assert len(drawing.points()) == 3
    assert drawing.points()[2]["t"] == pytest.approx(7 / 8)

    tab_to(drawing, "y of the selected point")
    drawing.keys("Control+a", *"12.5", "Enter")
    assert drawing.points()[2]["y"] == 12.5
    tab_to(drawing, "Frame at which")
    drawing.keys("Control+a", "8", ".", "5", "Enter")
    assert drawing.points()[2]["t"] == pytest.approx(7.5 / 8)
    drawing.shot(pictures, "keys")

    tab_to(drawing, "Trajectory", "Shift+Tab")
    drawn = drawing.state()["text"]
    drawing.page.evaluate(WATCH)
    drawing.keys("Control+Enter")  # ComfyUI's own key for Run
    ended = drawing.page.evaluate(
        "() => Promise.race([window.plannerRun, new Promise(done => setTimeout(() => done({kind: 'no run'}), 180000))])"
    )
    assert ended["kind"] == "execution_success", ended
    assert drawing.state()["text"] == drawn
    assert drawing.editor.faults() == []


def test_the_focus_leaves_the_drawing_at_both_ends(drawing: Drawing) -> None:
    drawing.draw_three()
    drawing.keys("Escape", "Tab", "Tab", "Tab")
    assert drawing.state()["selection"]["point"] == 2
    drawing.keys("Tab")
    assert not drawing.state()["focused"], "Tab goes on after the last point"
    drawing.keys("Shift+Tab", "Shift+Tab", "Shift+Tab")
    assert drawing.state()["selection"]["point"] == 0
    drawing.keys("Shift+Tab")
    assert not drawing.state()["focused"]
    assert drawing.editor.faults() == []


def test_points_of_two_paths_at_one_place(drawing: Drawing, pictures: Path) -> None:
    drawing.draw_three()
    drawing.keys("n")
    drawing.click(10, 10)
    drawing.click(29, 21)  # on the first path's second point: it is taken, not covered by a new one
    assert drawing.state()["selection"] == {"path": 0, "point": 1}
    drawing.keys("PageDown")
    drawing.click(44, 54)
    drawing.drag((44, 54), (30, 20))
    paths = json.loads(drawing.state()["text"])["paths"]
    assert [len(path["points"]) for path in paths] == [3, 2]
    chosen = []
    for _ in range(3):
        drawing.click(30, 20)
        selection = drawing.state()["selection"]
        chosen.append((selection["path"], selection["point"]))
    assert set(chosen) == {(0, 1), (1, 1)}, "each click takes the other path's point"
    assert chosen[0] == chosen[2]
    drawing.shot(pictures, "overlapping")
    before = json.loads(drawing.state()["text"])["paths"]
    drawing.drag((30, 20), (22, 40))
    after = json.loads(drawing.state()["text"])["paths"]
    path, point = chosen[-1]
    assert (after[path]["points"][point]["x"], after[path]["points"][point]["y"]) == pytest.approx((22, 40), abs=0.6)
    assert after[1 - path] == before[1 - path], "the selected point of the stack moves, the other stays"
    assert drawing.editor.faults() == []

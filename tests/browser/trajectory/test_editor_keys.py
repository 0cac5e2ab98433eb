"""The trajectory editor without a mouse, points that lie on each other, and several points at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from browser.drawing import TRAJECTORY, Drawing
from browser.editor import WATCH

pytestmark = [pytest.mark.browser, pytest.mark.comfyui, pytest.mark.timeout(1200)]

MOST_TABS = 60
FOCUS = """type => {
    const {editor} = window.app.canvas.graph.nodes.find(one => one.type === type).visualPlanner
    document.activeElement?.blur()
    editor.part.tools.querySelector('[tabindex="0"]').focus()
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
    drawing.page.evaluate(FOCUS, TRAJECTORY)  # the editor's first stop; from here on no mouse and no script
    tab_to(drawing, "Delete this path", "ArrowRight")
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


def places(drawing: Drawing) -> list[tuple[float, float]]:
    return [(point["x"], point["y"]) for point in drawing.points()]


def test_several_points_move_together(drawing: Drawing, pictures: Path) -> None:
    """Picked by Shift and clicks, by a box and by keys; moved by a drag and by arrows; each one step of undo."""
    drawing.draw_three()
    drawing.click(12, 50)
    drawing.click(30, 20, hold="Shift")
    assert drawing.state()["group"] == [{"path": 0, "point": 0}, {"path": 0, "point": 1}]
    before = places(drawing)
    drawing.drag(before[1], (before[1][0] + 6, before[1][1] + 4))
    moved = places(drawing)
    by = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(before, moved, strict=True)]
    assert by[0] == pytest.approx((6, 4), abs=0.5) and by[1] == pytest.approx(by[0], abs=0.02) and by[2] == (0, 0)
    assert "selected points: 2" in drawing.state()["status"]
    drawing.shot(pictures, "several")
    drawing.keys("Control+z")
    assert places(drawing) == before, "one step"

    drawing.keys("Escape")
    drawing.page.keyboard.down("Shift")
    drawing.drag((5, 5), (56, 35))
    drawing.page.keyboard.up("Shift")
    assert [one["point"] for one in drawing.state()["group"]] == [1, 2], "those inside the box"
    drawing.keys("Shift+ArrowDown")
    assert places(drawing)[1:] == [pytest.approx((x, y + 10), abs=0.02) for x, y in before[1:]]
    assert places(drawing)[0] == before[0]
    drawing.keys("Control+z", "Control+a", "Shift+ArrowRight", "Shift+ArrowRight")
    assert places(drawing)[2][0] == 64, "the foremost point stops at the edge"
    gap = 64 - before[2][0]
    assert places(drawing) == [pytest.approx((x + gap, y), abs=0.03) for x, y in before], "and the others with it"
    drawing.keys("m")
    left, right = before[0][0] + gap, 64
    assert places(drawing)[0] == pytest.approx((right, before[0][1]), abs=0.03)
    assert places(drawing)[2] == pytest.approx((left, before[2][1]), abs=0.03)
    drawing.keys("Escape", "Tab", "e")
    assert [one["point"] for one in drawing.state()["group"]] == [0, 1]
    drawing.keys("Delete")
    assert len(drawing.points()) == 1
    assert drawing.editor.faults() == []


def test_points_snap_to_grid_and_guides_unless_alt_is_held(drawing: Drawing, pictures: Path) -> None:
    drawing.draw_three()
    drawing.keys("g")
    assert drawing.state()["options"]["grid"] is True
    drawing.drag((30, 20), (38.7, 9.2))
    assert places(drawing)[1] == (40, 8), "a frame of 64 px has a grid of 4 px"
    drawing.click(21.4, 58.8)
    assert places(drawing)[3] == (20, 60), "new points as well"
    drawing.page.mouse.move(*drawing.place(40, 8))
    drawing.page.mouse.down()
    drawing.page.keyboard.down("Alt")
    drawing.page.mouse.move(*drawing.place(30.5, 20.5), steps=4)
    drawing.page.mouse.up()
    drawing.page.keyboard.up("Alt")
    drawing.settle()
    assert places(drawing)[1] == pytest.approx((30.5, 20.5), abs=0.2)

    drawing.keys("g", "u")
    first = places(drawing)[0]
    drawing.page.mouse.move(*drawing.place(30.5, 20.5))
    drawing.page.mouse.down()
    drawing.page.mouse.move(*drawing.place(first[0] + 0.5, 32.4), steps=4)
    drawing.settle()
    drawing.shot(pictures, "guides")
    drawing.page.mouse.up()
    drawing.settle()
    assert places(drawing)[1] == (first[0], 32), "in line with the first point, and in the middle of the frame"
    assert drawing.state()["options"] == {"grid": False, "guides": True}
    assert drawing.editor.faults() == []

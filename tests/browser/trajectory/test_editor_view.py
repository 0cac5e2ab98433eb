"""The trajectory editor's view: fingers, panning, zooming; in each mode of `page`."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser.drawing import THREE, Drawing

Place = tuple[float, float]

pytestmark = [pytest.mark.browser, pytest.mark.comfyui, pytest.mark.timeout(1200)]


class Fingers:
    """Fingers on the window."""

    def __init__(self, drawing: Drawing) -> None:
        self.drawing = drawing
        self.chrome = drawing.page.context.new_cdp_session(drawing.page)

    def send(self, kind: str, *places: Place) -> None:
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        self.chrome.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def tap(self, x: float, y: float) -> None:
        self.send("touchStart", self.drawing.place(x, y))
        self.send("touchEnd")
        self.drawing.settle()

    def move(self, starts: list[Place], ends: list[Place], lift: str = "touchEnd", steps: int = 5) -> None:
        """Put fingers down one after the other (places in the window [px]), move them together and lift them."""
        for count in range(1, len(starts) + 1):
            self.send("touchStart", *starts[:count])
        for step in range(1, steps + 1):
            share = step / steps
            self.send("touchMove", *(_between(a, b, share) for a, b in zip(starts, ends, strict=True)))
        self.send(lift)
        self.drawing.settle()


def _between(a: Place, b: Place, share: float) -> Place:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share


def places(drawing: Drawing) -> list[Place]:
    return [(point["x"], point["y"]) for point in drawing.points()]


def near(expected) -> list:
    return [pytest.approx(place, abs=0.6) for place in expected]


def shown_at(drawing: Drawing, window: Place) -> Place:
    """Place of the first frame [px] that is shown at a place of the window."""
    origin, unit = drawing.place(0, 0), drawing.place(1, 1)
    return tuple((window[axis] - origin[axis]) / (unit[axis] - origin[axis]) for axis in (0, 1))


def test_fingers_draw_move_and_time(drawing: Drawing, pictures: Path) -> None:
    fingers = Fingers(drawing)
    drawing.button("Delete this path")
    for place in THREE:
        fingers.tap(*place)
    assert places(drawing) == near(THREE)
    fingers.move([drawing.place(30, 20)], [drawing.place(40, 45)])
    assert places(drawing) == near([THREE[0], (40, 45), THREE[2]])

    before = drawing.state()["text"]
    fingers.move([drawing.place(40, 45)], [drawing.place(5, 5)], lift="touchCancel")
    assert drawing.state()["text"] == before, "a gesture that the system takes away changes nothing"
    fingers.tap(*THREE[2])
    assert drawing.state()["selection"]["point"] == 2
    assert len(drawing.points()) == 3

    fingers.tap(40, 45)
    drawing.keys("Alt+ArrowRight")  # the point has a time of its own from here on
    given = drawing.points()[1]["t"]
    fingers.move([drawing.moment(given)], [drawing.moment(6 / 8)])
    assert drawing.points()[1]["t"] == pytest.approx(6 / 8, abs=0.02)
    drawing.shot(pictures, "touch")
    assert drawing.editor.faults() == []


def test_two_fingers_pinch_and_pan(drawing: Drawing, pictures: Path) -> None:
    fingers = Fingers(drawing)
    drawing.draw_three()
    drawn = drawing.state()["text"]
    graph = drawing.page.evaluate("() => [window.app.canvas.ds.scale, ...window.app.canvas.ds.offset]")
    scale = drawing.state()["view"][0]
    fingers.move([drawing.place(28, 30), drawing.place(36, 30)], [drawing.place(20, 30), drawing.place(44, 30)])
    zoomed = drawing.state()["view"][0]
    assert zoomed == pytest.approx(3 * scale, rel=0.1)
    drawing.shot(pictures, "pinched")

    starts = [drawing.place(30, 28), drawing.place(34, 28)]
    held = shown_at(drawing, starts[0])
    ends = [(x + 40, y + 25) for x, y in starts]
    fingers.move(starts, ends)
    assert shown_at(drawing, ends[0]) == pytest.approx(held, abs=0.5), "the picture goes with the fingers"
    assert drawing.state()["view"][0] == pytest.approx(zoomed, rel=0.02)
    assert drawing.state()["text"] == drawn, "neither finger draws"
    now = drawing.page.evaluate("() => [window.app.canvas.ds.scale, ...window.app.canvas.ds.offset]")
    assert now == graph, "the graph behind stays where it is"

    middle = shown_at(drawing, ends[0])
    fingers.tap(*middle)
    assert places(drawing)[-1] == pytest.approx(middle, abs=0.6), "what is drawn while zoomed lies under the finger"
    drawing.button("Show the whole frame")
    assert drawing.state()["view"][0] == pytest.approx(scale)
    assert drawing.editor.faults() == []


def test_wheel_and_drags_of_the_mouse(drawing: Drawing, pictures: Path) -> None:
    page = drawing.page
    drawing.draw_three()
    drawn = drawing.state()["text"]
    whole = drawing.state()["view"]
    pointer = tuple(map(round, drawing.place(45, 15)))
    under = shown_at(drawing, pointer)
    page.mouse.move(*pointer)
    for _ in range(4):
        page.mouse.wheel(0, -200)
    drawing.settle()
    assert drawing.state()["view"][0] > 2 * whole[0]
    assert shown_at(drawing, pointer) == pytest.approx(under, abs=0.1), "what is under the pointer stays there"

    for hold, release, button in (
        (None, None, "middle"),
        (lambda: page.keyboard.down(" "), lambda: page.keyboard.up(" "), "left"),
    ):
        start = drawing.place(45, 15)
        if hold:
            hold()
        page.mouse.move(*start)
        page.mouse.down(button=button)
        page.mouse.move(start[0] - 30, start[1] + 20, steps=3)
        page.mouse.up(button=button)
        if release:
            release()
        drawing.settle()
        assert drawing.place(45, 15) == pytest.approx((start[0] - 30, start[1] + 20), abs=1.0), button
    assert drawing.state()["text"] == drawn, "panning and zooming draw nothing"
    drawing.click(42, 18)
    assert places(drawing)[-1] == pytest.approx((42, 18), abs=0.3)
    drawing.shot(pictures, "zoomed")
    drawing.keys("+", "-", "0")
    assert drawing.state()["view"] == pytest.approx(whole, abs=0.01)
    assert drawing.editor.faults() == []


def test_drawing_in_a_graph_that_is_zoomed(drawing: Drawing) -> None:
    drawing.button("Delete this path")
    page = drawing.page
    for scale in (0.6, 1.4):
        page.evaluate(
            "([type, scale]) => { const {canvas} = window.app, {ds} = canvas; ds.scale = scale;"
            " const node = canvas.graph.nodes.find(one => one.type === type);"
            " ds.offset[0] = 150 / scale - node.pos[0]; ds.offset[1] = 160 / scale - node.pos[1];"
            " canvas.setDirty(true, true) }",
            ["VisualPlannerTrajectory", scale],
        )
        drawing.editor.rest(600)
        drawing.click(20 * scale, 30)
        assert places(drawing)[-1] == pytest.approx((20 * scale, 30), abs=0.6)
    assert drawing.editor.faults() == []


def test_the_wheel_is_the_graphs_until_the_editor_is_in_use(drawing: Drawing) -> None:
    page = drawing.page
    page.evaluate("() => document.activeElement?.blur()")
    view, graph = drawing.state()["view"], page.evaluate("() => window.app.canvas.ds.scale")
    page.mouse.move(*drawing.place(32, 32))
    page.mouse.wheel(0, -120)
    drawing.editor.rest(600)
    assert page.evaluate("() => window.app.canvas.ds.scale") > graph
    assert drawing.state()["view"][0] == pytest.approx(view[0], rel=0.01)
    assert drawing.editor.faults() == []

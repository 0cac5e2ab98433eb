"""How the trajectory editor looks: toolbar, colours, what is written on the drawing, the line of the preview."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from browser.drawing import TRAJECTORY, Drawing

from launcher.paths import PLUGIN_NAME
from visual_planner.trajectory.overlay import OVERLAY_STYLES, draw_overlay
from visual_planner.trajectory.parse import parse_trajectory

pytestmark = [
    pytest.mark.browser,
    pytest.mark.comfyui,
    pytest.mark.timeout(1200),
    pytest.mark.parametrize("page", ["canvas", "newer_nodes2"], indirect=True),  # the others lay it out as these do
]

PARTS = """type => {
    const {part} = window.app.canvas.graph.nodes.find(one => one.type === type).visualPlanner.editor
    const box = element => ['x', 'y', 'width', 'height'].map(side => element.getBoundingClientRect()[side])
    const looks = element => ['color', 'backgroundColor'].map(name => getComputedStyle(element)[name])
    return {
        root: box(part.root), stage: box(part.stage), tools: box(part.tools), fields: box(part.fields),
        zoom: box(part.root)[2] / part.root.clientWidth, strip: looks(part.strip), field: looks(part.x),
        buttons: [...part.tools.querySelectorAll('button')].map(one => ({
            box: box(one), label: one.getAttribute('aria-label'), title: one.title,
            icon: one.querySelector('svg') !== null, text: one.textContent, stop: one.tabIndex === 0})),
        labels: [...part.fields.querySelectorAll('label')].map(one => [one.getClientRects().length, ...box(one)]),
        cut: [part.tools, part.fields].map(one => one.scrollWidth - one.clientWidth),
    }
}"""
WRITTEN = """() => {
    window.written ??= new Set()
    window.written.clear()
    const own = CanvasRenderingContext2D.prototype
    own.plainFillText ??= own.fillText
    own.fillText = function (text, ...rest) { window.written.add(text); return this.plainFillText(text, ...rest) }
}"""
PALETTE = "name => window.app.extensionManager.setting.set('Comfy.ColorPalette', name)"
PREVIEW = """async ([type, plugin, width, height]) => {
    const {editor} = window.app.canvas.graph.nodes.find(one => one.type === type).visualPlanner
    const {paintOverlay} = await import(`/extensions/${plugin}/editor/paint.js`)
    const context = new OffscreenCanvas(width, height).getContext('2d')
    context.fillRect(0, 0, width, height)
    const {doc} = editor.session
    context.scale(width / doc.width, height / doc.height)
    paintOverlay(context, doc, editor.colorBy)
    return [...context.getImageData(0, 0, width, height).data]
}"""


CHOOSE_LOOK = """([type, look]) => {
    const {part} = window.app.canvas.graph.nodes.find(one => one.type === type).visualPlanner.editor
    part.colorBy.value = look
    part.colorBy.dispatchEvent(new Event('change'))
    return [...part.colorBy.options].map(option => option.value)
}"""


def test_one_row_of_icons_above_a_canvas_that_fills_the_node(drawing: Drawing, pictures: Path) -> None:
    """At the size that a new node has."""
    drawing.draw_three()
    parts = drawing.page.evaluate(PARTS, TRAJECTORY)
    left, _, width, height = parts["root"]
    unit = parts["zoom"]
    assert len(parts["buttons"]) == 17
    for button in parts["buttons"]:
        x, y, wide, high = button["box"]
        assert button["icon"] and button["text"] == "" and button["label"] == button["title"] != ""
        assert y == pytest.approx(parts["buttons"][0]["box"][1], abs=0.5), "one row"
        assert left <= x and x + wide <= left + width + 1 and wide >= 18 * unit and high >= 24 * unit
    assert [button["stop"] for button in parts["buttons"]].count(True) == 1, "one stop of the Tab key"
    assert parts["cut"] == [0, 0], "nothing is cut off at the right"
    assert {label[0] for label in parts["labels"]} == {1}
    assert max(label[4] for label in parts["labels"]) <= 25 * unit, "no label is torn over two lines"
    assert parts["tools"][3] <= 26 * unit and parts["fields"][3] <= 26 * unit
    assert parts["stage"][2] >= 0.99 * width and parts["stage"][3] >= 0.66 * height
    node = drawing.state()["size"][0] * drawing.page.evaluate("() => window.app.canvas.ds.scale")
    assert width >= 0.9 * node
    drawing.shot(pictures, "toolbar")
    assert drawing.editor.faults() == []


def brightness(color: str) -> float:
    """Relative luminance of `rgb(...)` by WCAG 2."""
    values = np.array([float(value) for value in re.findall(r"[\d.]+", color)[:3]]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_its_colours_are_those_of_the_palette(drawing: Drawing, pictures: Path) -> None:
    drawing.draw_three()
    fields = {}
    try:
        for palette in ("light", "dark"):
            drawing.page.evaluate(PALETTE, palette)
            drawing.editor.rest(900)  # the drawing looks for new colours now and then
            parts = drawing.page.evaluate(PARTS, TRAJECTORY)
            for color, ground in (parts["strip"], parts["field"]):
                low, high = sorted((brightness(color), brightness(ground)))
                assert (high + 0.05) / (low + 0.05) >= 4.5, f"{palette}: {color} on {ground}"
            fields[palette] = brightness(parts["strip"][1])
            drawing.shot(pictures, palette)
    finally:
        drawing.page.evaluate(PALETTE, "dark")
    assert fields["dark"] < 0.1 and fields["light"] > 0.4
    assert drawing.editor.faults() == []


def test_what_is_written_at_the_pointer_and_at_the_lines(drawing: Drawing, pictures: Path) -> None:
    """The number of the point under the pointer, and distances in pixels and frames."""
    drawing.draw_three()
    drawing.keys("Escape")
    drawing.page.evaluate(WRITTEN)
    drawing.page.mouse.move(*drawing.place(30, 20))
    drawing.settle()
    written = drawing.page.evaluate("() => [...window.written]")
    assert [text for text in written if re.fullmatch(r"point 2, frame 5\.\d", text)], written
    apart = [re.fullmatch(r"([\d.]+) px, frames: ([\d.]+)", text) for text in written]
    told = sorted((float(found[1]), float(found[2])) for found in apart if found)
    assert [pixels for pixels, _ in told] == pytest.approx([np.hypot(20, 10), np.hypot(18, 30)], abs=0.6)
    assert sum(frames for _, frames in told) == pytest.approx(8, abs=0.11)
    drawing.shot(pictures, "hover")

    drawing.click(12, 50)
    drawing.click(50, 30, hold="Shift")
    told = r"from point 1 to point 3: 4[23]\S* px, along the path 5\d\S* px, frames: 8$"
    assert re.search(told, drawing.state()["status"])
    drawing.keys("Escape", "d")
    drawing.page.evaluate(WRITTEN)
    drawing.page.mouse.move(*drawing.place(50, 30))
    drawing.settle()
    assert not [text for text in drawing.page.evaluate("() => [...window.written]") if " px" in text]
    assert drawing.editor.faults() == []


def places(drawing: Drawing) -> list[tuple[float, float]]:
    return [(point["x"], point["y"]) for point in drawing.points()]


@pytest.mark.parametrize("style", [style for style in OVERLAY_STYLES if style != "gradient"])
def test_the_preview_of_arrows_is_the_overlay(drawing: Drawing, pictures: Path, style: str) -> None:
    drawing.draw_three()
    offered = drawing.page.evaluate(CHOOSE_LOOK, [TRAJECTORY, style])
    assert offered == ["time", "arc", *(style for style in OVERLAY_STYLES if style != "gradient")]
    drawing.settle()
    drawing.shot(pictures, style)
    drawn = drawing.page.evaluate(PREVIEW, [TRAJECTORY, PLUGIN_NAME, 256, 256])
    shown = np.array(drawn, float).reshape(256, 256, 4)[:, :, :3]
    trajectory = parse_trajectory(drawing.state()["text"]).scaled(256, 256)
    overlay = draw_overlay(np.zeros((256, 256, 3), np.uint8), trajectory, style).astype(float)
    line = overlay.any(axis=2)
    assert np.abs(shown - overlay)[line].mean() < 12, "the same arrows in the same colours"
    assert np.abs(shown - overlay)[~line].mean() < 0.2, "and nothing beside them"
    aside = np.roll(overlay, 4, axis=1)
    assert np.abs(shown - aside)[line].mean() > 24, "the comparison would see arrows a pixel of the frame aside"
    assert drawing.state()["options"]["colorBy"] == style
    assert drawing.editor.faults() == []


def test_the_preview_is_the_overlay_also_while_points_are_moved(drawing: Drawing) -> None:
    """What is drawn here, held against what Python draws for the planner."""
    drawing.draw_three()
    drawing.keys("Control+a")
    before = places(drawing)
    drawing.page.mouse.move(*drawing.place(30, 20))
    drawing.page.mouse.down()
    drawing.page.mouse.move(*drawing.place(36, 26), steps=3)
    drawing.settle()
    during = drawing.page.evaluate(PREVIEW, [TRAJECTORY, PLUGIN_NAME, 256, 256])
    drawing.page.mouse.up()
    drawing.settle()
    after = drawing.page.evaluate(PREVIEW, [TRAJECTORY, PLUGIN_NAME, 256, 256])
    assert during == after and places(drawing) != before
    trajectory = parse_trajectory(drawing.state()["text"]).scaled(256, 256)
    overlay = draw_overlay(np.zeros((256, 256, 3), np.uint8), trajectory).astype(float)
    shown = np.array(after, float).reshape(256, 256, 4)[:, :, :3]
    line = overlay.any(axis=2)
    assert np.abs(shown - overlay)[line].mean() < 12, "the same line in the same colours"
    assert np.abs(shown - overlay)[~line].mean() < 0.2, "and nothing beside it"
    aside = np.roll(overlay, 4, axis=1)
    assert np.abs(shown - aside)[line].mean() > 24, "the comparison would see a line a pixel of the frame aside"

"""A stranger's path: open the template, draw, run, see the video. How long it took is written into the output."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from browser.drawing import TRAJECTORY, Drawing
from browser.editor import WATCH, Editor

pytestmark = [pytest.mark.browser, pytest.mark.comfyui, pytest.mark.timeout(1200)]

VIDEO = """() => {
    const video = [...document.querySelectorAll('video')].find(one => one.readyState >= 2 && one.videoWidth > 0)
    return video ? [video.videoWidth, video.videoHeight, video.duration] : null
}"""


@pytest.mark.parametrize("template", ["tiny_trajectory", "tiny_both"])
def test_from_the_template_to_the_video(
    page: Editor, pictures: Path, template: str, record_property: Callable[[str, object], None]
) -> None:
    page.problems.clear()
    drawing, window = Drawing(page), page.page
    seconds = {}
    start = time.monotonic()

    window.get_by_role("button", name="Templates").first.click()
    dialog = window.locator("[role=dialog]:visible").last
    card = dialog.get_by_text(re.compile(f"^{template.replace('_', '[ _]')}$")).first  # the newer one shows file names
    card.click()
    dialog.wait_for(state="hidden")
    drawing.wait_for("state.picture && state.box[2] > 100")
    assert page.messages() == []
    seconds["open the template"] = time.monotonic() - start

    page.look_at(TRAJECTORY)
    drawing.draw_three()
    drawn = drawing.state()["text"]
    assert len(json.loads(drawn)["paths"][0]["points"]) == 3
    seconds["draw"] = time.monotonic() - start

    window.evaluate(WATCH)
    window.get_by_test_id("queue-button").click()
    ended = window.evaluate("() => window.plannerRun")
    assert ended["kind"] == "execution_success", ended
    seconds["run"] = time.monotonic() - start

    page.look_at("SaveVideo")
    window.wait_for_function(f"() => ({VIDEO})() !== null")
    width, height, duration = window.evaluate(VIDEO)
    assert (width, height) == (64, 64)
    assert duration > 1.0
    seconds["see the video"] = time.monotonic() - start
    drawing.shot(pictures, f"stranger_{template}")
    page.show_all()
    drawing.shot(pictures, f"stranger_{template}_all")
    sent = page.prompt().values()
    assert [node["inputs"]["trajectory_json"] for node in sent if node["class_type"] == TRAJECTORY] == [drawn]
    assert page.faults() == []

    for step, total in seconds.items():
        record_property(f"{template}: {step} [s]", round(total, 1))
    report = ", ".join(f"{step} after {total:.1f} s" for step, total in seconds.items())
    file = pictures / f"stranger_{page.mode}_{template}.txt"
    file.write_text(f"{template}, {page.mode}: {report}\n", encoding="utf-8")
    print(f"{template}, {page.mode}: {report}")

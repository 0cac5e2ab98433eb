"""App mode in ComfyUI's newer frontend: the copies open in it without a message, draw, run and show the plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser.editor import NO_OFFERS, SETTINGS, WATCH, Editor
from browser.workflow_files import APPS, JsonObject, read

from launcher.client import ComfyClient
from launcher.copies import APP_INPUTS, APP_NAMES, GOAL_INPUT
from launcher.paths import WORKFLOWS
from launcher.server import ComfyServer
from launcher.workflow import Workflow

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage

pytestmark = [pytest.mark.browser, pytest.mark.comfyui, pytest.mark.timeout(1200)]
MODE = "() => window.app.extensionManager.workflow.activeWorkflow?.initialMode"
ENDED = """() => Promise.race([
    window.plannerRun.then(({kind}) => kind),
    new Promise(resolve => setTimeout(() => resolve('not ended'), 150_000)),
])"""


@pytest.fixture(scope="module")
def newer(browser: Browser, newer_server: ComfyServer) -> Iterator[Editor]:
    """A page of the newer frontend with Nodes 2.0, which App mode is made of."""
    ComfyClient(newer_server.url).post("/settings", SETTINGS | NO_OFFERS | {"Comfy.VueNodes.Enabled": True})
    editor = Editor(browser, newer_server.url, "newer_app")
    yield editor
    editor.close()


def open_app(editor: Editor, name: str) -> list[str]:
    """Open a copy after a plain graph; returns the warnings and errors of the frontend's console meanwhile."""
    editor.open_file(WORKFLOWS / "tiny_text.json")
    said: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type in ("warning", "error"):
            said.append(message.text)

    editor.problems.clear()
    editor.page.on("console", note)
    editor.open_file(WORKFLOWS / f"{name}.json")
    editor.page.wait_for_function(f"() => ({MODE})() === 'app'")
    editor.rest(1500)
    editor.page.remove_listener("console", note)
    welcome = editor.page.get_by_role("button", name="Skip", exact=True)  # to the frontend's own tour of App mode
    if welcome.is_visible():
        welcome.click()
        editor.settle()
    return said


@pytest.mark.parametrize("app", APPS)
def test_a_copy_opens_in_app_mode(newer: Editor, newer_server: ComfyServer, pictures: Path, app: str) -> None:
    said = open_app(newer, app)
    newer.screenshot(pictures / f"{app}.png")
    assert [text for text in said if "appMode" in text or "workflow" in text.lower()] == []
    assert newer.faults() == []
    assert newer.messages() == []
    name = next(name for name, found in APP_NAMES.items() if found == app)
    drawn, goal = name.endswith(("trajectory", "both")), name.endswith("goal")
    asked = newer.page.get_by_test_id("app-mode-widget-item")
    assert asked.count() == 4 + drawn + goal
    shown = "".join(asked.all_inner_texts())
    assert [text for _, widget, text in APP_INPUTS if text not in shown and (drawn or "editor" not in widget)] == []
    assert newer.page.get_by_test_id("linear-widgets").locator(".vp-editor").count() == drawn
    kept = newer.serialise()["extra"]
    assert kept["linearMode"] is True
    assert (GOAL_INPUT in shown) == goal
    assert len(kept["linearData"]["inputs"]) == 4 + drawn + goal
    info = ComfyClient(newer_server.url).object_info()
    wanted = Workflow(read(name), info, name).to_prompt()
    assert inputs_of(newer.prompt()) == inputs_of(wanted)


def inputs_of(prompt: JsonObject) -> JsonObject:
    return {node: entry["inputs"] for node, entry in prompt.items()}


@pytest.mark.parametrize("name", ["tiny_both", "tiny_goal"])
def test_an_app_runs_and_shows_the_plan(newer: Editor, pictures: Path, name: str) -> None:
    open_app(newer, APP_NAMES[name])
    newer.page.evaluate(WATCH)
    newer.page.get_by_test_id("linear-run-button").get_by_role("button", name="Run", exact=True).click()
    assert newer.page.evaluate(ENDED) == "execution_success"
    newer.rest(3000)
    newer.screenshot(pictures / f"app_run_{name}.png")
    assert newer.faults() == []
    center = newer.page.get_by_test_id("linear-center-panel")
    assert center.locator("video, img").count() >= 1, "the plan must be shown"

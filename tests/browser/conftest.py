"""Fixtures of the browser tests: a server with a planner, a browser, the editor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from browser.chrome import NoBrowser, chrome
from browser.drawing import Drawing
from browser.editor import SETTINGS, Editor
from browser.workflow_files import FIRST_FRAME, upload_examples
from launcher.client import ComfyClient
from launcher.comfyui import ComfyUI
from launcher.paths import OUTPUT
from launcher.server import ComfyServer
from support.frontend import newer_frontend
from support.planner import has_shipped_planner, planner_plugin

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MODES = {"canvas": (False, False), "nodes2": (False, True), "newer_canvas": (True, False), "newer_nodes2": (True, True)}
"""Of the editor's tests: (newer frontend, Nodes 2.0)."""
NOT_RUN = "NO BROWSER, SO NO BROWSER TEST WAS RUN"


@pytest.fixture(scope="session")
def planner_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """The session's server; where the repository holds no weights, one of its own with a random planner."""
    if has_shipped_planner():
        yield request.getfixturevalue("comfy_server")
        return
    comfyui: ComfyUI = request.getfixturevalue("comfyui")
    plugin = planner_plugin(tmp_path_factory.mktemp("plugin") / "visual_planner")
    with ComfyServer(comfyui, base=tmp_path_factory.mktemp("base"), cpu=True, plugin=plugin) as server:
        yield server


@pytest.fixture(scope="session")
def client(planner_server: ComfyServer) -> ComfyClient:
    """Client of that server, in whose input folder the example scene lies."""
    client = ComfyClient(planner_server.url, timeout=180)
    upload_examples(client)
    client.post("/settings", SETTINGS)
    return client


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """A browser without a window; for this folder alone, because Playwright occupies the thread's event loop."""
    running = chrome()
    try:
        started = running.__enter__()
    except NoBrowser as error:
        pytest.skip(f"{NOT_RUN}: {error}")
    try:
        yield started
    finally:
        running.__exit__(None, None, None)


@pytest.fixture(scope="package")
def shared_editor(browser: Browser, client: ComfyClient) -> Iterator[Editor]:
    """One page for all tests without settings of their own: a page takes longer to start than a workflow to open."""
    editor = Editor(browser, client.url)
    yield editor
    editor.close()


@pytest.fixture
def editor(shared_editor: Editor) -> Editor:
    """The shared page, with its list of problems begun anew."""
    shared_editor.problems.clear()
    return shared_editor


@pytest.fixture(scope="session")
def newer_server(comfyui: ComfyUI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A server with the newer frontend."""
    arguments = ["--front-end-root", str(newer_frontend())]
    base = tmp_path_factory.mktemp("newer")
    with ComfyServer(comfyui, base=base, cpu=True, extra_arguments=arguments) as server:
        upload_examples(ComfyClient(server.url))
        yield server


@pytest.fixture(scope="package", params=MODES)
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Editor]:
    """The editor's page in each mode, with the example picture and a new Trajectory node on the graph."""
    newer, vue = MODES[request.param]
    url = request.getfixturevalue("newer_server" if newer else "client").url
    ComfyClient(url).post("/settings", SETTINGS | {"Comfy.VueNodes.Enabled": vue})
    editor = Editor(browser, url, request.param)
    yield editor
    editor.close()
    ComfyClient(url).post("/settings", SETTINGS)


@pytest.fixture
def drawing(page: Editor) -> Drawing:
    """The editor of a new Trajectory node on an empty graph, before the example scene."""
    page.problems.clear()
    drawing = Drawing(page)
    drawing.begin(FIRST_FRAME)
    return drawing


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Folder for the tests' screenshots, to be looked at."""
    return OUTPUT / "browser"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say it where nobody can miss it."""
    reasons = {str(report.longrepr[2]) for report in terminalreporter.stats.get("skipped", []) if report.longrepr}
    for reason in sorted(reason for reason in reasons if NOT_RUN in reason):
        terminalreporter.section(NOT_RUN, sep="!", red=True, bold=True)
        terminalreporter.write_line(reason.removeprefix("Skipped: "), red=True)

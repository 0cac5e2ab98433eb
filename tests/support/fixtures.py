"""Fixtures that any test may ask for. Heavy imports happen inside the fixtures: the core tests must stay fast."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from launcher.client import ComfyClient
    from launcher.comfyui import ComfyUI
    from launcher.server import ComfyServer

    from .inprocess import InProcessComfyUI

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def repository() -> Path:
    """Folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def comfyui() -> ComfyUI:
    """The ComfyUI to test with: COMFYUI_PATH, else the unpacked one (fetched if it is not there yet)."""
    from launcher.comfyui import find_comfyui

    return find_comfyui()


@pytest.fixture(scope="session")
def comfy_server(comfyui: ComfyUI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A real ComfyUI server on the CPU with the plugin, started once for the whole session."""
    from launcher.server import ComfyServer

    with ComfyServer(comfyui, base=tmp_path_factory.mktemp("comfyui"), cpu=True) as server:
        yield server
        log = server.log_file.read_text(encoding="utf-8", errors="replace")
    assert deprecations(log) == [], "the plugin uses what this ComfyUI is about to drop"


def deprecations(log: str) -> list[str]:
    """Lines of a server's log that say that something outdated is used by our plugin, the only one that it has.

    ComfyUI's own lines are about its plugins; a warning of Python names the file that it is about.
    """
    lines = [line for line in log.splitlines() if "deprecat" in line.casefold()]
    own = (str(ROOT), "visual_planner")
    return [line for line in lines if "Warning:" not in line or any(name in line for name in own)]


@pytest.fixture
def comfy_client(comfy_server: ComfyServer) -> ComfyClient:
    """A client of the session's server."""
    from launcher.client import ComfyClient

    return ComfyClient(comfy_server.url)


@pytest.fixture(scope="session")
def object_info(comfy_server: ComfyServer) -> dict[str, Any]:
    """Every node type of the session's server, as its /object_info tells."""
    from launcher.client import ComfyClient

    return ComfyClient(comfy_server.url).object_info()


@pytest.fixture(scope="session")
def comfy(comfyui: ComfyUI, tmp_path_factory: pytest.TempPathFactory) -> InProcessComfyUI:
    """ComfyUI in this process, with our plugin loaded by it: `comfy.call("VisualPlannerPrompt", ...)`."""
    from .inprocess import InProcessComfyUI

    return InProcessComfyUI(comfyui, tmp_path_factory.mktemp("comfyui_inprocess"))


@pytest.fixture(scope="session")
def plugin(comfy: InProcessComfyUI) -> Any:
    """Our plugin's module as ComfyUI has loaded it."""
    return comfy.plugin

"""`run.py serve`: ComfyUI in the browser, with the plugin and its workflows."""

from __future__ import annotations

import os
import sys
import time
import webbrowser
from pathlib import Path

from runtime.writing import replacing

from .comfyui import find_comfyui
from .console import note
from .errors import LauncherError
from .paths import CACHE, EXAMPLES, PLUGIN_NAME, WORKFLOWS
from .server import ComfyServer, first_free_port

SERVE_BASE = CACHE / "serve"
EXAMPLE_PICTURES = {
    "visual_planner_first_frame.png": EXAMPLES / "first_frame.png",
    "visual_planner_goal.png": EXAMPLES / "goal.png",
}
"""Pictures that the example workflows load: name in ComfyUI's input folder -> file."""


def offer_workflows(base: Path, workflows: Path = WORKFLOWS) -> list[Path]:
    """Copy the example workflows to where the editor's sidebar lists them, and the pictures that they load.

    Existing files are the user's and are kept.

    Returns:
        The files in the sidebar's folder.

    Raises:
        LauncherError: One of them cannot be written.
    """
    folder = base / "user" / "default" / "workflows" / PLUGIN_NAME
    for source in sorted(workflows.glob("*.json")):
        target = folder / source.name
        if not target.exists():
            _copy(source, target)
    for name, source in EXAMPLE_PICTURES.items():
        if not (picture := base / "input" / name).exists():
            _copy(source, picture)
    return sorted(folder.glob("*.json"))


def _copy(source: Path, target: Path) -> None:
    """Copy a file whole or not at all: half a copy would pass for the user's own file at the next start."""
    data = source.read_bytes()
    with replacing(target, LauncherError) as temporary:
        temporary.write_bytes(data)


def serve(port: int, open_browser: bool) -> int:
    """Start the server and keep it until Ctrl-C.

    Args:
        port: First port to try.
        open_browser: Open a browser window when the server is ready.

    Raises:
        LauncherError: No free port, or the server did not start or ended by itself.
    """
    comfyui = find_comfyui()
    chosen = first_free_port(port)
    if chosen != port:
        note(f"Port {port} is taken, using {chosen}.")
    offered = offer_workflows(SERVE_BASE)
    note(f"Starting ComfyUI {comfyui.version} ...")
    with ComfyServer(comfyui, base=SERVE_BASE, port=chosen) as server:
        if open_browser and _has_display():
            webbrowser.open(server.url)
        wait_until_ended(
            server,
            f"ComfyUI {comfyui.version} with the visual planner: {server.url}",
            f"Workflows: {len(offered)} in the sidebar under {PLUGIN_NAME}/ (key W). Outputs: {server.base / 'output'}",
        )
    return 0


def wait_until_ended(server: ComfyServer, *lines: str) -> None:
    """Print where the server is and wait for Ctrl-C, which from the first line on is a normal end.

    Args:
        server: the running server.
        lines: lines to print.

    Raises:
        LauncherError: The server ended by itself.
    """
    try:
        print(*lines, "Press Ctrl-C to stop.", sep="\n", flush=True)
        while server.process.poll() is None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        note("\nEnding ComfyUI.")
        return
    raise LauncherError(f"the ComfyUI server ended with code {server.process.returncode} (log: {server.keep_log()})")


def _has_display() -> bool:
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))

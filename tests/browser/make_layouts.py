"""Lays the workflow files out so that they are clean in canvas nodes and in Nodes 2.0, before and after a run.

`PYTHONPATH=.:tests .venv/bin/python tests/browser/make_layouts.py` opens every workflow (or the named ones) in both
frontends and both renderers, runs those that can run here, and gives each node the greatest height that it took.
Run it when a node has got another input or shows more, look at the pictures in `output/browser`, then make the copies
with `.venv/bin/python -m launcher.copies`. `TYPE=WIDTH` among the names gives the nodes of a type a width.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator

from browser.chrome import chrome
from browser.editor import NO_OFFERS, SETTINGS, Editor
from browser.layout import ROOM_BELOW, TITLE, JsonObject, faults, heights_by_kind, respace, widen
from browser.workflow_files import ALL, RUNNABLE, forget_results, read, upload_examples
from launcher.client import ComfyClient
from launcher.comfyui import find_comfyui
from launcher.paths import OUTPUT, WORKFLOWS, shown
from launcher.server import ComfyServer
from support.frontend import newer_frontend


def main(arguments: list[str]) -> None:
    """Lay out the named workflows, or all."""
    widths = dict(argument.split("=") for argument in arguments if "=" in argument)
    names = [argument for argument in arguments if "=" not in argument] or list(ALL)
    for name in names:
        data = read(name)
        for kind, width in widths.items():
            widen(data, kind, float(width))
        write(name, data)
    heights: dict[str, dict[str, float]] = {name: {} for name in names}
    for newer in (False, True):
        for name, found in measured(names, newer):
            for node, height in found.items():
                heights[name][node] = max(height, heights[name].get(node, 0.0))
    for name in sorted(names, key=lambda one: one not in RUNNABLE):
        data = read(name)
        if name not in RUNNABLE:  # what a run adds is known from those that can run
            lent = heights_by_kind([read(other) for other in RUNNABLE])
            for node in data["nodes"]:
                number, kind = str(node["id"]), (node["type"], node["size"][0])
                heights[name][number] = max(heights[name][number], lent.get(kind, 0.0))
        respace(data, heights[name])
        write(name, data)
        print(shown(WORKFLOWS / f"{name}.json"))


PLACES = re.compile(r'"(pos|size|bounding)": \[[^\]]*\]')
NUMBER = re.compile(r"-?\d+(\.\d+)?")


def write(name: str, data: JsonObject) -> None:
    """Write places and sizes into a workflow file, and leave the rest of its text as it is."""
    file = WORKFLOWS / f"{name}.json"
    values = [part[key] for part in parts_of(data) for key in part if key in ("pos", "size", "bounding")]
    rest = iter(values)
    text = PLACES.sub(lambda found: with_numbers(found[0], next(rest)), file.read_text(encoding="utf-8"))
    if json.loads(text) != data:
        raise SystemExit(f"{name}.json has another order of nodes than expected; nothing was written")
    file.write_text(text, encoding="utf-8")


def parts_of(data: JsonObject) -> list[JsonObject]:
    """Nodes and groups in the order in which the file has them."""
    return [part for key, value in data.items() if key in ("nodes", "groups") for part in value]


def with_numbers(text: str, numbers: list[float]) -> str:
    """The same text with other numbers."""
    rest = iter(numbers)
    return NUMBER.sub(lambda _: f"{next(rest):g}", text)


def measured(names: list[str], newer: bool) -> Iterator[tuple[str, dict[str, float]]]:
    """Each workflow's heights below the title [px of the file] by node, in canvas nodes and in Nodes 2.0."""
    more = ["--front-end-root", str(newer_frontend())] if newer else []
    with ComfyServer(find_comfyui(), cpu=True, extra_arguments=more) as server, chrome() as browser:
        client = ComfyClient(server.url, timeout=180)
        upload_examples(client)
        client.post("/settings", SETTINGS | NO_OFFERS)
        editor = Editor(browser, server.url)
        for name in names:
            for vue in (False, True):
                forget_results(client)
                editor.set("Comfy.VueNodes.Enabled", vue)
                editor.open_file(WORKFLOWS / f"{name}.json")
                editor.show_all()
                if name in RUNNABLE and (ended := editor.run())["kind"] != "execution_success":
                    raise SystemExit(f"{name} did not run: {ended}")
                editor.show_all()
                mode = f"{'newer' if newer else 'pinned'}_{'nodes2' if vue else 'canvas'}"
                editor.screenshot(OUTPUT / "browser" / f"layout_{name}_{mode}.png")
                nodes = editor.nodes()
                for fault in faults(nodes, editor.groups()):
                    print(f"{name}, {mode}: {fault}", flush=True)
                yield name, heights_of(nodes, read(name))


def heights_of(nodes: list[JsonObject], data: JsonObject) -> dict[str, float]:
    """Heights in the file's pixels, without what the renderer adds to every node.

    Some frontends enlarge a file of canvas nodes when Nodes 2.0 opens it, and Nodes 2.0 draws a frame around each node:
    counted as height, the frame would make every node grow at each call.
    """
    sizes = {str(node["id"]): node["size"] for node in data["nodes"]}
    scale = min(node["box"][2] / sizes[str(node["id"])][0] for node in nodes)
    heights = {str(node["id"]): (node["box"][3] - TITLE) / scale for node in nodes}
    frame = max(min(height - sizes[number][1] for number, height in heights.items()), 0.0)
    room = {str(node["id"]): ROOM_BELOW.get(node["type"], 0.0) for node in nodes}
    return {number: max(height - frame - room[number], sizes[number][1]) for number, height in heights.items()}


if __name__ == "__main__":
    main(sys.argv[1:])

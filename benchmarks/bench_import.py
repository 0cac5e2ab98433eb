"""What the plugin adds to ComfyUI's start: milliseconds to load it, compared with a pack of one empty node.

Each repeat is a fresh process in which ComfyUI has loaded its own nodes, as at a real start, and then loads both packs
with the function that it uses for custom nodes; which comes first alternates. ComfyUI's own import is shown for scale.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from launcher.bootstrap import clean_environment
from launcher.comfyui import ComfyUI, find_comfyui
from launcher.console import StatusLine
from launcher.errors import LauncherError
from launcher.paths import PLUGIN_NAME
from launcher.server import prepare_base

from .harness import Benchmark

REPEATS = 7
EMPTY_PACK = """
from comfy_api.latest import ComfyExtension, io


class EmptyPackNode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="EmptyPackNode", inputs=[], outputs=[])

    @classmethod
    def execute(cls):
        return io.NodeOutput()


class EmptyPack(ComfyExtension):
    async def get_node_list(self):
        return [EmptyPackNode]


async def comfy_entrypoint():
    return EmptyPack()
"""


def run(repeats: int | None = None) -> Benchmark:
    """Measure.

    Args:
        repeats: Number of processes.

    Raises:
        LauncherError: A pack could not be loaded.
    """
    comfyui = find_comfyui()
    count = repeats or REPEATS
    status = StatusLine("Import")
    packs = (PLUGIN_NAME, "empty_pack")
    raw: dict[str, list[float]] = {PLUGIN_NAME: [], "empty_pack": [], "comfyui_itself": []}
    heavy: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="visual-planner-bench-") as folder:
        base = Path(folder)
        prepare_base(base)
        (base / "custom_nodes" / "empty_pack").mkdir()
        (base / "custom_nodes" / "empty_pack" / "__init__.py").write_text(EMPTY_PACK, encoding="utf-8")
        for index in range(count + 1):
            status.update(f"process {index + 1} of {count + 1}")
            result = probe(comfyui, base, packs if index % 2 else packs[::-1])
            heavy.update(result["heavy"])
            if index == 0:  # compiles the plugin's files, which happens once in a real installation as well
                continue
            for name in raw:
                raw[name].append(result["milliseconds"][name])
    status.close()
    return Benchmark(
        "import",
        "ms",
        raw,
        {"import/empty_pack": (PLUGIN_NAME, "empty_pack"), "import/comfyui_itself": (PLUGIN_NAME, "comfyui_itself")},
        {"heavy packages that the plugin imported": ", ".join(sorted(heavy)) or "none"},
    )


def probe(comfyui: ComfyUI, base: Path, order: tuple[str, ...]) -> dict:
    """Load the packs in a fresh ComfyUI process; returns the milliseconds of each and what heavy packages ours loaded.

    Raises:
        LauncherError: The process failed.
    """
    script = Path(__file__).with_name("import_probe.py")
    process = subprocess.run(
        [str(comfyui.python), str(script), str(comfyui.folder), str(base), *order],
        capture_output=True,
        text=True,
        env={**clean_environment(), "CUDA_VISIBLE_DEVICES": ""},
        cwd=base,
    )
    if process.returncode != 0:
        lines = process.stderr.strip().splitlines() or ["no message"]
        raise LauncherError(f"the packs could not be loaded: {lines[-1]}")
    return json.loads(process.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    sys.exit("start it with: python3 run.py bench import")

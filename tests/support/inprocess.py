"""The real ComfyUI inside the test process: for tests that call node classes directly."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

from launcher.comfyui import ComfyUI
from launcher.paths import PLUGIN_NAME
from launcher.server import prepare_base

_WHERE = (
    "import json, sys, sysconfig as s; "
    "print(json.dumps([sys.version_info[:2], s.get_path('purelib'), s.get_path('platlib')]))"
)


def lend_packages(python: Path) -> None:
    """Let this process find, after its own packages, those that another Python has: what that Python's ComfyUI needs.

    Raises:
        RuntimeError: The other Python is of another version, so that its compiled packages cannot be imported here.
    """
    sys.path.extend(folder for folder in packages_of(python) if folder not in sys.path)


def packages_of(python: Path) -> list[str]:
    """Folders of another Python's own packages.

    Raises:
        RuntimeError: It is of another version, so that its compiled packages cannot be imported here.
    """
    answer = subprocess.run([str(python), "-c", _WHERE], capture_output=True, text=True, check=True)
    version, *folders = json.loads(answer.stdout)
    if tuple(version) != sys.version_info[:2]:
        own, other = (".".join(map(str, numbers)) for numbers in (sys.version_info[:2], version))
        raise RuntimeError(
            f"COMFYUI_PYTHON must be a Python {own} for the node tests, as theirs is, got {other}: {python}"
        )
    return list(dict.fromkeys(folders))


class InProcessComfyUI:
    """ComfyUI's modules, imported on the CPU with a base directory of their own; our plugin is loaded by ComfyUI.

    Attributes:
        base: Base directory (models, input, output, custom_nodes).
        nodes: ComfyUI's `nodes` module.
        plugin: Our plugin's module, under the name that ComfyUI gives it.
    """

    def __init__(self, comfyui: ComfyUI, base: Path) -> None:
        prepare_base(base)
        if comfyui.python != Path(sys.executable):
            lend_packages(comfyui.python)
        self.base = base
        self._extras_loaded = False
        # ComfyUI's folder comes first: the repository root on the path would otherwise give our `nodes`.
        sys.path.insert(0, str(comfyui.folder))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside ComfyUI's own imports are not ours to fail on
            from comfy.cli_args import args

            args.cpu = True
            args.base_directory = str(base)
            import nodes

            self.nodes = nodes
            folder = base / "custom_nodes" / PLUGIN_NAME
            if not asyncio.run(nodes.load_custom_node(str(folder))):
                raise RuntimeError(f"ComfyUI could not load the plugin from {folder}; its log says why")
        self.plugin: ModuleType = sys.modules[str(folder).replace(".", "_x_")]
        gc.freeze()  # as tests/conftest.py does: ComfyUI is as much again

    def load_extras(self) -> None:
        """Load ComfyUI's extra nodes (custom sampling, video, ...) once; takes some seconds."""
        if self._extras_loaded:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asyncio.run(self.nodes.init_builtin_extra_nodes())
        self._extras_loaded = True
        gc.freeze()

    def node(self, node_id: str) -> type:
        """Class of a node by its id; a stock extra node is loaded when asked for."""
        if node_id not in self.nodes.NODE_CLASS_MAPPINGS:
            self.load_extras()
        return self.nodes.NODE_CLASS_MAPPINGS[node_id]

    def call(self, node_id: str, /, **inputs: Any) -> tuple:
        """Run a node as ComfyUI would and return its outputs as a tuple.

        V3 nodes answer with a NodeOutput (its `result` is returned), V1 nodes with a tuple.
        """
        output = self.execute(node_id, **inputs)
        result = getattr(output, "result", output)
        return tuple(result) if result is not None else ()

    def execute(self, node_id: str, /, **inputs: Any) -> Any:
        """Run a node and return exactly what it returned."""
        cls = self.node(node_id)
        if hasattr(cls, "PREPARE_CLASS_CLONE"):
            return cls.PREPARE_CLASS_CLONE({}).execute(**inputs)
        instance = cls()
        return getattr(instance, cls.FUNCTION)(**inputs)

    def own_node_ids(self) -> list[str]:
        """Ids of our plugin's nodes."""
        return sorted(name for name in self.nodes.NODE_CLASS_MAPPINGS if name.startswith("VisualPlanner"))

"""A plugin folder with a planner inside: the shipped one, or a random one where the shipped weights are not there."""

from __future__ import annotations

import importlib.util
import shutil
import warnings
from pathlib import Path

from launcher.paths import ROOT

TINY = Path("models") / "tiny_planner"
WEIGHTS = TINY / "transformer" / "diffusion_pytorch_model.safetensors"


def has_shipped_planner() -> bool:
    """Whether the repository holds the tiny planner's weights and LoRAs."""
    return (ROOT / WEIGHTS).is_file() and any((ROOT / TINY / "loras").glob("*.safetensors"))


def copy_plugin(target: Path) -> Path:
    """Copy the plugin (without its models) to a folder that a test may change.

    Links would not do: the plugin finds its models beside its own files, behind any link.
    """
    ignored = shutil.ignore_patterns("__pycache__")
    for name in (
        "__init__.py",
        "pyproject.toml",
        "nodes",
        "visual_planner",
        "simulation",
        "web",
        "locales",
        "workflows",
        "subgraphs",
        "models/readout",
    ):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=ignored)
        elif source.exists():
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / name)
    return target


def add_random_planner(plugin: Path, lora_name: str = "tiny_planner") -> Path:
    """Give a copied plugin a random planner: files of the right shape that plan nothing."""
    import torch
    from safetensors.torch import save_file

    from visual_planner.planner.spec import PlannerSpec

    file = ROOT / "tests" / "nodes" / "tiny_factory.py"
    spec = importlib.util.spec_from_file_location("tiny_factory", file)
    factory = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(factory)
    folder = plugin / TINY
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of diffusers and transformers about themselves
        factory.write_tiny_planner(folder, double=1, single=1)
    module = "transformer.transformer_blocks.0.attn.to_q"
    tensors = {
        f"{module}.lora_A.weight": torch.zeros(4, factory.HIDDEN),
        f"{module}.lora_B.weight": torch.zeros(factory.HIDDEN, 4),
    }
    record = PlannerSpec(cell_height=64, cell_width=64, condition_tokens="first_cell", steps=4).to_metadata()
    (folder / "loras").mkdir()
    save_file(tensors, folder / "loras" / f"{lora_name}.safetensors", metadata=record)
    return folder


def planner_plugin(target: Path) -> Path:
    """A copy of the plugin with a planner: the shipped one, else a random one."""
    copy_plugin(target)
    if has_shipped_planner():
        shutil.copytree(ROOT / TINY, target / TINY)
    else:
        add_random_planner(target)
    return target

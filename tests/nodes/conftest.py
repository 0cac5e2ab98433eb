"""Fixtures of the node tests: a random tiny planner on disk, and its parts as ComfyUI's MODEL, CLIP and VAE."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import adapter_factory
import lora_factory
import pytest
import sampling
import tiny_factory
import torch

from support.tiny_flux2 import write_tiny_flux2


@pytest.fixture(autouse=True, scope="module")
def cheap_collections():
    """What lives through a module (ComfyUI, planners, what torch.compile has imported) is left out of collections.

    ComfyUI collects all garbage before a sampling if a model's last patched copy has gone, as after most tests.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A random tiny planner in diffusers' folder layout."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of diffusers and transformers about themselves
        return tiny_factory.write_tiny_planner(tmp_path_factory.mktemp("tiny_planner"))


@pytest.fixture(scope="session")
def tiny(comfy, plugin):
    """The plugin's `nodes.comfy.tiny.tiny`."""
    return submodule(plugin, "nodes.comfy.tiny.tiny")


@pytest.fixture
def shipped(tiny, tiny_folder, monkeypatch) -> Path:
    """The random planner in the place of the one that comes with the plugin; its folder."""
    monkeypatch.setattr(tiny, "TINY_FOLDER", tiny_folder)
    return tiny_folder


@pytest.fixture(scope="session")
def tiny_model(tiny, tiny_folder):
    return tiny.load_model(tiny_folder)


@pytest.fixture(scope="session")
def tiny_clip(tiny, tiny_folder):
    return tiny.load_clip(tiny_folder)


@pytest.fixture(scope="session")
def tiny_vae(tiny, tiny_folder):
    return tiny.load_vae(tiny_folder)


@pytest.fixture
def module(comfy, plugin):
    """`module("visual_planner.planner.spec")`: a module of the plugin, as ComfyUI has loaded it."""
    return lambda name: submodule(plugin, name)


@pytest.fixture(scope="session")
def lora_tensors(tiny_folder):
    from diffusers import FluxTransformer2DModel

    lora = lora_factory.random_lora(FluxTransformer2DModel.from_pretrained(tiny_folder / "transformer"), rank=8)
    return lora_factory.diffusers_keys(lora)


@pytest.fixture
def planner(comfy, tiny_model, shipped, lora_tensors, module):
    """MODEL with the LoRA on it and its spec, for given condition settings."""

    def load(**settings):
        spec = module("visual_planner.planner.spec").PlannerSpec(
            **{"cell_height": 32, "cell_width": 48, "base_model": "tiny_planner", "steps": sampling.STEPS, **settings}
        )
        path = shipped / "loras" / "random.safetensors"
        lora_factory.save(lora_tensors, path, spec.to_metadata())
        try:
            return comfy.call("VisualPlannerLoraLoader", model=tiny_model, lora_name="random (built in)")
        finally:
            path.unlink()

    return load


@pytest.fixture(scope="session")
def pair(comfy, plugin, tiny, tmp_path_factory):
    """(ComfyUI's MODEL, diffusers' transformer) of the same random weights."""
    folder = tmp_path_factory.mktemp("pair")
    with torch.inference_mode(False):
        torch.manual_seed(7)
        transformer = tiny_factory.make_transformer().requires_grad_(False)
        transformer.save_pretrained(folder / "transformer")
    return tiny.load_model(folder), transformer


@pytest.fixture(scope="session")
def flux2_folder(tmp_path_factory) -> Path:
    """A random tiny FLUX.2 in diffusers' folder layout."""
    with torch.inference_mode(False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of diffusers and transformers about themselves
        return write_tiny_flux2(tmp_path_factory.mktemp("tiny_flux2"))


@pytest.fixture(scope="session")
def flux2_pair(tiny, flux2_folder):
    """(ComfyUI's MODEL, diffusers' transformer) of the same random FLUX.2 weights."""
    from diffusers import Flux2Transformer2DModel

    with torch.inference_mode(False):
        transformer = Flux2Transformer2DModel.from_pretrained(flux2_folder / "transformer")
    return tiny.load_model(flux2_folder), transformer.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def flux2_clip(tiny, flux2_folder):
    return tiny.load_clip(flux2_folder)


@pytest.fixture(scope="session")
def flux2_vae(tiny, flux2_folder):
    return tiny.load_vae(flux2_folder)


@pytest.fixture
def in_context(module):
    return module("nodes.comfy.conditioning.in_context")


@pytest.fixture
def spec_of(module):
    return module("visual_planner.planner.spec").PlannerSpec


@pytest.fixture(autouse=True)
def no_gradients():
    """ComfyUI runs nodes without gradients."""
    with torch.inference_mode():
        yield


@pytest.fixture
def folder(comfy):
    import folder_paths

    place = comfy.base / "models" / "loras"
    place.mkdir(parents=True, exist_ok=True)
    folder_paths.filename_list_cache.clear()
    yield place
    for file in place.rglob("*.*"):
        file.unlink()
    folder_paths.filename_list_cache.clear()


@pytest.fixture
def apply(module, tiny_model, folder):
    """Put tensors into a file and the file onto the model: the changed weights, and the notes."""
    import comfy.model_management

    comfy.model_management.unload_all_models()  # what an earlier run has patched in place
    lora = module("nodes.comfy.lora.lora")

    def run(tensors, metadata=None, name="a.safetensors", model=None, strength=1.0):
        path = lora_factory.save(tensors, folder / name, metadata)
        notes = []
        patched = lora.apply_lora(model or tiny_model, path, name, strength, notes)
        return adapter_factory.weights(patched), notes

    return run


@pytest.fixture
def lora(tiny_folder):
    from diffusers import FluxTransformer2DModel

    return lora_factory.random_lora(FluxTransformer2DModel.from_pretrained(tiny_folder / "transformer"))


def submodule(plugin, name: str):
    import importlib

    return importlib.import_module(f"{plugin.__name__}.{name}")

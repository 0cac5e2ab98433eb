"""Fixtures of the node tests: a random tiny planner on disk, and its parts as ComfyUI's MODEL, CLIP and VAE."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import tiny_factory
import torch


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A random tiny planner in diffusers' folder layout."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of diffusers and transformers about themselves
        return tiny_factory.write_tiny_planner(tmp_path_factory.mktemp("tiny_planner"))


@pytest.fixture(scope="session")
def tiny(comfy, plugin, tiny_folder):
    """The plugin's `nodes.tiny`, with the random planner in the place of the shipped one."""
    module = submodule(plugin, "nodes.tiny")
    module.TINY_FOLDER = tiny_folder
    submodule(plugin, "nodes.lora").TINY_FOLDER = tiny_folder
    return module


@pytest.fixture(scope="session")
def tiny_model(tiny):
    return tiny.load_model(tiny.TINY_FOLDER)


@pytest.fixture(scope="session")
def tiny_clip(tiny):
    return tiny.load_clip(tiny.TINY_FOLDER)


@pytest.fixture(scope="session")
def tiny_vae(tiny):
    return tiny.load_vae(tiny.TINY_FOLDER)


@pytest.fixture
def module(comfy, plugin):
    """`module("visual_planner.spec")`: a module of the plugin, as ComfyUI has loaded it."""
    return lambda name: submodule(plugin, name)


@pytest.fixture(autouse=True)
def no_gradients():
    """ComfyUI runs nodes without gradients."""
    with torch.inference_mode():
        yield


def submodule(plugin, name: str):
    import importlib

    return importlib.import_module(f"{plugin.__name__}.{name}")

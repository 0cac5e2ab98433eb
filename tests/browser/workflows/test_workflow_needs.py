"""What the workflow files say they need: weights with their addresses, and the lowest versions."""

from __future__ import annotations

import re
import tomllib

import pytest
from browser.workflow_files import FILES, KLEIN, NEWER, read
from packaging.version import Version

from launcher.paths import ROOT

WEIGHT_SUFFIXES = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
UNPUBLISHED = {"klein_planner.safetensors"}
FOLDERS = {
    "UNETLoader": ("diffusion_models",),
    "DualCLIPLoader": ("text_encoders",),
    "CLIPLoader": ("text_encoders",),
    "VAELoader": ("vae",),
    "CLIPVisionLoader": ("clip_vision",),
    "CheckpointLoaderSimple": ("checkpoints",),
    "LTXAVTextEncoderLoader": ("text_encoders", "checkpoints"),
    "LTXVAudioVAELoader": ("checkpoints",),
    "FrameInterpolationModelLoader": ("frame_interpolation",),
    "UpscaleModelLoader": ("upscale_models",),
    "VisualPlannerLoraLoader": ("loras",),
}


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_weights_can_be_downloaded(name: str) -> None:
    """Each loader says where its files are (but a planner LoRA that is published nowhere): name, folder, hash."""
    for node in read(name)["nodes"]:
        values = node.get("widgets_values") or []
        named = [value for value in values if isinstance(value, str) and value.endswith(WEIGHT_SUFFIXES)]
        models = {model["name"]: model for model in node["properties"].get("models", ())}
        assert sorted(models) == sorted(file for file in named if file not in UNPUBLISHED), node["type"]
        for file, model in models.items():
            assert file.endswith(".safetensors"), "the editor offers these, and nothing pickled is asked for"
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith(f"/{file}")
            assert model["directory"] in FOLDERS[node["type"]]
            if node["type"] != "VisualPlannerLoraLoader":
                assert re.fullmatch(r"[0-9a-f]{64}", model["hash"]) and model["hash_type"] == "SHA256"


def test_a_file_has_one_hash_and_one_place_in_all_workflows() -> None:
    models = [model for name in FILES for node in read(name)["nodes"] for model in node["properties"].get("models", ())]
    assert len(models) > 25
    for model in models:
        assert [other for other in models if other["name"] == model["name"] and other != model] == []


@pytest.mark.parametrize("name", FILES)
def test_the_lowest_versions_are_named(name: str) -> None:
    """Of ComfyUI and of the pack, at each node: the editor names them where a node is missing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = NEWER.get(name, "0.9.2" if name in KLEIN else "0.3.75")
    for node in read(name)["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        told = node["properties"]
        if node["type"].startswith("VisualPlanner"):
            assert told["cnr_id"] == project["name"]
            assert Version(told["ver"]) <= Version(project["version"])
        else:
            assert (told["cnr_id"], told["ver"]) == ("comfy-core", core)

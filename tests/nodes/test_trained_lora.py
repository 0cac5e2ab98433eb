"""From episodes to a plan in ComfyUI: the training commands as they are typed, then the nodes, on the shipped base."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from support.small_world import SPEC, write_episodes

pytestmark = pytest.mark.comfyui
ROOT = Path(__file__).parents[2]
BASE = ROOT / "models" / "tiny_planner"
SEED, STEPS = 77, 2
# In one process: each would import torch and diffusers again.
COMMANDS = """
from training.__main__ import main
for command in ("prepare", "cache", "train", "export"):
    assert main([command, "--config", "config.yaml"]) == 0, command
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with episodes and the LoRA of two training steps."""
    folder = tmp_path_factory.mktemp("trained")
    write_episodes(folder / "episodes", count=3, size=64)
    run = {"max_steps": 2, "batch_size": 2, "base_dtype": "float32", "threads": 1}
    lora = {"rank": 8, "alpha": 16, "targets": "all_linear", "merged_forward": True}
    config = {
        "spec": {**SPEC, "cell_height": 64, "cell_width": 64, "base_model": "tiny_planner", "steps": STEPS},
        "prepare": {"source": "episodes", "out": "pairs", "validation_episodes": 1, "processes": 1},
        "cache": {"data": "pairs", "base": str(BASE), "out": "cache", "text_tokens": 0, "batch_size": 2},
        "train": {
            "base": str(BASE),
            "cache": "cache",
            "out": "run",
            "lora": lora,
            "optimizer": {"learning_rate": 0.01},
            **run,
        },
        "export": {"run": "run", "out": "planner.safetensors"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    subprocess.run(
        [sys.executable, "-c", COMMANDS],
        cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1"}, check=True,
    )  # fmt: skip
    return folder


def test_the_trained_file_plans_in_comfyui_as_in_diffusers(trained, comfy):
    import folder_paths
    from comfy.sample import prepare_noise

    from training.data.episodes import EpisodeSet
    from training.model.pipeline import PlannerPipeline

    loras = comfy.base / "models" / "loras"
    loras.mkdir(parents=True, exist_ok=True)
    file = loras / "two_steps.safetensors"
    file.write_bytes((trained / "planner.safetensors").read_bytes())
    folder_paths.filename_list_cache.clear()
    frame = EpisodeSet.open(trained / "episodes").episodes[0].load_frames()[0]
    prompt = "nine frames: push the red cube number 0"
    try:
        model, clip, vae = comfy.call("VisualPlannerTinyLoader")[:3]
        planner, spec = comfy.call("VisualPlannerLoraLoader", model=model, lora_name=file.name)
        (stock,) = comfy.call("LoraLoaderModelOnly", model=model, lora_name=file.name, strength_model=1.0)
    finally:
        file.unlink()
        folder_paths.filename_list_cache.clear()
    assert (spec.cell_height, spec.steps, spec.text_prompt) == (64, STEPS, SPEC["text_prompt"])
    (positive,) = comfy.call("CLIPTextEncode", clip=clip, text=prompt)
    first = torch.from_numpy(frame)[None].float() / 255
    pictures = []
    for loaded in (planner, stock, model):
        conditioned = comfy.call(
            "VisualPlannerCondition",
            model=loaded,
            positive=positive,
            vae=vae,
            spec=spec,
            first_frame=first,
            plans=1,
            fit="crop",
        )
        (latent,) = comfy.call(
            "KSampler", model=conditioned[0], seed=SEED, steps=STEPS, cfg=1.0, sampler_name="euler", scheduler="simple",
            positive=conditioned[1], negative=conditioned[2], latent_image=conditioned[3], denoise=1.0,
        )  # fmt: skip
        (grid,) = comfy.call("VAEDecode", samples=latent, vae=vae)
        pictures.append(comfy.call("VisualPlannerSliceGrid", grid=grid, fps=4.0, layout=spec)[0])
    ours, stocks, without = pictures
    assert torch.equal(ours, stocks)
    assert (ours - without).abs().max() > 10 / 255

    noise = prepare_noise(conditioned[3]["samples"], SEED)
    with torch.inference_mode(False):
        pipeline = PlannerPipeline.load(BASE, trained / "planner.safetensors")
    wanted = pipeline.plan(np.asarray(frame)[None], [prompt], noise=noise)[0]
    assert (ours - wanted).abs().max() <= 1 / 255

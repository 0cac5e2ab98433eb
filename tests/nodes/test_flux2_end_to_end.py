"""From episodes to a plan in ComfyUI on a random tiny FLUX.2; the run's own picture is ComfyUI's of the same seed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.flux2_world import flux2_config, write_flux2_world

pytestmark = pytest.mark.comfyui
STEPS, SEED = 2, 11
CASES = {
    "native, without guidance": {"condition_tokens": "first_cell", "position_ids": "kontext", "cfg": 1.0},
    "cached, with guidance": {"condition_tokens": "first_cell_cached", "position_ids": "clone", "cfg": 4.0},
}


@pytest.fixture(scope="module", params=CASES, ids=list(CASES))
def run(request, tmp_path_factory) -> tuple[Path, Path, dict]:
    """Folder with a LoRA of two validated steps, the plan of text mode, and the fields of the spec."""
    from training.planner.export import export
    from training.planner.train import train

    spec = {**CASES[request.param], "cell_height": 64, "cell_width": 64, "steps": STEPS}
    folder = tmp_path_factory.mktemp("flux2_run")
    with torch.inference_mode(False), torch.enable_grad():
        write_flux2_world(folder, spec, size=64)
        config = flux2_config(
            folder, spec, max_steps=2, ema_decay=0.5, lora={"rank": 8, "alpha": 16, "targets": "all_linear"},
            validation={"every": 2, "scenes": 2, "seed": SEED, "batches": 0},
        )  # fmt: skip
        train(config)
        export(config)
    for seed in (SEED, SEED + 1):
        (file,) = (folder / "lora" / "validation" / "00000002").glob(f"*_seed{seed}.png")
        with Image.open(file) as image:
            if image.text["visual_planner.mode"] == "text":
                return folder, file, spec
    raise AssertionError("no plan of text mode was shown")


def test_comfyui_makes_the_runs_own_picture(run, comfy, tiny):
    import folder_paths

    from training.data.episodes import EpisodeSet

    folder, file, spec = run
    loras = comfy.base / "models" / "loras"
    loras.mkdir(parents=True, exist_ok=True)
    lora = loras / "flux2_planner.safetensors"
    lora.write_bytes((folder / "planner.safetensors").read_bytes())
    folder_paths.filename_list_cache.clear()
    model, clip, vae = (load(folder / "base") for load in (tiny.load_model, tiny.load_clip, tiny.load_vae))
    try:
        planner, read = comfy.call("VisualPlannerLoraLoader", model=model, lora_name=lora.name)
    finally:
        lora.unlink()
        folder_paths.filename_list_cache.clear()
    assert (read.family, read.cfg, read.condition_tokens) == ("flux2", spec["cfg"], spec["condition_tokens"])
    with Image.open(file) as image:
        shown, notes = np.array(image), image.text
    number = int(notes["visual_planner.pair"].split("_")[0])
    first = EpisodeSet.open(folder / "episodes").episodes[number].load_frames()[0]
    positive, negative = (
        comfy.call("CLIPTextEncode", clip=clip, text=text)[0]
        for text in (f"nine frames: push the red cube number {number}", "")
    )
    pictures = {}
    for name, loaded in (("planner", planner), ("base", model)):
        conditioned = comfy.call(
            "VisualPlannerCondition", model=loaded, positive=positive, negative=negative, vae=vae, spec=read,
            first_frame=torch.from_numpy(first)[None].float() / 255,
        )  # fmt: skip
        (latent,) = comfy.call(
            "KSampler", model=conditioned[0], seed=int(notes["visual_planner.seed"]), steps=STEPS, cfg=read.cfg,
            sampler_name="euler", scheduler="simple", positive=conditioned[1], negative=conditioned[2],
            latent_image=conditioned[3], denoise=1.0,
        )  # fmt: skip
        (grid,) = comfy.call("VAEDecode", samples=latent, vae=vae)
        pictures[name] = grid[0].numpy() * 255
    assert shown.std() > 5
    # the shown picture is rounded to whole steps of 1/255
    assert np.abs(pictures["planner"] - shown).max() <= 1.0 + 1e-3
    assert np.abs(pictures["base"] - shown).max() > 2


def test_the_key_map_names_every_layer_of_comfyuis_model(comfy, flux2_pair, module):
    from training.model.key_map import comfyui_key_map
    from visual_planner.planner.families import FLUX2

    model, _ = flux2_pair
    weights = model.model.state_dict()
    ours = comfyui_key_map(1, 2, 256, FLUX2)
    known = module("nodes.comfy.flux2_names").lora_keys(model.model)
    present = {name: target for name, target in ours.items() if "guidance_embedder" not in name}
    assert present.keys() == {name for name in known if name.startswith("transformer.")}
    assert {weight for weight, _ in present.values()} == {
        key for key, value in weights.items() if value.ndim == 2 and key.startswith("diffusion_model.")
    }

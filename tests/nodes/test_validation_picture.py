"""A picture that a training run shows of itself is the picture that ComfyUI makes of the exported file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.small_world import SPEC, config_for, write_episodes

pytestmark = pytest.mark.comfyui
BASE = Path(__file__).parents[2] / "models" / "tiny_planner"
STEPS, SEED = 2, 11


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, dict[str, Path]]:
    """A folder with episodes and a LoRA of two validated steps, and the plans of the last validation by mode."""
    from training.cache.write import cache
    from training.data.prepare import prepare
    from training.planner.export import export
    from training.planner.train import train
    from training.sections.config import Config

    folder = tmp_path_factory.mktemp("validated")
    write_episodes(folder / "episodes", count=3, size=64)
    values = config_for(folder).model_dump(exclude_none=True)
    values["spec"] = {**SPEC, "cell_height": 64, "cell_width": 64, "base_model": "tiny_planner", "steps": STEPS}
    values["prepare"]["validation_episodes"] = 1
    for section in ("cache", "train"):
        values[section]["base"] = BASE
    values["train"] |= {
        "max_steps": 2,
        "ema_decay": 0.5,
        "lora": {"rank": 8, "alpha": 16, "targets": "all_linear", "merged_forward": True},
        "validation": {"every": 2, "scenes": 2, "seed": SEED, "batches": 0},
    }
    values["export"]["dtype"] = "bfloat16"
    config = Config.model_validate(values)
    with torch.inference_mode(False), torch.enable_grad():
        prepare(config)
        cache(config)
        train(config)
        export(config)
    plans = folder / "lora" / "validation" / "00000002"
    found = {}
    for seed in (SEED, SEED + 1):
        (file,) = plans.glob(f"*_seed{seed}.png")
        with Image.open(file) as image:
            found[image.text["visual_planner.mode"]] = file
    return folder, found


def test_both_make_the_same_picture(run, comfy):
    import folder_paths

    from training.data.episodes import EpisodeSet

    folder, plans = run
    assert set(plans) == {"text", "trajectory"}
    loras = comfy.base / "models" / "loras"
    loras.mkdir(parents=True, exist_ok=True)
    file = loras / "validated.safetensors"
    file.write_bytes((folder / "planner.safetensors").read_bytes())
    folder_paths.filename_list_cache.clear()
    try:
        model, clip, vae = comfy.call("VisualPlannerTinyLoader")[:3]
        planner, spec = comfy.call("VisualPlannerLoraLoader", model=model, lora_name=file.name)
    finally:
        file.unlink()
        folder_paths.filename_list_cache.clear()
    with Image.open(plans["text"]) as image:
        shown, notes = np.array(image), image.text
    assert notes["visual_planner.seed"] == str(SEED)
    number = int(notes["visual_planner.pair"].split("_")[0])
    first = EpisodeSet.open(folder / "episodes").episodes[number].load_frames()[0]
    (positive,) = comfy.call("CLIPTextEncode", clip=clip, text=f"nine frames: push the red cube number {number}")
    pictures = {}
    for name, loaded in (("planner", planner), ("base", model)):
        conditioned = comfy.call(
            "VisualPlannerCondition", model=loaded, positive=positive, vae=vae, spec=spec,
            first_frame=torch.from_numpy(first)[None].float() / 255, plans=1, fit="crop",
        )  # fmt: skip
        (latent,) = comfy.call(
            "KSampler", model=conditioned[0], seed=SEED, steps=STEPS, cfg=1.0, sampler_name="euler", scheduler="simple",
            positive=conditioned[1], negative=conditioned[2], latent_image=conditioned[3], denoise=1.0,
        )  # fmt: skip
        (grid,) = comfy.call("VAEDecode", samples=latent, vae=vae)
        pictures[name] = grid[0].numpy() * 255
    assert shown.shape == pictures["planner"].shape
    # the shown picture is rounded to whole steps of 1/255
    assert np.abs(pictures["planner"] - shown).max() <= 1.0 + 1e-3
    assert np.abs(pictures["base"] - shown).max() > 10


def test_the_key_map_is_that_of_comfyui(comfy, tiny_model):
    """Every name with its target, whole weights and parts of them; ComfyUI knows more names, but no other layer."""
    from comfy.lora import model_lora_keys_unet

    from training.model.key_map import comfyui_key_map

    settings = tiny_model.model.model_config.unet_config
    ours = comfyui_key_map(settings["depth"], settings["depth_single_blocks"], settings["hidden_size"])
    theirs = model_lora_keys_unet(tiny_model.model, {})
    shapes = {key: tuple(value.shape) for key, value in tiny_model.model.state_dict().items()}
    assert len(ours) >= 50
    for name, (weight, rows) in ours.items():
        target = theirs[name]
        key, part = (target, None) if isinstance(target, str) else (target[0], target[1])
        assert key == weight, name
        assert part == (None if rows is None else (0, *rows)), name
    places = {name: target if isinstance(target, str) else target[0] for name, target in theirs.items()}
    layers = {key for name, key in places.items() if name.startswith("transformer.") and len(shapes.get(key, ())) == 2}
    # Weights and not names: newer versions have a second name for some. That no part is left out, the rows say.
    assert layers == {weight for weight, _ in ours.values()}
    for layer in layers:
        rows = [part for weight, part in ours.values() if weight == layer]
        assert rows == [None] or sum(length for _, length in rows) == shapes[layer][0], layer

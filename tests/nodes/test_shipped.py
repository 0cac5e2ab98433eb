"""The planner that comes with the plugin, in its own nodes."""

import pytest
import torch

pytestmark = pytest.mark.comfyui
LORA = "tiny_planner (built in)"
MODES = ["text", "trajectory", "both", "goal", "text_goal", "trajectory_goal", "both_goal"]


@pytest.fixture(scope="module")
def parts(comfy):
    """MODEL, CLIP, VAE of the shipped base."""
    with torch.inference_mode():
        return comfy.call("VisualPlannerTinyLoader")


@pytest.fixture(scope="module")
def planner(comfy, parts):
    """MODEL with the shipped LoRA, and its spec."""
    with torch.inference_mode():
        return comfy.call("VisualPlannerLoraLoader", model=parts[0], lora_name=LORA)


def test_the_record_is_in_the_file(planner):
    _, spec = planner
    assert spec.base_model == "tiny_planner"
    assert spec.modes == tuple(MODES)


def test_the_stock_loader_gives_the_same_weights(comfy, parts, planner, tiny):
    import folder_paths
    from comfy.lora import calculate_weight

    folder = comfy.base / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / "shipped.safetensors"
    copy.write_bytes((tiny.TINY_FOLDER / "loras" / "tiny_planner.safetensors").read_bytes())
    folder_paths.filename_list_cache.clear()
    try:
        (stock,) = comfy.call("LoraLoaderModelOnly", model=parts[0], lora_name=copy.name, strength_model=1.0)
    finally:
        copy.unlink()
        folder_paths.filename_list_cache.clear()
    ours, values = planner[0], parts[0].model.state_dict()
    assert ours.patches.keys() == stock.patches.keys()
    assert len(ours.patches) >= 50
    for key in ours.patches:
        first = calculate_weight(ours.patches[key], values[key].clone(), key)
        assert torch.equal(first, calculate_weight(stock.patches[key], values[key].clone(), key)), key


@pytest.mark.parametrize("mode", MODES)
def test_its_sentences_fit_its_text_length(comfy, parts, planner, mode, caplog):
    instruction = "pick up the yellow cylinder and place it on the plate"
    (prompt,) = comfy.call("VisualPlannerPrompt", mode=mode, instruction=instruction, spec=planner[1])
    parts[1].tokenize(prompt)
    assert "the rest is truncated" not in caplog.text


def test_it_plans_nine_frames(comfy, parts, planner):
    _, clip, vae = parts
    model, spec = planner
    (prompt,) = comfy.call("VisualPlannerPrompt", mode="text", instruction="push the red cube", spec=spec)
    (positive,) = comfy.call("CLIPTextEncode", clip=clip, text=prompt)
    patched, positive, negative, latent, _ = comfy.call(
        "VisualPlannerCondition",
        model=model,
        positive=positive,
        vae=vae,
        spec=spec,
        first_frame=torch.full((1, 64, 64, 3), 0.8),
    )
    (samples,) = comfy.call(
        "KSampler",
        model=patched,
        seed=1,
        steps=2,
        cfg=1.0,
        sampler_name="euler",
        scheduler="simple",
        positive=positive,
        negative=negative,
        latent_image=latent,
        denoise=1.0,
    )
    (grid,) = comfy.call("VAEDecode", samples=samples, vae=vae)
    frames, _ = comfy.call("VisualPlannerSliceGrid", grid=grid, layout=spec)
    assert frames.shape == (9, spec.cell_height, spec.cell_width, 3)
    assert torch.isfinite(frames).all()

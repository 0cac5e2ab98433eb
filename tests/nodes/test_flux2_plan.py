"""A whole plan on a tiny FLUX.2 (text, autoencoder, sampling) is that of diffusers' own klein pipeline."""

import numpy as np
import pytest
import torch
from PIL import Image

from support.tiny_flux2 import TEXT_TOKENS

pytestmark = pytest.mark.comfyui
STEPS, SEED, PROMPT = 4, 5, "nine frames: push the red cube"


@pytest.fixture(scope="module")
def pipeline(flux2_folder):
    from diffusers import (
        AutoencoderKLFlux2,
        FlowMatchEulerDiscreteScheduler,
        Flux2KleinPipeline,
        Flux2Transformer2DModel,
    )
    from transformers import AutoTokenizer, Qwen3ForCausalLM

    with torch.inference_mode(False):
        made = Flux2KleinPipeline(
            FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
            AutoencoderKLFlux2.from_pretrained(flux2_folder / "vae"),
            Qwen3ForCausalLM.from_pretrained(flux2_folder / "text_encoder"),
            AutoTokenizer.from_pretrained(flux2_folder / "tokenizer"),
            Flux2Transformer2DModel.from_pretrained(flux2_folder / "transformer"),
        )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_a_plan_in_the_native_mode_is_the_pipelines(comfy, pipeline, flux2_pair, flux2_clip, flux2_vae, spec_of, cfg):
    from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

    mu = compute_empirical_mu(image_seq_len=9 * 16, num_steps=STEPS)
    spec = spec_of(
        family="flux2", cell_height=64, cell_width=64, condition_tokens="first_cell", position_ids="kontext",
        base_shift=mu, max_shift=mu, cfg=cfg, steps=STEPS,
    )  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    (positive,) = comfy.call("CLIPTextEncode", clip=flux2_clip, text=PROMPT)
    (negative,) = comfy.call("CLIPTextEncode", clip=flux2_clip, text="")
    model, positive, negative, latent, _ = comfy.call(
        "VisualPlannerCondition", model=flux2_pair[0], positive=positive, vae=flux2_vae, spec=spec,
        first_frame=torch.from_numpy(pixels)[None].float() / 255, negative=negative,
    )  # fmt: skip
    assert latent["samples"].shape == (1, 128, 12, 12)
    (made,) = comfy.call(
        "KSampler", model=model, seed=SEED, steps=STEPS, cfg=cfg, sampler_name="euler", scheduler="simple",
        positive=positive, negative=negative, latent_image=latent, denoise=1.0,
    )  # fmt: skip
    (grid,) = comfy.call("VAEDecode", samples=made, vae=flux2_vae)
    noise = torch.randn((1, 128, 12, 12), generator=torch.Generator().manual_seed(SEED))
    wanted = pipeline(
        image=Image.fromarray(pixels), prompt=PROMPT, height=192, width=192, num_inference_steps=STEPS,
        guidance_scale=cfg, latents=noise, output_type="np", max_sequence_length=TEXT_TOKENS,
        text_encoder_out_layers=(1, 2, 3),
    ).images[0]  # fmt: skip
    assert grid.shape == (1, 192, 192, 3)
    assert wanted.std() > 0.05
    assert np.abs(grid[0].numpy() - wanted).max() <= 1 / 255


def test_kept_frames_stay(comfy, flux2_pair, flux2_clip, flux2_vae, spec_of):
    spec = spec_of(family="flux2", cell_height=32, cell_width=48, condition_tokens="first_cell_cached", steps=2)
    frames = torch.rand(3, 32, 48, 3, generator=torch.Generator().manual_seed(2))
    (positive,) = comfy.call("CLIPTextEncode", clip=flux2_clip, text=PROMPT)
    model, positive, negative, latent, _ = comfy.call(
        "VisualPlannerCondition", model=flux2_pair[0], positive=positive, vae=flux2_vae, spec=spec,
        first_frame=frames[:1],
    )  # fmt: skip
    (kept,) = comfy.call("VisualPlannerKeepFrames", latent=latent, vae=flux2_vae, spec=spec, frames=frames, count=3)
    assert kept["noise_mask"].shape == (1, 1, 6, 9)
    (made,) = comfy.call(
        "KSampler", model=model, seed=SEED, steps=2, cfg=1.0, sampler_name="euler", scheduler="simple",
        positive=positive, negative=negative, latent_image=kept, denoise=1.0,
    )  # fmt: skip
    keeps = kept["noise_mask"].expand_as(kept["samples"]) < 0.5
    assert keeps.float().mean() == pytest.approx(3 / 9)
    assert (made["samples"] - kept["samples"])[keeps].abs().max() < 1e-5
    assert (made["samples"] - kept["samples"])[~keeps].abs().max() > 0.1


def test_a_vae_of_the_other_family_is_refused(
    comfy, flux2_pair, flux2_clip, flux2_vae, tiny_model, tiny_clip, tiny_vae, spec_of
):
    frame = torch.rand(1, 32, 32, 3)
    for model, clip, vae, family, message in (
        (
            flux2_pair[0],
            flux2_clip,
            tiny_vae,
            "flux2",
            r"must be a FLUX\.2 VAE .* shape \(1, 128, 2, 2\), got \(1, 16, 4, 4\)",
        ),
        (
            tiny_model,
            tiny_clip,
            flux2_vae,
            "flux1",
            r"must be a FLUX\.1 VAE .* shape \(1, 16, 4, 4\), got \(1, 128, 2, 2\)",
        ),
    ):
        spec = spec_of(family=family, cell_height=32, cell_width=32, condition_tokens="first_cell")
        (positive,) = comfy.call("CLIPTextEncode", clip=clip, text=PROMPT)
        with pytest.raises(ValueError, match=message):
            comfy.call("VisualPlannerCondition", model=model, positive=positive, vae=vae, spec=spec, first_frame=frame)


@pytest.mark.parametrize("name", ["positive", "negative"])
def test_text_of_another_encoder_is_refused(comfy, flux2_pair, flux2_clip, flux2_vae, tiny_clip, spec_of, name):
    texts = {
        "positive": comfy.call("CLIPTextEncode", clip=flux2_clip, text=PROMPT)[0],
        name: comfy.call("CLIPTextEncode", clip=tiny_clip, text=PROMPT)[0],
    }
    message = rf"{name} must come from the text encoder of this FLUX\.2 model, 384 wide, got 128"
    with pytest.raises(ValueError, match=message):
        comfy.call(
            "VisualPlannerCondition", model=flux2_pair[0], vae=flux2_vae, first_frame=torch.rand(1, 32, 32, 3),
            spec=spec_of(family="flux2", cell_height=32, cell_width=32), **texts,
        )  # fmt: skip


def test_text_of_flux2_is_refused_on_flux1(comfy, flux2_clip, tiny_model, tiny_vae, spec_of):
    (positive,) = comfy.call("CLIPTextEncode", clip=flux2_clip, text=PROMPT)
    message = r"^positive must come from the text encoder of this FLUX\.1 model, 128 wide, got 384$"
    with pytest.raises(ValueError, match=message):
        comfy.call(
            "VisualPlannerCondition", model=tiny_model, positive=positive, vae=tiny_vae,
            spec=spec_of(cell_height=32, cell_width=32), first_frame=torch.rand(1, 32, 32, 3),
        )  # fmt: skip


@pytest.mark.parametrize("known", [True, False])
def test_a_comfyui_before_klein_is_named(comfy, flux2_pair, flux2_vae, tiny_clip, spec_of, monkeypatch, known):
    """It takes klein's Qwen3 for another model's and gives one of the three layers that klein wants side by side."""
    import comfy.text_encoders.flux as encoders

    if known:
        monkeypatch.setattr(encoders, "klein_te", object(), raising=False)
    else:
        monkeypatch.delattr(encoders, "klein_te", raising=False)
    (positive,) = comfy.call("CLIPTextEncode", clip=tiny_clip, text=PROMPT)
    assert positive[0][0].shape[-1] * 3 == 384
    old = r" \(this ComfyUI does not know FLUX\.2-klein's text encoder: update ComfyUI\)"
    with pytest.raises(ValueError, match=rf"384 wide, got 128{'' if known else old}$") as caught:
        comfy.call(
            "VisualPlannerCondition", model=flux2_pair[0], positive=positive, vae=flux2_vae,
            spec=spec_of(family="flux2", cell_height=32, cell_width=32), first_frame=torch.rand(1, 32, 32, 3),
        )  # fmt: skip
    assert "\n" not in str(caught.value)

"""A whole plan with stock nodes: what the graph samples is what the diffusers transformer samples."""

import itertools
import json

import lora_factory
import pytest
import reference
import torch
from sampling import SEED, STEPS, encode, first_frames, sample

pytestmark = pytest.mark.comfyui


def wanted_latent(tiny_folder, lora_tensors, spec, condition, context, pooled, noise):
    """The plan's latent by diffusers alone: its transformer, its LoRA loader, Euler steps of the spec's schedule."""
    from diffusers import FluxTransformer2DModel

    with torch.inference_mode(False):
        transformer = FluxTransformer2DModel.from_pretrained(tiny_folder / "transformer")
        transformer.load_lora_adapter(dict(lora_tensors), prefix="transformer")
        transformer.fuse_lora()
    transformer.requires_grad_(False).eval()
    height, width = noise.shape[-2:]
    ids, own = reference.placed_ids(reference.grid_ids(height, width), height // 2, width // 2, spec)
    even = torch.linspace(1, 1 / STEPS, STEPS, dtype=torch.float64)
    shift = torch.tensor(spec.mu(), dtype=torch.float64).exp()
    sigmas = [*(shift / (shift + 1 / even - 1)).tolist(), 0.0]
    predict = reference.predict_apart if spec.condition_is_cached else reference.predict
    latent = noise
    for now, then in itertools.pairwise(sigmas):
        args = (transformer, latent, condition, ids, own, now, context, pooled, spec.guidance)
        latent = latent + (then - now) * predict(*args)
    return latent


MODES = [
    ("first_cell", "clone"),
    ("full_grid", "clone"),
    ("first_cell", "kontext"),
    ("first_cell", "fold"),
    ("full_grid", "fold"),
    ("first_cell_cached", "clone"),
    ("first_cell_cached", "fold"),
]


@pytest.mark.parametrize(("tokens", "ids"), MODES)
def test_a_plan_equals_the_diffusers_plan(comfy, planner, tiny_clip, tiny_vae, tiny_folder, lora_tensors, tokens, ids):
    from comfy.sample import prepare_noise
    from diffusers import AutoencoderKL

    model, spec = planner(condition_tokens=tokens, position_ids=ids)
    positive = encode(comfy, tiny_clip, spec)
    inputs = {"model": model, "positive": positive, "vae": tiny_vae, "spec": spec, "first_frame": first_frames()}
    conditioned = comfy.call("VisualPlannerCondition", **inputs, plans=1, fit="crop")
    (picture,) = comfy.call("VAEDecode", samples=sample(comfy, conditioned), vae=tiny_vae)
    assert picture.shape == (1, *spec.grid_size, 3)

    vae = AutoencoderKL.from_pretrained(tiny_folder / "vae").eval()
    condition = tiny_vae.encode(conditioned[4])
    context, settings = positive[0]
    noise = prepare_noise(conditioned[3]["samples"], SEED)
    latent = wanted_latent(tiny_folder, lora_tensors, spec, condition, context, settings["pooled_output"], noise)
    wanted = (vae.decode(latent / 0.3611 + 0.1159).sample.permute(0, 2, 3, 1) / 2 + 0.5).clamp(0, 1)
    assert wanted.std() > 0.01
    assert (picture - wanted).abs().max() <= 1 / 255


@pytest.mark.parametrize("tokens", ["first_cell", "first_cell_cached"])
def test_a_plan_equals_that_of_the_headless_pipeline(
    comfy, planner, tiny_clip, tiny_vae, tiny_folder, lora_tensors, tmp_path, tokens
):
    """The same first frame, prompt, noise and LoRA file through `training.model.pipeline`: all of diffusers."""
    from comfy.sample import prepare_noise

    from training.model.pipeline import PlannerPipeline

    model, spec = planner(condition_tokens=tokens, position_ids="fold")
    frame = torch.rand(1, spec.cell_height, spec.cell_width, 3, generator=torch.Generator().manual_seed(4))
    inputs = {"model": model, "positive": encode(comfy, tiny_clip, spec), "vae": tiny_vae, "spec": spec, "fit": "crop"}
    conditioned = comfy.call("VisualPlannerCondition", **inputs, first_frame=frame, plans=1)
    (picture,) = comfy.call("VAEDecode", samples=sample(comfy, conditioned), vae=tiny_vae)
    frames, _ = comfy.call("VisualPlannerSliceGrid", grid=picture, fps=4.0, layout=spec)

    file = lora_factory.save(lora_tensors, tmp_path / "planner.safetensors", spec.to_metadata())
    (prompt,) = comfy.call("VisualPlannerPrompt", mode="text", instruction="push the red cube to the left", spec=spec)
    with torch.inference_mode(False):
        pipeline = PlannerPipeline.load(tiny_folder, file)
        noise = prepare_noise(conditioned[3]["samples"], SEED).clone()
        wanted = pipeline.plan(frame.clone(), [prompt], noise=noise)[0]
    assert wanted.std() > 0.01
    assert (frames - wanted).abs().max() <= 1 / 255


@pytest.mark.parametrize(
    ("tokens", "kept"), [("full_grid", 4), ("first_cell", 1), ("first_cell", 8), ("first_cell_cached", 4)]
)
def test_kept_frames_stay_and_the_rest_is_what_the_headless_pipeline_makes_of_them(
    comfy, planner, tiny_clip, tiny_vae, tiny_folder, lora_tensors, tmp_path, tokens, kept
):
    from comfy.sample import prepare_noise

    from training.model.pipeline import PlannerPipeline

    model, spec = planner(condition_tokens=tokens)
    generator = torch.Generator().manual_seed(4)
    seen = torch.randint(256, (kept, spec.cell_height, spec.cell_width, 3), generator=generator, dtype=torch.uint8)
    images, frame = seen.float() / 255, seen[:1].float() / 255
    inputs = {"model": model, "positive": encode(comfy, tiny_clip, spec), "vae": tiny_vae, "spec": spec, "fit": "crop"}
    conditioned = list(comfy.call("VisualPlannerCondition", **inputs, first_frame=frame, plans=2))
    given = {"latent": conditioned[3], "vae": tiny_vae, "spec": spec, "count": kept}
    (latent,) = comfy.call("VisualPlannerKeepFrames", **given, frames=torch.cat([images, images]))
    assert not conditioned[3]["samples"].any(), "the latent that was given is left as it was"
    noise = prepare_noise(latent["samples"], SEED).clone()
    plain = sample(comfy, conditioned)["samples"]
    conditioned[3] = latent
    sampled = sample(comfy, conditioned)
    for number in range(9):
        top, left, bottom, right = spec.layout.cell_box(number, spec.cell_height // 8, spec.cell_width // 8)
        part = (..., slice(top, bottom), slice(left, right))
        if number < kept:
            wanted = tiny_vae.encode(images[number : number + 1])
            assert (sampled["samples"][part] - wanted).abs().max() < 1e-4
        else:
            assert (sampled["samples"][part] - plain[part]).abs().max() > 1e-2, "they are made to fit what is kept"
    (picture,) = comfy.call("VAEDecode", samples=sampled, vae=tiny_vae)
    frames, _ = comfy.call("VisualPlannerSliceGrid", grid=picture, fps=4.0, layout=spec)

    file = lora_factory.save(lora_tensors, tmp_path / "planner.safetensors", spec.to_metadata())
    (prompt,) = comfy.call("VisualPlannerPrompt", mode="text", instruction="push the red cube to the left", spec=spec)
    with torch.inference_mode(False):
        pipeline = PlannerPipeline.load(tiny_folder, file)
        past = torch.stack([seen, seen]).numpy()
        wanted = pipeline.plan(past[:, 0].copy(), [prompt] * 2, noise=noise, seen=past)
    assert torch.equal(wanted[:, :kept], (torch.from_numpy(past).float() / 255))
    made = frames.unflatten(0, (2, 9))[:, kept:]
    assert wanted[:, kept:].std() > 0.01
    assert (made - wanted[:, kept:]).abs().max() <= 1 / 255


def test_what_cannot_be_kept_is_named(comfy, planner, tiny_vae):
    _, spec = planner()
    latent = {"samples": torch.zeros(1, 16, 12, 18)}
    given = {"latent": latent, "vae": tiny_vae, "spec": spec}
    frames = first_frames(9)
    with pytest.raises(ValueError, match="count must be less than the 9 frames of a plan, got 9"):
        comfy.call("VisualPlannerKeepFrames", **given, frames=frames, count=9)
    with pytest.raises(ValueError, match=r"frames must include the 5 frames to keep \(count\), got 4"):
        comfy.call("VisualPlannerKeepFrames", **given, frames=frames[:4], count=5)
    small = {"samples": torch.zeros(1, 16, 12, 16)}
    with pytest.raises(
        ValueError, match=r"latent must be the planner's, of shape \(1, 16, 12, 18\), got \(1, 16, 12, 16\)"
    ):
        comfy.call("VisualPlannerKeepFrames", **given | {"latent": small}, frames=frames, count=5)


def test_the_condition_outputs(comfy, planner, tiny_clip, tiny_vae):
    model, spec = planner(condition_tokens="first_cell")
    positive = encode(comfy, tiny_clip, spec)
    inputs = {"model": model, "positive": positive, "vae": tiny_vae, "spec": spec, "fit": "letterbox"}
    patched, marked, other, latent, picture = comfy.call(
        "VisualPlannerCondition", **inputs, first_frame=first_frames(2), plans=3
    )
    assert picture.shape == (2, 32, 48, 3)
    assert latent["samples"].shape == (6, 16, 12, 18)
    assert not latent["samples"].any()
    assert marked[0][1]["reference_latents"][0].shape == (2, 16, 4, 6)
    assert marked[0][1]["guidance"] == spec.guidance
    assert other is marked
    assert "reference_latents" not in positive[0][1]
    assert patched is not model

    _, spec = planner(condition_tokens="full_grid")
    *_, picture = comfy.call("VisualPlannerCondition", **inputs | {"spec": spec}, first_frame=first_frames(), plans=1)
    assert picture.shape == (1, 96, 144, 3)
    assert not picture[:, 32:].any()


def test_guidance_set_before_is_kept(comfy, planner, tiny_clip, tiny_vae):
    model, spec = planner()
    (positive,) = comfy.call("FluxGuidance", conditioning=encode(comfy, tiny_clip, spec), guidance=2.25)
    inputs = {"model": model, "positive": positive, "vae": tiny_vae, "spec": spec, "fit": "crop", "plans": 1}
    _, marked, *_ = comfy.call("VisualPlannerCondition", **inputs, first_frame=first_frames())
    assert marked[0][1]["guidance"] == 2.25


@pytest.mark.parametrize("tokens", ["first_cell", "first_cell_cached"])
def test_cfg_one_and_an_open_negative_are_the_same_plan_at_any_cfg(comfy, planner, tiny_clip, tiny_vae, tokens):
    model, spec = planner(condition_tokens=tokens)
    inputs = {"model": model, "positive": encode(comfy, tiny_clip, spec), "vae": tiny_vae, "spec": spec}
    conditioned = comfy.call("VisualPlannerCondition", **inputs, first_frame=first_frames(), plans=1, fit="crop")
    one = sample(comfy, conditioned)["samples"]
    two = sample(comfy, conditioned, cfg=3.0)["samples"]
    assert (one - two).abs().max() < 1e-3


@pytest.mark.parametrize("tokens", ["first_cell", "first_cell_cached"])
def test_another_first_frame_gives_another_plan_and_the_first_comes_back(comfy, planner, tiny_clip, tiny_vae, tokens):
    """The graph run again with other inputs never sees what was there before."""
    model, spec = planner(condition_tokens=tokens)
    inputs = {"model": model, "positive": encode(comfy, tiny_clip, spec), "vae": tiny_vae, "spec": spec}
    plans = []
    for frame in (first_frames(), 1 - first_frames(), first_frames()):
        conditioned = comfy.call("VisualPlannerCondition", **inputs, first_frame=frame, plans=1, fit="crop")
        plans.append(sample(comfy, conditioned)["samples"])
    assert torch.equal(plans[0], plans[2])
    assert (plans[0] - plans[1]).abs().max() > 1e-3


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_first_frames_of_any_size_and_channels(comfy, planner, tiny_clip, tiny_vae, channels):
    model, spec = planner(condition_tokens="first_cell")
    inputs = {"model": model, "positive": encode(comfy, tiny_clip, spec), "vae": tiny_vae, "spec": spec, "plans": 1}
    frame = torch.rand(1, 37, 211, channels)
    *_, picture = comfy.call("VisualPlannerCondition", **inputs, first_frame=frame, fit="letterbox")
    assert picture.shape == (1, 32, 48, 3)


def test_bad_inputs_of_condition_are_refused(comfy, planner, tiny_clip, tiny_vae):
    model, spec = planner(condition_tokens="first_cell")
    inputs = {"model": model, "positive": encode(comfy, tiny_clip, spec), "vae": tiny_vae, "spec": spec, "plans": 1}
    inputs |= {"first_frame": first_frames(), "fit": "crop"}

    class SdVae:
        def encode(self, pixels):
            return torch.zeros(pixels.shape[0], 4, pixels.shape[1] // 8, pixels.shape[2] // 8)

    bad = {
        "vae must be a FLUX.1 VAE": {"vae": SdVae()},
        "fit must be one of": {"fit": "squeeze"},
        "first_frame must have finite values": {"first_frame": torch.full((1, 8, 8, 3), float("nan"))},
        "first_frame must have shape .* with 1 to 4 channels": {"first_frame": torch.rand(1, 8, 8, 5)},
        "image of floats must have values": {"first_frame": torch.rand(1, 8, 8, 3) * 255},
    }
    for message, change in bad.items():
        with pytest.raises(ValueError, match=message) as caught:
            comfy.call("VisualPlannerCondition", **inputs | change)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tokens", ["first_cell", "first_cell_cached"])
def test_stacked_with_stock_nodes(comfy, planner, tiny_clip, tiny_vae, tiny_model, lora_tensors, shipped, tokens):
    """Stock LoRA loader and ModelSamplingFlux, before and after: each does its part, none breaks the other."""
    import folder_paths

    model, spec = planner(condition_tokens=tokens)
    folder = comfy.base / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    lora_factory.save({key: value * 0.1 for key, value in lora_tensors.items()}, folder / "style.safetensors")
    folder_paths.filename_list_cache.clear()
    try:
        (styled,) = comfy.call("LoraLoaderModelOnly", model=model, lora_name="style.safetensors", strength_model=1.0)
        inputs = {"positive": encode(comfy, tiny_clip, spec), "vae": tiny_vae, "spec": spec, "plans": 1, "fit": "crop"}
        inputs |= {"first_frame": first_frames()}
        before = comfy.call("VisualPlannerCondition", model=styled, **inputs)
        after = list(comfy.call("VisualPlannerCondition", model=model, **inputs))
        (after[0],) = comfy.call(
            "LoraLoaderModelOnly", model=after[0], lora_name="style.safetensors", strength_model=1.0
        )
        first, second = sample(comfy, before)["samples"], sample(comfy, after)["samples"]
        assert torch.equal(first, second)
        assert not torch.equal(
            first, sample(comfy, comfy.call("VisualPlannerCondition", model=model, **inputs))["samples"]
        )
        (shifted,) = comfy.call(
            "ModelSamplingFlux", model=after[0], max_shift=0.1, base_shift=0.1, width=144, height=96
        )
        assert shifted.get_model_object("model_sampling").shift == pytest.approx(0.1)
        assert torch.isfinite(sample(comfy, [shifted, *after[1:]])["samples"]).all()
    finally:
        (folder / "style.safetensors").unlink()
        folder_paths.filename_list_cache.clear()


def test_a_plan_to_the_video(comfy, planner, tiny_clip, tiny_vae):
    """All nodes in the order of a user's graph, in mode both."""
    model, spec = planner(condition_tokens="first_cell")
    path = {"version": 1, "width": 60, "height": 40, "paths": [{"points": [{"x": 5, "y": 5}, {"x": 50, "y": 30}]}]}
    trajectory, _ = comfy.call("VisualPlannerTrajectory", trajectory_json=json.dumps(path), outside="error")
    image, fitted = comfy.call(
        "VisualPlannerTrajectoryOverlay", first_frame=first_frames(), trajectory=trajectory, spec=spec,
        style="from the spec", color_by="from the spec", thickness=0.0, fit="letterbox",
    )  # fmt: skip
    assert (fitted.width, fitted.height) == (48, 32)
    inputs = {"model": model, "positive": encode(comfy, tiny_clip, spec, "both"), "vae": tiny_vae, "spec": spec}
    conditioned = comfy.call("VisualPlannerCondition", **inputs, first_frame=image, plans=2, fit="letterbox")
    (grid,) = comfy.call("VAEDecode", samples=sample(comfy, conditioned), vae=tiny_vae)
    frames, video = comfy.call("VisualPlannerSliceGrid", grid=grid, fps=4.0, layout=spec)
    assert frames.shape == (18, 32, 48, 3)
    assert video.get_dimensions() == (48, 32)
    report, sheet, _ = comfy.call(
        "VisualPlannerCheck", frames=frames[:9], fit="letterbox", first_frame=first_frames(), trajectory=fitted
    )
    assert "path" in report
    assert sheet.shape[0] == 1


@pytest.mark.parametrize("tokens", ["first_cell", "first_cell_cached"])
@pytest.mark.parametrize("node_id", ["EasyCache", "LazyCache"])
def test_stacked_with_step_caches(comfy, planner, tiny_clip, tiny_vae, node_id, tokens):
    """With a threshold of zero no step is skipped, so the plan is the same; with a large one it still is a plan."""
    model, spec = planner(condition_tokens=tokens)
    inputs = {"model": model, "positive": encode(comfy, tiny_clip, spec), "vae": tiny_vae, "spec": spec}
    conditioned = comfy.call("VisualPlannerCondition", **inputs, first_frame=first_frames())
    plain = sample(comfy, conditioned)["samples"]
    settings = {"start_percent": 0.1, "end_percent": 0.9, "verbose": False}
    for threshold in (0.0, 2.0):
        (cached,) = comfy.call(node_id, model=conditioned[0], reuse_threshold=threshold, **settings)
        plan = sample(comfy, [cached, *conditioned[1:]])["samples"]
        assert torch.isfinite(plan).all()
        assert threshold or torch.equal(plan, plain)

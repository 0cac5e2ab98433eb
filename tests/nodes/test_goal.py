"""Plans with a goal picture: its tokens stand where diffusers' have them, and the Condition node takes it."""

import itertools

import lora_factory
import pytest
import sampling
import torch
from cases import Case, conditioned
from flux2_cases import Flux2Case

pytestmark = pytest.mark.comfyui
TOLERANCE = 1e-5
WAYS = list(itertools.product(("full_grid", "first_cell", "first_cell_cached"), ("clone", "kontext", "fold")))


@pytest.mark.parametrize(("tokens", "ids"), WAYS)
@pytest.mark.parametrize("kind", [Case, Flux2Case])
def test_a_condition_with_a_goal_equals_diffusers(pair, flux2_pair, in_context, spec_of, kind, tokens, ids):
    model, transformer = pair if kind is Case else flux2_pair
    grid = {"rows": 2, "cols": 3, "cell_height": 32, "cell_width": 16}
    case = kind(spec_of, 4, condition_tokens=tokens, position_ids=ids, modes=("text", "goal"), **grid)
    patched, positive = conditioned(in_context, model, case)
    _, raw = sampling.predict(patched, case.latent, case.sigma, positive)
    assert (raw[0] - case.wanted(transformer)).abs().max() <= TOLERANCE


@pytest.fixture
def given(comfy, planner, tiny_clip, tiny_vae):
    """Inputs of the Condition node for a planner that knows goals."""

    def inputs(tokens="first_cell_cached", mode="text_goal", modes=("text", "text_goal", "goal"), count=1):
        model, spec = planner(condition_tokens=tokens, position_ids="fold", modes=modes)
        frames = torch.rand(count, 32, 48, 3, generator=torch.Generator().manual_seed(4))
        return {
            "model": model, "positive": sampling.encode(comfy, tiny_clip, spec, mode), "vae": tiny_vae, "spec": spec,
            "first_frame": frames, "fit": "crop", "plans": 1,
        }  # fmt: skip

    return inputs


@pytest.mark.parametrize("tokens", ["full_grid", "first_cell", "first_cell_cached"])
@pytest.mark.parametrize("with_goal", [True, False])
def test_a_plan_to_a_goal_equals_that_of_the_headless_pipeline(
    comfy, given, tiny_vae, tiny_folder, lora_tensors, tmp_path, tokens, with_goal
):
    """The same pictures, prompt, noise and LoRA file through `training.model.pipeline`: all of diffusers."""
    from comfy.sample import prepare_noise

    from training.model.pipeline import PlannerPipeline

    inputs, spec = (found := given(tokens)), found["spec"]
    goal = torch.rand(1, 32, 48, 3, generator=torch.Generator().manual_seed(5)) if with_goal else None
    conditioned = comfy.call("VisualPlannerCondition", **inputs, goal=goal)
    (picture,) = comfy.call("VAEDecode", samples=sampling.sample(comfy, conditioned), vae=tiny_vae)
    frames, _ = comfy.call("VisualPlannerSliceGrid", grid=picture, fps=4.0, layout=spec)

    file = lora_factory.save(lora_tensors, tmp_path / "planner.safetensors", spec.to_metadata())
    (prompt,) = comfy.call(
        "VisualPlannerPrompt", mode="text_goal", instruction="push the red cube to the left", spec=spec
    )
    first = inputs["first_frame"]
    shown = torch.cat([first, goal], dim=2) if with_goal else first
    with torch.inference_mode(False):
        pipeline = PlannerPipeline.load(tiny_folder, file)
        noise = prepare_noise(conditioned[3]["samples"], sampling.SEED).clone()
        wanted = pipeline.plan(shown.clone(), [prompt], noise=noise)[0]
        other = pipeline.plan(first.clone() if with_goal else torch.cat([first, first], 2), [prompt], noise=noise)[0]
    assert (frames - wanted).abs().max() <= 1 / 255
    assert (frames - other).abs().max() > 2 / 255  # a goal, and which, matters


def test_the_condition_shows_both_pictures(comfy, given):
    inputs = given(count=2)
    goal = torch.rand(1, 32, 48, 3, generator=torch.Generator().manual_seed(6))
    *_, picture = comfy.call("VisualPlannerCondition", **inputs, goal=goal)
    assert picture.shape == (2, 32, 96, 3)
    assert torch.equal(picture[:, :, :48], inputs["first_frame"])
    assert torch.equal(picture[:, :, 48:], goal.expand(2, -1, -1, -1))
    *_, without = comfy.call("VisualPlannerCondition", **inputs)
    assert not without[:, :, 48:].any()


@pytest.mark.parametrize(
    ("modes", "goals", "line"),
    [
        (("text", "both"), 1, "goal needs a planner that was trained with goal pictures; this one plans in modes text"),
        (("goal",), 0, "goal must be connected: this planner plans in modes goal only"),
        (("text", "goal"), 3, "goal must be one picture, or one for each of the 2 first frames, got 3"),
    ],
)
def test_a_goal_that_cannot_be_is_one_line(comfy, module, given, modes, goals, line):
    inputs = given(modes=modes, mode=modes[0], count=2)
    goal = torch.rand(goals, 32, 48, 3) if goals else None
    with pytest.raises(module("visual_planner.errors").ConditioningError, match=line):
        comfy.call("VisualPlannerCondition", **inputs, goal=goal)

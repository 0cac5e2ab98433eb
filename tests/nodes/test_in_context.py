"""The conditioned MODEL computes what diffusers' transformer computes with cloned (or Kontext) ids."""

import copy

import pytest
import reference
import sampling
import torch
from cases import Case, conditioned

pytestmark = pytest.mark.comfyui
TOLERANCE = 1e-5


@pytest.mark.parametrize("seed", range(36))
def test_equals_diffusers(pair, in_context, spec_of, seed):
    model, transformer = pair
    # Every mode six times and more, beside the random rest.
    modes = [("full_grid", "clone"), ("first_cell", "clone"), ("full_grid", "kontext"), ("first_cell", "kontext")]
    tokens, ids = modes[seed % len(modes)]
    case = Case(spec_of, seed, condition_tokens=tokens, position_ids=ids)
    patched, positive = conditioned(in_context, model, case)
    velocity, raw = sampling.predict(patched, case.latent, case.sigma, positive)
    wanted = case.wanted(transformer)
    assert wanted.std() > 0.1
    assert (raw[0] - wanted).abs().max() <= TOLERANCE
    assert (velocity - wanted).abs().max() <= 10 * TOLERANCE  # divided by sigma once more


def test_the_condition_and_its_place_matter(pair, in_context, spec_of):
    """Against a test that could not fail: other ids, or no condition, give something else."""
    model, transformer = pair
    case = Case(spec_of, 3, rows=3, cols=3, condition_tokens="first_cell", position_ids="clone")
    patched, positive = conditioned(in_context, model, case)
    _, raw = sampling.predict(patched, case.latent, case.sigma, positive)
    beside = [[embedding, {**settings, "model_conds": {}}] for embedding, settings in positive]
    _, stock = sampling.predict(model, case.latent, case.sigma, beside)
    none = reference.predict(
        transformer,
        case.latent,
        None,
        reference.grid_ids(*case.latent.shape[-2:]),
        None,
        case.sigma,
        case.context,
        case.pooled,
        case.spec.guidance,
    )
    assert (raw[0] - stock[0]).abs().max() > 1e-3
    assert (raw[0] - none).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(9, 12), (8, 13), (11, 7)])
def test_odd_latents_are_padded(pair, in_context, spec_of, size):
    model, transformer = pair
    case = Case(spec_of, 5, condition_tokens="full_grid", position_ids="clone")
    latent, condition = case.noise(1, 16, *size), case.noise(1, 16, *size)
    patched, positive = conditioned(in_context, model, case, condition)
    _, raw = sampling.predict(patched, latent, case.sigma, positive)
    assert (raw[0] - case.wanted(transformer, latent=latent, condition=condition)).abs().max() <= TOLERANCE


@pytest.mark.parametrize("tokens", ["full_grid", "first_cell"])
def test_the_clone_takes_rescaled_ids(pair, in_context, spec_of, tokens):
    model, transformer = pair
    case = Case(spec_of, 8, rows=2, cols=2, condition_tokens=tokens, position_ids="clone")
    patched, positive = conditioned(in_context, model, case)
    options = patched.model_options["transformer_options"]
    options["rope_options"] = {"scale_y": 1.5, "scale_x": 0.75}
    _, raw = sampling.predict(patched, case.latent, case.sigma, positive)
    assert (raw[0] - case.wanted(transformer, scale=(1.5, 0.75))).abs().max() <= TOLERANCE


@pytest.mark.parametrize("length", [5, 11])
def test_cfg_with_a_negative_of_another_length(pair, in_context, spec_of, length):
    model, transformer = pair
    case = Case(spec_of, 11, rows=3, cols=2)
    patched, positive = conditioned(in_context, model, case)
    context, pooled = case.noise(1, length, 128), case.noise(1, 64)
    negative = in_context.mark_conditioning([[context, {"pooled_output": pooled}]], case.condition, case.spec.guidance)
    velocity, _ = sampling.predict(patched, case.latent, case.sigma, positive, negative, cfg=2.5)
    good = case.wanted(transformer)
    case.context, case.pooled = context, pooled
    bad = case.wanted(transformer)
    assert (velocity - (bad + 2.5 * (good - bad))).abs().max() <= 20 * TOLERANCE


def test_a_batch_of_first_frames_gives_each_its_own(pair, in_context, spec_of):
    model, transformer = pair
    case = Case(spec_of, 13, rows=2, cols=2, batch=4)
    conditions = case.noise(2, *case.condition.shape[1:])
    latent = case.noise(4, *case.latent.shape[1:])
    patched, positive = conditioned(in_context, model, case, conditions)
    _, raw = sampling.predict(patched, latent, case.sigma, positive)
    # Plan number k of first frame b is at k * 2 + b.
    wanted = case.wanted(transformer, latent=latent, condition=conditions.repeat(2, 1, 1, 1))
    assert (raw[0] - wanted).abs().max() <= TOLERANCE


def test_other_references_keep_their_ids(pair, in_context, spec_of):
    """A stock reference latent before the planner's gets what it gets without a planner: index 1."""
    model, transformer = pair
    case = Case(spec_of, 17, rows=2, cols=2, condition_tokens="first_cell", position_ids="clone")
    other = case.noise(1, 16, 6, 8)
    before = [[case.context, {"pooled_output": case.pooled, "reference_latents": [other]}]]
    marked = in_context.mark_conditioning(before, case.condition, case.spec.guidance)
    patched = in_context.patch_model(model, case.spec)
    _, raw = sampling.predict(patched, case.latent[:1], case.sigma, marked)
    height, width = case.latent.shape[-2:]
    ids = reference.grid_ids(height, width)
    cell = ids.view(height // 2, width // 2, 3)[: height // 4, : width // 4].reshape(-1, 3)
    tokens = [
        reference.pack(case.latent[:1]),
        *(reference.pack(reference.process_in(z)) for z in (other, case.condition)),
    ]
    out = transformer(
        hidden_states=torch.cat(tokens, dim=1),
        encoder_hidden_states=case.context,
        pooled_projections=case.pooled,
        timestep=torch.tensor([case.sigma]),
        img_ids=torch.cat([ids, reference.grid_ids(6, 8, index=1.0), cell]),
        txt_ids=torch.zeros(case.context.shape[1], 3),
        guidance=torch.tensor([case.spec.guidance]),
        return_dict=False,
    )[0]
    wanted = reference.unpack(out[:, : ids.shape[0]], height, width)
    assert (raw[0] - wanted).abs().max() <= TOLERANCE


@pytest.mark.parametrize("seed", [19, 20, 21])
def test_bfloat16_equals_diffusers_in_bfloat16(pair, in_context, spec_of, tiny, tmp_path, seed):
    _, transformer = pair
    transformer.save_pretrained(tmp_path / "transformer")
    model = tiny.load_model(tmp_path)
    model.model.to(torch.bfloat16)
    model.model.diffusion_model.dtype = torch.bfloat16
    case = Case(spec_of, seed, rows=3, cols=3)
    patched, positive = conditioned(in_context, model, case)
    _, raw = sampling.predict(patched, case.latent, case.sigma, positive)
    wanted = case.wanted(copy.deepcopy(transformer).to(torch.bfloat16))
    assert (raw[0] - wanted).abs().mean() < 0.01 * wanted.std()


def test_the_original_and_other_clones_stay_as_they_are(pair, in_context, spec_of):
    model, _ = pair
    case = Case(spec_of, 23, rows=2, cols=3)
    plain = case.positive
    _, before = sampling.predict(model, case.latent, case.sigma, plain)
    sibling = model.clone()
    patched, positive = conditioned(in_context, model, case)
    sampling.predict(patched, case.latent, case.sigma, positive)
    for other in (model, sibling, model.clone()):
        assert not other.wrappers.get("diffusion_model", {}).get(in_context.KEY)
        _, after = sampling.predict(other, case.latent, case.sigma, plain)
        assert torch.equal(after[0], before[0])
    assert plain[0][1].keys() == {"pooled_output"}
    assert model.get_model_object("model_sampling").shift == pytest.approx(1.15)


def test_two_planners_in_one_graph(pair, in_context, spec_of):
    model, transformer = pair
    cases = [
        Case(spec_of, 29, rows=2, cols=2, condition_tokens="first_cell", position_ids="clone"),
        Case(spec_of, 31, rows=3, cols=3, condition_tokens="full_grid", position_ids="kontext"),
    ]
    prepared = [conditioned(in_context, model, case) for case in cases]
    for _ in range(2):  # one after the other, and again: nothing stays behind
        for case, (patched, positive) in zip(cases, prepared, strict=True):
            _, raw = sampling.predict(patched, case.latent, case.sigma, positive)
            assert (raw[0] - case.wanted(transformer)).abs().max() <= TOLERANCE


def test_a_planner_on_a_planner_replaces_it(pair, in_context, spec_of):
    model, transformer = pair
    first = Case(spec_of, 37, rows=2, cols=2, condition_tokens="full_grid", position_ids="kontext")
    second = Case(spec_of, 41, rows=3, cols=3, condition_tokens="first_cell", position_ids="clone")
    patched, positive = conditioned(in_context, model, first)
    patched = in_context.patch_model(patched, second.spec)
    positive = in_context.mark_conditioning(positive, second.condition, second.spec.guidance)
    second.context, second.pooled = first.context, first.pooled
    second.spec = (
        second.spec
        if second.spec.guidance == first.spec.guidance
        else spec_of(**{**vars(second.spec), "guidance": first.spec.guidance})
    )
    assert len(positive[0][1]["reference_latents"]) == 1
    _, raw = sampling.predict(patched, second.latent, second.sigma, positive)
    assert (raw[0] - second.wanted(transformer)).abs().max() <= TOLERANCE


def test_the_schedule_is_the_specs(pair, in_context, spec_of, module):
    import comfy.samplers

    model, _ = pair
    spec = spec_of(cell_height=240, cell_width=320)
    sampling_object = in_context.patch_model(model, spec).get_model_object("model_sampling")
    for steps in (4, 8, 10, 20):
        got = comfy.samplers.calculate_sigmas(sampling_object, "simple", steps)
        wanted = module("visual_planner.planner.conditioning").sigmas(steps, spec.mu())
        assert (got - wanted).abs().max() < 1e-6


def test_a_positive_without_the_condition_is_refused(pair, in_context, spec_of):
    model, _ = pair
    case = Case(spec_of, 43)
    patched, _ = conditioned(in_context, model, case)
    with pytest.raises(ValueError, match="positive conditioning must come from the Condition node"):
        sampling.predict(patched, case.latent, case.sigma, case.positive)


def test_a_negative_without_the_condition_is_fine(pair, in_context, spec_of):
    model, _ = pair
    case = Case(spec_of, 43)
    patched, positive = conditioned(in_context, model, case)
    velocity, raw = sampling.predict(patched, case.latent, case.sigma, positive, case.positive, cfg=2.0)
    assert len(raw) == 2
    assert torch.isfinite(velocity).all()


@pytest.mark.parametrize("tokens", ["full_grid", "first_cell"])
def test_a_latent_of_another_size_is_refused(pair, in_context, spec_of, tokens):
    model, _ = pair
    spec = {"rows": 3, "cols": 3, "cell_height": 32, "cell_width": 32}
    case = Case(spec_of, 47, condition_tokens=tokens, **spec)
    patched, positive = conditioned(in_context, model, case)
    for size in ((16, 16), (24, 24)):
        with pytest.raises(ValueError, match="latent must be the one of the Condition node, 96 px high x 96 px wide"):
            sampling.predict(patched, case.noise(1, 16, *size), case.sigma, positive)


def test_another_model_is_refused(in_context, spec_of):
    class Other:
        model = type("StableDiffusion", (), {"diffusion_model": object()})()

    with pytest.raises(ValueError, match=r"model must be a FLUX\.1 model, .*, got StableDiffusion"):
        in_context.patch_model(Other(), spec_of())

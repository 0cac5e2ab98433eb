"""A conditioned FLUX.2 MODEL computes what diffusers' transformer computes, in all nine modes.

The reference of a cached condition is diffusers' own extraction of keys and values (BFL's klein-kv).
"""

import itertools

import pytest
import sampling
import torch
from cases import conditioned
from flux2_cases import Flux2Case

from support import tiny_flux2

pytestmark = pytest.mark.comfyui
TOLERANCE = 1e-5
MODES = list(itertools.product(("full_grid", "first_cell", "first_cell_cached"), ("clone", "kontext", "fold")))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("tokens", "ids"), MODES)
def test_equals_diffusers(flux2_pair, in_context, spec_of, tokens, ids, seed):
    model, transformer = flux2_pair
    case = Flux2Case(spec_of, seed, condition_tokens=tokens, position_ids=ids)
    patched, positive = conditioned(in_context, model, case)
    velocity, raw = sampling.predict(patched, case.latent, case.sigma, positive)
    wanted = case.wanted(transformer)
    assert wanted.std() > 0.1
    assert (raw[0] - wanted).abs().max() <= TOLERANCE
    assert (velocity - wanted).abs().max() <= 10 * TOLERANCE  # divided by sigma once more


@pytest.fixture(scope="module")
def dev_pair(tiny, tmp_path_factory):
    """A pair that embeds guidance, as FLUX.2-dev does."""
    folder = tmp_path_factory.mktemp("flux2_dev")
    with torch.inference_mode(False):
        torch.manual_seed(3)
        transformer = tiny_flux2.make_transformer(guidance=True).requires_grad_(False)
        transformer.save_pretrained(folder / "transformer")
    return tiny.load_model(folder), transformer


@pytest.mark.parametrize("tokens", ["first_cell", "first_cell_cached"])
def test_embedded_guidance_counts_where_the_base_has_it(dev_pair, in_context, spec_of, tokens):
    model, transformer = dev_pair
    case = Flux2Case(spec_of, 5, condition_tokens=tokens, guidance=2.5)
    patched, positive = conditioned(in_context, model, case)
    _, raw = sampling.predict(patched, case.latent, case.sigma, positive)
    assert (raw[0] - case.wanted(transformer, guidance=2.5)).abs().max() <= TOLERANCE
    assert (raw[0] - case.wanted(transformer, guidance=1.0)).abs().max() > 1e-3


def test_every_mode_gives_something_else(flux2_pair, in_context, spec_of):
    """Against tests that could not fail."""
    model, _ = flux2_pair
    made, first = [], None
    for tokens, ids in MODES:
        case = Flux2Case(
            spec_of, 3, rows=2, cols=2, cell_height=32, cell_width=32, condition_tokens=tokens, position_ids=ids
        )
        if first is not None:  # one condition for all: the grid's first cell is the cell
            case.latent, case.context = first.latent, first.context
            height, width = case.spec.condition_latent_shape[1:]
            case.condition = first.condition[:, :, :height, :width]
        else:
            first = case
        patched, positive = conditioned(in_context, model, case)
        made.append(sampling.predict(patched, case.latent, 0.6, positive)[1][0])
    for one, two in itertools.combinations(made, 2):
        assert (one - two).abs().max() > 1e-4


def test_the_bases_own_reference_is_the_native_mode(flux2_pair, in_context, spec_of):
    """`kontext` with `first_cell` is ComfyUI's own reference latent on FLUX.2, without any patch."""
    model, _ = flux2_pair
    case = Flux2Case(spec_of, 7, rows=2, cols=3, condition_tokens="first_cell", position_ids="kontext")
    patched, positive = conditioned(in_context, model, case)
    _, ours = sampling.predict(patched, case.latent, case.sigma, positive)
    stock = [[case.context, {"pooled_output": None, "reference_latents": [case.condition]}]]
    _, native = sampling.predict(model, case.latent, case.sigma, stock)
    assert torch.equal(ours[0], native[0])


@pytest.mark.parametrize("length", [5, 11])
@pytest.mark.parametrize("tokens", ["first_cell", "first_cell_cached"])
def test_cfg_against_a_negative_prompt(flux2_pair, in_context, spec_of, tokens, length):
    model, transformer = flux2_pair
    case = Flux2Case(spec_of, 11, rows=3, cols=2, condition_tokens=tokens)
    patched, positive = conditioned(in_context, model, case)
    context = case.noise(1, length, tiny_flux2.TEXT_WIDTH)
    negative = in_context.mark_conditioning([[context, {"pooled_output": None}]], case.condition, case.spec.guidance)
    velocity, _ = sampling.predict(patched, case.latent, case.sigma, positive, negative, cfg=4.0)
    good, bad = case.wanted(transformer), case.wanted(transformer, context=context)
    assert (velocity - (bad + 4.0 * (good - bad))).abs().max() <= 40 * TOLERANCE


def test_a_batch_of_first_frames_gives_each_its_own(flux2_pair, in_context, spec_of):
    model, transformer = flux2_pair
    case = Flux2Case(spec_of, 13, rows=2, cols=2, batch=4, condition_tokens="first_cell_cached")
    conditions = case.noise(2, *case.condition.shape[1:])
    patched, positive = conditioned(in_context, model, case, conditions)
    _, raw = sampling.predict(patched, case.latent, case.sigma, positive)
    wanted = case.wanted(transformer, condition=conditions.repeat(2, 1, 1, 1))
    assert (raw[0] - wanted).abs().max() <= TOLERANCE


def test_the_schedule_is_the_specs(flux2_pair, in_context, spec_of, module):
    import comfy.samplers

    spec = spec_of(family="flux2")
    made = in_context.patch_model(flux2_pair[0], spec).get_model_object("model_sampling")
    assert spec.mu() == pytest.approx(2.02)
    for steps in (4, 20):
        got = comfy.samplers.calculate_sigmas(made, "simple", steps)
        assert (got - module("visual_planner.planner.conditioning").sigmas(steps, spec.mu())).abs().max() < 1e-6


def test_a_latent_of_another_size_is_refused(flux2_pair, in_context, spec_of):
    case = Flux2Case(spec_of, 17, rows=3, cols=3, cell_height=32, cell_width=32, condition_tokens="first_cell")
    patched, positive = conditioned(in_context, flux2_pair[0], case)
    message = "latent must be the one of the Condition node, 96 px high x 96 px wide, got 144 high x 96 wide"
    with pytest.raises(ValueError, match=message):
        sampling.predict(patched, case.noise(1, 128, 9, 6), case.sigma, positive)


def test_a_model_of_the_other_family_is_refused(flux2_pair, pair, in_context, spec_of):
    for model, family, message in (
        (flux2_pair[0], "flux1", r"must be a FLUX\.1 model, which the planner's record asks for, got a FLUX\.2 model"),
        (pair[0], "flux2", r"must be a FLUX\.2 model, which the planner's record asks for, got a FLUX\.1 model \(Flux"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            in_context.patch_model(model, spec_of(family=family))
        assert "\n" not in str(caught.value)


def test_a_network_with_four_axes_that_is_not_flux2_is_refused(in_context, spec_of):
    class Params:
        axes_dim = (32, 32, 32, 32)

    class Network:
        params, patch_size, double_blocks = Params, 1, ()

    class Other:
        model = type("LongCatImage", (), {"diffusion_model": Network()})()

    with pytest.raises(ValueError, match=r"must be a FLUX\.2 model, .*, got LongCatImage"):
        in_context.patch_model(Other(), spec_of(family="flux2"))

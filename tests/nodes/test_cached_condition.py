"""The condition whose keys and values are computed once for a plan: exact, made once, never stale, gone afterwards."""

import contextlib
import copy
import gc
import weakref

import pytest
import sampling
import torch
from cases import Case, conditioned

pytestmark = pytest.mark.comfyui
TOLERANCE = 1e-5
STEPS = 6


def cached_case(spec_of, seed, **fixed):
    return Case(spec_of, seed, condition_tokens="first_cell_cached", **fixed)


@contextlib.contextmanager
def network_calls(model):
    """(rows, tokens) of every pass through the network, in the order in which they begin."""
    calls = []
    handle = model.model.diffusion_model.img_in.register_forward_hook(
        lambda _, args, __: calls.append(tuple(args[0].shape[:2]))
    )
    try:
        yield calls
    finally:
        handle.remove()


def plan(model, case, positive, negative=None, cfg=1.0, seed=5, **settings):
    """Latent of a whole plan by a stock sampler."""
    import comfy.sample

    empty = torch.zeros_like(case.latent)
    noise = comfy.sample.prepare_noise(empty, seed)
    return comfy.sample.sample(
        model, noise, STEPS, cfg, "euler", "simple", positive, negative or positive, empty, disable_pbar=True,
        seed=seed, **settings,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(33))
def test_equals_the_dense_pass_with_a_mask(pair, in_context, spec_of, seed):
    model, transformer = pair
    case = cached_case(spec_of, 100 + seed, position_ids=("clone", "kontext", "fold")[seed % 3])
    patched, positive = conditioned(in_context, model, case)
    _, raw = sampling.predict(patched, case.latent, case.sigma, positive)
    wanted = case.wanted(transformer)
    assert wanted.std() > 0.1
    assert (raw[0] - wanted).abs().max() <= TOLERANCE


@pytest.mark.parametrize("seed", range(6))
def test_equals_training(pair, in_context, spec_of, seed):
    """The transformer as training and the diffusers pipeline run it."""
    from training.model.in_context import InContext
    from visual_planner.planner.conditioning import pack_latents, unpack_latents
    from visual_planner.planner.spec import PlannerSpec

    model, transformer = pair
    case = cached_case(spec_of, 200 + seed, batch=2)
    patched, positive = conditioned(in_context, model, case)
    _, raw = sampling.predict(patched, case.latent, case.sigma, positive)
    velocity = InContext(PlannerSpec.from_metadata(case.spec.to_metadata()))(
        copy.deepcopy(transformer),
        pack_latents(case.latent),
        pack_latents((case.condition - 0.1159) * 0.3611).expand(2, -1, -1),
        case.context.expand(2, -1, -1),
        case.pooled.expand(2, -1),
        torch.full((2,), case.sigma),
        torch.full((2,), case.spec.guidance),
    )
    assert (raw[0] - unpack_latents(velocity, *case.latent.shape[-2:])).abs().max() <= TOLERANCE


def test_it_is_not_the_condition_in_the_sequence(pair, in_context, spec_of):
    model, transformer = pair
    case = cached_case(spec_of, 1, rows=3, cols=3)
    patched, positive = conditioned(in_context, model, case)
    _, raw = sampling.predict(patched, case.latent, case.sigma, positive)
    case.spec = spec_of(**{**vars(case.spec), "condition_tokens": "first_cell"})
    assert (raw[0] - case.wanted(transformer)).abs().max() > 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_cached_equals_uncached_over_a_plan(pair, in_context, spec_of, seed):
    model, _ = pair
    case = cached_case(spec_of, 300 + seed)
    cached, positive = conditioned(in_context, model, case)
    uncached = in_context.patch_model(model, case.spec, cached=False)
    target, own = case.spec.target_tokens, case.spec.conditioning_tokens
    with network_calls(model) as once:
        first = plan(cached, case, positive)
    with network_calls(model) as each_step:
        second = plan(uncached, case, positive)
    # A pass of the condition begins inside the step that needs it, after the step's own tokens came in.
    step = [(case.batch, target)]
    assert once == [*step, (1, own), *(step * (STEPS - 1))]
    assert each_step == [*step, (1, own)] * STEPS
    assert (first - second).abs().max() <= TOLERANCE


def test_each_first_frame_is_computed_once_however_many_plans_it_has(pair, in_context, spec_of):
    model, transformer = pair
    case = cached_case(spec_of, 13, rows=2, cols=2, batch=6)
    conditions = case.noise(2, *case.condition.shape[1:])
    patched, positive = conditioned(in_context, model, case, conditions)
    with network_calls(model) as calls:
        _, raw = sampling.predict(patched, case.latent, case.sigma, positive)
    assert calls == [(6, case.spec.target_tokens), (2, case.spec.conditioning_tokens)]
    wanted = case.wanted(transformer, condition=conditions.repeat(3, 1, 1, 1))
    assert (raw[0] - wanted).abs().max() <= TOLERANCE


@pytest.mark.parametrize("length", [None, 5])
def test_cfg_shares_the_condition_between_both_halves(pair, in_context, spec_of, length):
    """Negative of the same length (one batch of both) and of another (two calls): the condition passes through once."""
    model, transformer = pair
    case = cached_case(spec_of, 11, rows=3, cols=2, batch=1)
    patched, positive = conditioned(in_context, model, case)
    context, pooled = case.noise(1, length or case.context.shape[1], 128), case.noise(1, 64)
    negative = in_context.mark_conditioning([[context, {"pooled_output": pooled}]], case.condition, case.spec.guidance)
    with network_calls(model) as calls:
        velocity, _ = sampling.predict(patched, case.latent, case.sigma, positive, negative, cfg=2.5)
    assert [call for call in calls if call[1] == case.spec.conditioning_tokens] == [(1, case.spec.conditioning_tokens)]
    good = case.wanted(transformer)
    case.context, case.pooled = context, pooled
    bad = case.wanted(transformer)
    assert (velocity - (bad + 2.5 * (good - bad))).abs().max() <= 20 * TOLERANCE


def test_conditionings_of_different_guidance_are_kept_apart(pair, in_context, spec_of):
    model, transformer = pair
    case = cached_case(spec_of, 12, rows=2, cols=2, batch=1, guidance=3.5)
    patched, positive = conditioned(in_context, model, case)
    negative = in_context.mark_conditioning(case.positive, case.condition, 1.0)
    velocity, _ = sampling.predict(patched, case.latent, case.sigma, positive, negative, cfg=2.0)
    good = case.wanted(transformer)
    case.spec = spec_of(**{**vars(case.spec), "guidance": 1.0})
    bad = case.wanted(transformer)
    assert (good - bad).abs().max() > 1e-3
    assert (velocity - (bad + 2.0 * (good - bad))).abs().max() <= 20 * TOLERANCE


def test_a_negative_without_the_condition(pair, in_context, spec_of):
    model, _ = pair
    case = cached_case(spec_of, 43)
    patched, positive = conditioned(in_context, model, case)
    velocity, raw = sampling.predict(patched, case.latent, case.sigma, positive, case.positive, cfg=2.0)
    assert len(raw) == 2
    assert torch.isfinite(velocity).all()


def test_the_condition_takes_rescaled_ids(pair, in_context, spec_of):
    model, transformer = pair
    case = cached_case(spec_of, 8, rows=2, cols=2, position_ids="clone")
    patched, positive = conditioned(in_context, model, case)
    patched.model_options["transformer_options"]["rope_options"] = {"scale_y": 1.5, "scale_x": 0.75}
    _, raw = sampling.predict(patched, case.latent, case.sigma, positive)
    assert (raw[0] - case.wanted(transformer, scale=(1.5, 0.75))).abs().max() <= TOLERANCE


def test_other_references_stay_in_the_sequence(pair, in_context, spec_of):
    model, _ = pair
    case = cached_case(spec_of, 17, rows=2, cols=2, batch=1)
    other = case.noise(1, 16, 6, 8)
    settings = {"pooled_output": case.pooled, "reference_latents": [other]}
    marked = in_context.mark_conditioning([[case.context, settings]], case.condition, case.spec.guidance)
    patched = in_context.patch_model(model, case.spec)
    with network_calls(model) as calls:
        sampling.predict(patched, case.latent, case.sigma, marked)
    assert calls == [(1, case.spec.target_tokens + 12), (1, case.spec.conditioning_tokens)]


def test_an_attention_mask_does_not_hide_the_condition(pair, in_context, spec_of):
    """A mask over text and picture, as a style model sets it: a hidden word is as good as no word."""
    model, transformer = pair
    case = cached_case(spec_of, 18, rows=2, cols=2, batch=1)
    patched, positive = conditioned(in_context, model, case)
    length, (height, width) = case.context.shape[1], case.latent.shape[-2:]
    assert length > 2
    size = length + height // 2 * width // 2
    mask = torch.zeros(1, size, size)
    mask[:, :, 1] = float("-inf")
    positive[0][1] |= {"attention_mask": mask, "attention_mask_img_shape": (height // 2, width // 2)}
    _, raw = sampling.predict(patched, case.latent, case.sigma, positive)
    case.context = torch.cat([case.context[:, :1], case.context[:, 2:]], dim=1)
    assert (raw[0] - case.wanted(transformer)).abs().max() <= TOLERANCE


def test_another_override_of_attention_still_computes_it(pair, in_context, spec_of):
    model, transformer = pair
    case = cached_case(spec_of, 19, batch=1)
    seen = []

    def theirs(func, q, k, *args, **kwargs):
        seen.append((q.shape[2], k.shape[2]))
        return func(q, k, *args, **kwargs)

    base = model.clone()
    base.model_options["transformer_options"]["optimized_attention_override"] = theirs
    patched, positive = conditioned(in_context, base, case)
    _, raw = sampling.predict(patched, case.latent, case.sigma, positive)
    own, joint = case.spec.conditioning_tokens, case.spec.target_tokens + case.context.shape[1]
    # One text token of zeros goes with the condition, but has no key.
    assert seen == [(own + 1, own)] * 2 + [(joint, joint + own)] * 2
    assert (raw[0] - case.wanted(transformer)).abs().max() <= TOLERANCE


def test_bfloat16(pair, in_context, spec_of, tiny, tmp_path):
    _, transformer = pair
    transformer.save_pretrained(tmp_path / "transformer")
    model = tiny.load_model(tmp_path)
    model.model.to(torch.bfloat16)
    model.model.diffusion_model.dtype = torch.bfloat16
    case = cached_case(spec_of, 20, rows=3, cols=3)
    patched, positive = conditioned(in_context, model, case)
    _, raw = sampling.predict(patched, case.latent, case.sigma, positive)
    wanted = case.wanted(copy.deepcopy(transformer).to(torch.bfloat16))
    assert (raw[0] - wanted).abs().mean() < 0.02 * wanted.std()


def test_run_again_with_other_inputs_nothing_is_stale(pair, in_context, spec_of):
    """The same MODEL object, with another first frame, seed, or LoRA strength, and then as at first."""
    model, _ = pair
    case = cached_case(spec_of, 21, rows=2, cols=2, batch=1)
    patched, _ = conditioned(in_context, model, case)
    marked = [in_context.mark_conditioning(case.positive, z, 3.5) for z in (case.condition, -case.condition)]
    key = "diffusion_model.double_blocks.0.img_attn.qkv.weight"
    weight = model.model.state_dict()[key]

    def with_lora(strength):
        styled = patched.clone()
        styled.add_patches({key: ("diff", (0.1 * torch.ones_like(weight),))}, strength)
        return styled

    runs = [
        (patched, marked[0], 5), (patched, marked[1], 5), (patched, marked[0], 6),
        (with_lora(1.0), marked[0], 5), (with_lora(0.5), marked[0], 5),
    ]  # fmt: skip
    plans = [plan(one, case, conditioning, seed=seed) for one, conditioning, seed in runs]
    for number, (one, conditioning, seed) in enumerate(runs):
        uncached = one.clone()
        uncached.remove_wrappers_with_key("outer_sample", in_context.condition_cache.KEY)
        assert (plans[number] - plan(uncached, case, conditioning, seed=seed)).abs().max() <= TOLERANCE
        assert all((plans[number] - other).abs().max() > 1e-3 for other in plans[:number])
    assert torch.equal(plans[0], plan(patched, case, marked[0], seed=5))


def test_hooks_that_change_weights_between_steps_are_followed(pair, in_context, spec_of):
    """A LoRA scheduled over the steps (stock hooks): the condition is computed anew when its strength changes."""
    import comfy.hooks

    model, _ = pair
    case = cached_case(spec_of, 22, rows=2, cols=2, batch=1)
    patched, positive = conditioned(in_context, model, case)
    generator = torch.Generator().manual_seed(0)
    lora = {
        f"lora_unet_double_blocks_0_img_attn_qkv.lora_{part}.weight": torch.randn(shape, generator=generator)
        for part, shape in (("down", (4, 256)), ("up", (768, 4)))
    }
    hooks = comfy.hooks.create_hook_lora(lora=lora, strength_model=0.05, strength_clip=0.0)
    keyframes = comfy.hooks.HookKeyframeGroup()
    keyframes.add(comfy.hooks.HookKeyframe(strength=0.0, start_percent=0.0))
    keyframes.add(comfy.hooks.HookKeyframe(strength=1.0, start_percent=0.5))
    hooks.set_keyframes_on_hooks(keyframes)
    hooked = [[embedding, settings | {"hooks": hooks}] for embedding, settings in positive]
    with network_calls(model) as calls:
        followed = plan(patched, case, hooked)
    passes = [call for call in calls if call[1] == case.spec.conditioning_tokens]
    assert len(passes) == 2
    uncached = plan(in_context.patch_model(model, case.spec, cached=False), case, hooked)
    assert (followed - uncached).abs().max() <= TOLERANCE
    assert (followed - plan(patched, case, positive)).abs().max() > 1e-3


def test_two_planners_in_one_graph(pair, in_context, spec_of):
    model, _ = pair
    cases = [
        cached_case(spec_of, 29, rows=2, cols=2, position_ids="clone"),
        cached_case(spec_of, 31, rows=3, cols=3, position_ids="fold"),
        Case(spec_of, 32, rows=2, cols=2, condition_tokens="first_cell"),
    ]
    prepared = [conditioned(in_context, model, case) for case in cases]
    first = [plan(patched, case, positive) for case, (patched, positive) in zip(cases, prepared, strict=True)]
    again = [plan(patched, case, positive) for case, (patched, positive) in zip(cases, prepared, strict=True)]
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_a_planner_on_a_planner_leaves_no_cache_behind(pair, in_context, spec_of):
    model, transformer = pair
    first = cached_case(spec_of, 37, rows=2, cols=2)
    second = Case(spec_of, 41, rows=3, cols=3, condition_tokens="first_cell", guidance=first.spec.guidance)
    patched, _ = conditioned(in_context, model, first)
    patched, positive = conditioned(in_context, patched, second)
    assert not patched.wrappers.get("outer_sample", {}).get(in_context.condition_cache.KEY)
    _, raw = sampling.predict(patched, second.latent, second.sigma, positive)
    assert (raw[0] - second.wanted(transformer)).abs().max() <= TOLERANCE


class Stop(Exception):
    pass


def _fail(step, *_):
    if step == 2:
        raise Stop


def _interrupt(step, *_):
    import comfy.model_management

    if step == 2:
        comfy.model_management.interrupt_current_processing()
        comfy.model_management.throw_exception_if_processing_interrupted()


@pytest.mark.parametrize("end", [None, _fail, _interrupt])
def test_nothing_is_left_after_the_run_however_it_ends(pair, in_context, spec_of, end):
    import comfy.model_management

    model, _ = pair
    case = cached_case(spec_of, 47, rows=2, cols=2, batch=1)
    patched, positive = conditioned(in_context, model, case)
    alive, seen = [], []

    def look(executor, *args, **kwargs):
        cache = executor.class_obj.model_options["transformer_options"][in_context.condition_cache.KEY]
        try:
            return executor(*args, **kwargs)
        finally:
            rows = [row for _, held in cache._held.values() for _, row in held]
            parts = [part for row in rows for pair in row.values() for part in pair]
            seen.extend(part.shape for part in parts)
            alive.extend(weakref.ref(thing) for thing in (cache, *parts))

    watched = patched.clone()
    watched.add_wrapper_with_key("outer_sample", "look", look)
    stops = (Stop, comfy.model_management.InterruptProcessingException)
    with contextlib.nullcontext() if end is None else pytest.raises(stops):
        plan(watched, case, positive, callback=end)
    gc.collect()
    # Keys and values of both blocks, of the condition's tokens only.
    assert seen == [(1, 2, case.spec.conditioning_tokens, 128)] * 4
    assert len(alive) == 5
    assert not any(reference() is not None for reference in alive)
    for options in (patched.model_options, watched.model_options, model.model_options):
        assert in_context.condition_cache.KEY not in options["transformer_options"]
        assert "optimized_attention_override" not in options["transformer_options"]


def test_only_the_conditions_own_values_are_kept(pair, in_context, spec_of):
    """Values are a slice of a wider matrix in the network; a kept slice would keep the matrix."""
    model, _ = pair
    case = cached_case(spec_of, 48, rows=2, cols=2, batch=2)
    patched, positive = conditioned(in_context, model, case, case.noise(2, *case.condition.shape[1:]))
    sizes = []

    def look(executor, *args, **kwargs):
        cache = executor.class_obj.model_options["transformer_options"][in_context.condition_cache.KEY]
        result = executor(*args, **kwargs)
        for _, held in cache._held.values():
            for source, row in held:
                sizes.extend(part.untyped_storage().nbytes() for pair in row.values() for part in pair)
                assert source.latent.untyped_storage().nbytes() == source.latent.numel() * 4
        return result

    patched.add_wrapper_with_key("outer_sample", "look", look)
    plan(patched, case, positive)
    assert sizes == [2 * case.spec.conditioning_tokens * 128 * 4] * 8


def test_a_broken_latent_is_refused(pair, in_context, spec_of):
    model, _ = pair
    case = cached_case(spec_of, 49)
    patched, positive = conditioned(in_context, model, case, torch.full_like(case.condition, float("nan")))
    with pytest.raises(ValueError, match="first frame's latent must be finite, got NaN or infinity from the VAE"):
        sampling.predict(patched, case.latent, case.sigma, positive)

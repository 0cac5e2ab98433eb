"""Model and conditioning of a planner belong together: what is not so is one line, what is so is never refused."""

import functools
import types
from unittest import mock

import pytest
import sampling
import torch
from cases import Case, conditioned

pytestmark = pytest.mark.comfyui
TOKENS = ["full_grid", "first_cell", "first_cell_cached"]
BYPASSED = "the planner's patch must run inside the model, but "


def in_pack(function, pack, **names):
    """A function as if it stood in a file of another pack, with `names` as that file's globals."""
    file, name = f"/srv/ComfyUI/custom_nodes/{pack}/nodes.py", function.__name__
    code = function.__code__.replace(co_filename=file, co_qualname=name)
    return types.FunctionType(code, {"__name__": "their_nodes", **names}, name, function.__defaults__)


def quick_forward(network, kept=()):
    """Another pack's copy of the network's forward, from before it had the patch point.

    `kept` are the options that it passes on.
    """

    def quick_forward(
        self, img, img_ids, txt, txt_ids, timesteps, y, guidance=None, control=None, transformer_options=None,
        attn_mask=None, **newer,
    ):  # fmt: skip
        options = {key: value for key, value in transformer_options.items() if key in kept_options}  # noqa: F821
        return stock(  # noqa: F821
            self, img, img_ids, txt, txt_ids, timesteps, y, guidance, control,
            transformer_options=options, attn_mask=attn_mask, **newer,
        )  # fmt: skip

    return in_pack(quick_forward, "ComfyUI-Quick", stock=type(network).forward_orig, kept_options=kept)


def on_the_network(model, network, function):
    network.forward_orig = types.MethodType(function, network)
    return model


def as_partial(model, network, function):
    network.forward_orig = functools.partial(function, network)
    return model


def on_the_class(model, network, function):
    type(network).forward_orig = function
    return model


def for_a_call(model, network, function):
    """As a node does it that puts its own function there only while the model is called."""

    def around(apply_model, args):
        with mock.patch.multiple(network, forward_orig=function.__get__(network, type(network))):
            return apply_model(args["input"], args["timestep"], **args["c"])

    model = model.clone()
    model.set_model_unet_function_wrapper(around)
    return model


@pytest.fixture
def restored(pair):
    """The network, as it was before the test once it is over."""
    network = pair[0].model.diffusion_model
    kind, stock = type(network), type(network).forward_orig
    yield network
    kind.forward_orig = stock
    for name in ("forward_orig", "forward"):
        vars(network).pop(name, None)


@pytest.fixture
def case(spec_of):
    return lambda tokens="first_cell", seed=3, **more: Case(
        spec_of, seed, rows=2, cols=2, condition_tokens=tokens, **more
    )


@pytest.mark.parametrize("replace", [on_the_network, as_partial, on_the_class, for_a_call])
@pytest.mark.parametrize("tokens", TOKENS)
def test_a_node_that_replaces_the_networks_forward_is_named(pair, in_context, case, restored, tokens, replace):
    made = case(tokens)
    patched, positive = conditioned(in_context, pair[0], made)
    replaced = replace(patched, restored, quick_forward(restored))
    line = BYPASSED + r"ComfyUI-Quick replaces its forward_orig \(quick_forward\) and leaves the patch out"
    with pytest.raises(ValueError, match=line) as caught:
        sampling.predict(replaced, made.latent, made.sigma, positive)
    assert "\n" not in str(caught.value)


def test_attention_that_is_not_reached_is_named(pair, in_context, case, restored):
    """The ids arrive, but the cached condition's keys and values would not."""
    made = case("first_cell_cached")
    patched, positive = conditioned(in_context, pair[0], made)
    on_the_network(patched, restored, quick_forward(restored, kept=("patches",)))
    with pytest.raises(ValueError, match=BYPASSED + "ComfyUI-Quick"):
        sampling.predict(patched, made.latent, made.sigma, positive)


def test_a_whole_forward_that_is_replaced_is_named(pair, in_context, case, restored):
    made = case()
    patched, positive = conditioned(in_context, pair[0], made)

    def own_forward(x, timestep, context, y=None, **kwargs):
        return torch.zeros_like(x)

    restored.forward = own_forward
    with pytest.raises(
        ValueError, match=BYPASSED + r"another node's module test_mark replaces its forward \(.*own_forward"
    ):
        sampling.predict(patched, made.latent, made.sigma, positive)


@pytest.mark.parametrize("replace", [on_the_network, as_partial, on_the_class, for_a_call])
def test_a_forward_for_another_version_of_comfyui_is_named(pair, in_context, case, restored, replace):
    """Public packs stay behind: ComfyUI calls their copy of the function with arguments that it does not know."""
    made = case()
    patched, positive = conditioned(in_context, pair[0], made)

    def old_forward(self, img, img_ids, txt, txt_ids, timesteps, y, guidance=None, control=None):
        return img

    replaced = replace(patched, restored, in_pack(old_forward, "ComfyUI-Old"))
    with pytest.raises(ValueError, match=r"ComfyUI-Old replaces its forward_orig .*another version \(.*unexpected"):
        sampling.predict(replaced, made.latent, made.sigma, positive)


def test_a_type_error_inside_a_replaced_forward_is_that_packs_own(pair, in_context, case, restored):
    made = case()
    patched, positive = conditioned(in_context, pair[0], made)

    def adding_forward(self, img, *args, **more):
        return img + "a"

    with pytest.raises(TypeError, match="unsupported operand"):
        sampling.predict(on_the_network(patched, restored, adding_forward), made.latent, made.sigma, positive)


@pytest.mark.parametrize("tokens", TOKENS)
def test_a_replaced_forward_that_keeps_the_patch_plans_as_before(pair, in_context, case, restored, tokens):
    made = case(tokens)
    patched, positive = conditioned(in_context, pair[0], made)
    _, before = sampling.predict(patched, made.latent, made.sigma, positive)
    function = quick_forward(restored, kept=("patches", "optimized_attention_override", "block_type", "block_index"))
    on_the_network(patched, restored, function)
    _, after = sampling.predict(patched, made.latent, made.sigma, positive)
    assert torch.equal(before[0], after[0])


@pytest.mark.parametrize(("first", "tokens"), [(True, TOKENS[0]), (False, TOKENS[1]), (False, TOKENS[2])])
def test_a_node_that_leaves_calls_out_is_no_bypass(comfy, pair, in_context, case, tokens, first):
    """Caches of whole calls, before and behind Condition: most steps never reach the network."""
    made = case(tokens)
    settings = {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 1.0, "verbose": False}

    def quick(model):
        return comfy.call("EasyCache", model=model, **settings)[0]

    model = quick(pair[0]) if first else pair[0]
    patched, positive = conditioned(in_context, model, made)
    calls = []
    patched = patched if first else quick(patched)
    patched.add_wrapper_with_key(
        "apply_model", "count", lambda run, *args, **more: calls.append(1) or run(*args, **more)
    )
    done = comfy.call(
        "KSampler", model=patched, seed=1, steps=6, cfg=1.0, sampler_name="euler", scheduler="simple",
        positive=positive, negative=positive, latent_image={"samples": torch.zeros_like(made.latent)}, denoise=1.0,
    )[0]["samples"]  # fmt: skip
    assert done.isfinite().all() and len(calls) == 6


@pytest.mark.parametrize("tokens", TOKENS)
def test_conditioning_without_the_planners_model_is_refused(pair, in_context, case, tokens):
    model, _ = pair
    made = case(tokens)
    _, positive = conditioned(in_context, model, made)
    line = "^model must come from the Condition node .* lacks the planner's patch: connect that node's model output"
    for stranger in (model, model.clone()):
        with pytest.raises(ValueError, match=line):
            sampling.predict(stranger, made.latent, made.sigma, positive)
    with pytest.raises(ValueError, match=line):  # one marked conditioning is enough
        sampling.predict(model, made.latent, made.sigma, made.positive, positive, cfg=3.0)


def test_the_line_is_right_after_a_run_of_the_planner_too(pair, in_context, case):
    """What a run of the right model leaves behind does not let the wrong one pass, nor after a failure."""
    model, _ = pair
    made = case()
    patched, positive = conditioned(in_context, model, made)
    sampling.predict(patched, made.latent, made.sigma, positive)
    with pytest.raises(ValueError, match="latent must be"):
        sampling.predict(patched, made.noise(1, 16, 16, 24), made.sigma, positive)
    with pytest.raises(ValueError, match="lacks the planner's patch"):
        sampling.predict(model, made.latent, made.sigma, positive)


def _method(comfy, positive, plain, made):
    return comfy.call("FluxKontextMultiReferenceLatentMethod", conditioning=positive, reference_latents_method="uxo")[0]


def _reference(comfy, positive, plain, made):
    return comfy.call("ReferenceLatent", conditioning=positive, latent={"samples": made.noise(1, 16, 4, 4)})[0]


BEHIND = {
    "reference method": _method,
    "another reference": _reference,
    "reference and method": lambda *args: _method(args[0], _reference(*args), *args[2:]),
    "guidance": lambda comfy, positive, *_: comfy.call("FluxGuidance", conditioning=positive, guidance=2.0)[0],
    "combine": lambda comfy, positive, plain, _: positive + plain,
    "combine, the other first": lambda comfy, positive, plain, _: plain + positive,
    "concat": lambda comfy, positive, plain, _: comfy.call(
        "ConditioningConcat", conditioning_to=positive, conditioning_from=plain
    )[0],
    "average": lambda comfy, positive, plain, _: comfy.call(
        "ConditioningAverage", conditioning_to=positive, conditioning_from=plain, conditioning_to_strength=0.5
    )[0],
    "a range of time": lambda comfy, positive, plain, _: comfy.call(
        "ConditioningSetTimestepRange", conditioning=positive, start=0.0, end=0.9
    )[0] + comfy.call("ConditioningSetTimestepRange", conditioning=plain, start=0.9, end=1.0)[0],
    "zero out": lambda comfy, positive, *_: comfy.call("ConditioningZeroOut", conditioning=positive)[0],
    "mask": lambda comfy, positive, *_: comfy.call(
        "ConditioningSetMask", conditioning=positive, mask=torch.ones(1, 32, 32), strength=1.0, set_cond_area="default"
    )[0],
    "whole area": lambda comfy, positive, *_: comfy.call(
        "ConditioningSetAreaPercentage", conditioning=positive, width=1.0, height=1.0, x=0.0, y=0.0, strength=1.0
    )[0],
}  # fmt: skip


@pytest.mark.parametrize(("behind", "tokens"), [(name, TOKENS[i % 3]) for i, name in enumerate(BEHIND)])
def test_what_other_nodes_do_with_the_conditioning_is_not_taken_for_a_missing_one(
    comfy, pair, in_context, case, tokens, behind
):
    made = case(tokens)
    patched, positive = conditioned(in_context, pair[0], made)
    plain = made.positive
    _, before = sampling.predict(patched, made.latent, made.sigma, positive)
    other = BEHIND[behind](comfy, positive, plain, made)
    velocity, raw = sampling.predict(patched, made.latent, made.sigma, other)
    assert velocity.isfinite().all()
    if behind in ("reference method", "mask", "whole area"):
        assert torch.equal(raw[0], before[0]), "nothing that concerns the planner has changed"


def _dual(comfy, model, first, second, negative, style="regular"):
    inputs = {"cond1": first, "cond2": second, "negative": negative, "style": style}
    return comfy.call("DualCFGGuider", model=model, cfg_conds=3.0, cfg_cond2_negative=2.0, **inputs)[0]


GUIDERS = {
    "basic": lambda comfy, model, positive, plain: comfy.call("BasicGuider", model=model, conditioning=positive)[0],
    "cfg": lambda comfy, model, positive, plain: comfy.call(
        "CFGGuider", model=model, positive=positive, negative=plain, cfg=3.0
    )[0],
    "dual": lambda comfy, model, positive, plain: _dual(comfy, model, positive, positive, plain),
    "perpendicular": lambda comfy, model, positive, plain: comfy.call(
        "PerpNegGuider", model=model, positive=positive, negative=plain, empty_conditioning=plain, cfg=3.0,
        neg_scale=1.0,
    )[0],
}  # fmt: skip


def sample(comfy, guider, made):
    return comfy.call(
        "SamplerCustomAdvanced", noise=comfy.call("RandomNoise", noise_seed=3)[0], guider=guider,
        sampler=comfy.call("KSamplerSelect", sampler_name="euler")[0], sigmas=torch.tensor([1.0, 0.5, 0.0]),
        latent_image={"samples": torch.zeros_like(made.latent)},
    )[0]["samples"]  # fmt: skip


@pytest.mark.parametrize(("guider", "tokens"), list(zip(GUIDERS, [*TOKENS, TOKENS[0]], strict=True)))
def test_every_guider_takes_a_plain_negative_and_refuses_a_plain_positive(
    comfy, pair, in_context, case, tokens, guider
):
    made = case(tokens)
    patched, positive = conditioned(in_context, pair[0], made)
    assert sample(comfy, GUIDERS[guider](comfy, patched, positive, made.positive), made).isfinite().all()
    with pytest.raises(ValueError, match="^positive conditioning must come from the Condition node"):
        sample(comfy, GUIDERS[guider](comfy, patched, made.positive, positive), made)


@pytest.mark.parametrize(("place", "style"), [(0, "regular"), (1, "nested")])
def test_one_of_two_positives_may_be_plain(comfy, pair, in_context, case, place, style):
    made = case()
    patched, positive = conditioned(in_context, pair[0], made)
    both = [made.positive, made.positive]
    both[place] = positive
    assert sample(comfy, _dual(comfy, patched, *both, made.positive, style), made).isfinite().all()


def test_a_reference_that_was_replaced_is_named(pair, in_context, case):
    made = case()
    patched, positive = conditioned(in_context, pair[0], made)
    emptied = [[embedding, {**settings, "reference_latents": []}] for embedding, settings in positive]
    with pytest.raises(ValueError, match="must keep the first frame .* put that node before Condition"):
        sampling.predict(patched, made.latent, made.sigma, emptied)


def test_a_planner_on_a_planner_has_one_mark(pair, in_context, case):
    made = case()
    _, positive = conditioned(in_context, pair[0], made)
    again = in_context.mark_conditioning(positive, made.condition + 1, made.spec.guidance)
    ((_, settings),) = again
    assert len(settings["reference_latents"]) == 1 and torch.equal(settings["reference_latents"][0], made.condition + 1)
    ((_, first),) = positive
    assert torch.equal(first["reference_latents"][0], made.condition), "the conditioning that went in stays as it was"

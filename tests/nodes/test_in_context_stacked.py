"""A planner beside what users put on a FLUX model: ControlNet, fp8, packed weights, torch.compile, masks."""

import copy
import dataclasses

import lora_factory
import pytest
import sampling
import torch
from cases import Case, conditioned

pytestmark = pytest.mark.comfyui
TOKENS = ("full_grid", "first_cell", "first_cell_cached")
TOLERANCE = 1e-5


def plan(model, case, positive, seed=5, steps=4, **settings):
    import comfy.sample

    empty = settings.pop("latent", torch.zeros_like(case.latent))
    noise = comfy.sample.prepare_noise(empty, seed)
    return comfy.sample.sample(
        model, noise, steps, 1.0, "euler", "simple", positive, positive, empty, disable_pbar=True, seed=seed, **settings
    )


def random_controlnet(model):
    """A small FLUX ControlNet of random weights in ComfyUI's own classes, as its loader would make it.

    Args:
        model: MODEL to steer; what its network needs to be told differs between versions of ComfyUI.
    """
    import comfy.controlnet
    import comfy.ldm.flux.controlnet
    import comfy.ops

    settings = {**dataclasses.asdict(model.model.diffusion_model.params), "depth": 1, "depth_single_blocks": 1}
    network = comfy.ldm.flux.controlnet.ControlNetFlux(
        latent_input=True, dtype=torch.float32, operations=comfy.ops.disable_weight_init, **settings
    )
    generator = torch.Generator().manual_seed(11)
    for parameter in network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return comfy.controlnet.ControlNet(
        network.eval(), compression_ratio=1, latent_format=comfy.latent_formats.Flux(),
        load_device=torch.device("cpu"), extra_conds=["y", "guidance"],
    )  # fmt: skip


@pytest.mark.parametrize("tokens", TOKENS)
def test_controlnet_steers_the_grids_tokens_only(comfy, pair, in_context, spec_of, tiny_vae, tokens):
    """Stock ControlNet node; the reference adds the same residuals in diffusers, zeros on the condition's tokens."""
    model, transformer = pair
    case = Case(spec_of, 51, rows=2, cols=2, cell_height=32, cell_width=32, batch=1, condition_tokens=tokens)
    patched, positive = conditioned(in_context, model, case)
    hint = torch.rand(1, *case.spec.grid_size, 3, generator=torch.Generator().manual_seed(2))
    steered, _ = comfy.call(
        "ControlNetApplyAdvanced", positive=positive, negative=positive, control_net=random_controlnet(model),
        image=hint, strength=0.8, start_percent=0.0, end_percent=1.0, vae=tiny_vae,
    )  # fmt: skip
    seen = []

    def record(executor, *args, **kwargs):
        control = args[6]
        seen.append([[part.clone() for part in control[name][:1]] for name in ("input", "output")])
        return executor(*args, **kwargs)

    patched.add_wrapper_with_key("diffusion_model", "record", record)
    _, raw = sampling.predict(patched, case.latent, case.sigma, steered)
    assert len(seen) == 1
    assert (raw[0] - case.wanted(transformer, residuals=seen[0])).abs().max() <= TOLERANCE
    assert (raw[0] - case.wanted(transformer)).abs().max() > 1e-3


@pytest.fixture
def rounded(pair, tiny, tmp_path):
    """`rounded(number_type)`: MODEL whose weights are stored so and computed in float32, and diffusers' with the same
    weights, as the stock loader's `weight_dtype` makes it."""
    import comfy.supported_models_base

    _, transformer = pair

    def load(number_type):
        transformer.save_pretrained(tmp_path / "transformer")
        base = comfy.supported_models_base.BASE
        original = base.set_inference_dtype
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(base, "set_inference_dtype", lambda self, *_: original(self, number_type, torch.float32))
            model = tiny.load_model(tmp_path)
        twin = copy.deepcopy(transformer)
        for parameter in twin.parameters():
            parameter.copy_(parameter.to(number_type).float())
        return model, twin

    return load


@pytest.mark.parametrize("tokens", TOKENS)
def test_fp8_weights(rounded, in_context, spec_of, tokens):
    model, transformer = rounded(torch.float8_e4m3fn)
    assert model.model.diffusion_model.double_blocks[0].img_attn.qkv.weight.dtype == torch.float8_e4m3fn
    case = Case(spec_of, 53, condition_tokens=tokens)
    patched, positive = conditioned(in_context, model, case)
    _, raw = sampling.predict(patched, case.latent, case.sigma, positive)
    assert (raw[0] - case.wanted(transformer)).abs().max() <= TOLERANCE


def packed_model(model):
    """MODEL of the kind that GGUF loaders make: a patcher of its own, and linear layers whose weights are packed
    (here 8-bit rows with a scale) and are unpacked, with the LoRA's patches on top, whenever they are used."""
    import comfy.lora
    import comfy.model_patcher

    class PackedLinear(torch.nn.Module):
        def __init__(self, linear):
            super().__init__()
            scale = linear.weight.abs().amax(dim=1, keepdim=True) / 127
            packed = (linear.weight / scale).round().to(torch.int8)
            self.weight = torch.nn.Parameter(packed, requires_grad=False)
            self.bias = linear.bias
            self.register_buffer("scale", scale)
            self.patches = {}

        def unpacked(self):
            weight = self.weight.float() * self.scale
            for key, patches in self.patches.items():
                weight = comfy.lora.calculate_weight(patches, weight, key)
            return weight

        def forward(self, x):
            return torch.nn.functional.linear(x, self.unpacked().to(x), self.bias)

    class PackedPatcher(comfy.model_patcher.ModelPatcher):
        def patch_weight_to_device(self, key, *args, **kwargs):
            module = self.model.get_submodule(key.rpartition(".")[0])
            if isinstance(module, PackedLinear) and key.endswith(".weight") and key in self.patches:
                module.patches = {key: self.patches[key]}
                return
            super().patch_weight_to_device(key, *args, **kwargs)

        def unpatch_model(self, device_to=None, unpatch_weights=True):
            if unpatch_weights:
                for module in self.model.modules():
                    if isinstance(module, PackedLinear):
                        module.patches = {}
            return super().unpatch_model(device_to, unpatch_weights)

    network = model.model
    for parent in list(network.diffusion_model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.Linear):
                setattr(parent, name, PackedLinear(child))
    return PackedPatcher(network, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))


@pytest.mark.parametrize("tokens", TOKENS)
def test_packed_weights_of_a_gguf_like_loader(pair, tiny, in_context, spec_of, module, tmp_path, tokens):
    """A planner LoRA on packed weights: its own patcher class goes through every step, its layers do the arithmetic."""
    _, transformer = pair
    transformer.save_pretrained(tmp_path / "transformer")
    packed = packed_model(tiny.load_model(tmp_path))
    twin = copy.deepcopy(transformer)
    lora = lora_factory.random_lora(transformer)
    for name, linear in twin.named_modules():
        if isinstance(linear, torch.nn.Linear):
            linear.weight.copy_(_as_packed(linear.weight))
            down, up = lora[name]
            linear.weight += 0.7 * up @ down
    file = lora_factory.save(lora_factory.diffusers_keys(lora), tmp_path / "planner.safetensors")
    loaded = module("nodes.comfy.lora.lora").apply_lora(packed, file, "planner", 0.7)
    case = Case(spec_of, 55, condition_tokens=tokens)
    patched, positive = conditioned(in_context, loaded, case)
    assert type(patched) is type(packed)
    _, raw = sampling.predict(patched, case.latent, case.sigma, positive)
    assert (raw[0] - case.wanted(twin)).abs().max() <= 5 * TOLERANCE
    _, without = sampling.predict(in_context.patch_model(packed, case.spec), case.latent, case.sigma, positive)
    assert (raw[0] - without[0]).abs().max() > 1e-3


def _as_packed(weight):
    """A weight after packing. The scales are per row, so the parts of fused layers pack as they do alone."""
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scale).round() * scale


# Tracing goes through GridLayout's cached table of cells, as it should; the warning is about side effects, it has none.
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
@pytest.mark.parametrize("tokens", TOKENS)
def test_torch_compile(comfy, pair, in_context, spec_of, tokens):
    """The stock compile hook, with the backend that runs what was traced as it is."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model, transformer = pair
    case = Case(spec_of, 57, rows=2, cols=2, condition_tokens=tokens)
    patched, positive = conditioned(in_context, model, case)
    compiled = patched.clone()
    set_torch_compile_wrapper(compiled, backend="eager")
    try:
        first, _ = sampling.predict(compiled, case.latent, case.sigma, positive, watched=False)
        case.condition = -case.condition
        positive = conditioned(in_context, model, case)[1]
        other, _ = sampling.predict(compiled, case.latent, case.sigma, positive, watched=False)
        assert (other - case.wanted(transformer)).abs().max() <= TOLERANCE
        case.condition = -case.condition
        assert (first - case.wanted(transformer)).abs().max() <= TOLERANCE
    finally:
        torch._dynamo.reset()


@pytest.mark.parametrize("tokens", TOKENS)
def test_a_noise_mask_keeps_what_is_given(pair, in_context, spec_of, tokens):
    """Inpainting: where the mask is 0 the latent stays, where it is 1 the plan is generated; all ones is no mask."""
    model, _ = pair
    case = Case(spec_of, 59, rows=2, cols=2, cell_height=32, cell_width=32, batch=1, condition_tokens=tokens)
    patched, positive = conditioned(in_context, model, case)
    given = case.noise(*case.latent.shape)
    mask = torch.ones(1, 1, *case.latent.shape[-2:])
    free = plan(patched, case, positive, latent=given)
    assert (plan(patched, case, positive, latent=given, noise_mask=mask) - free).abs().max() <= TOLERANCE
    mask[..., :4, :4] = 0
    kept = plan(patched, case, positive, latent=given, noise_mask=mask)
    assert (kept - given)[..., :4, :4].abs().max() <= 1e-4
    assert (kept - given)[..., 4:, 4:].abs().max() > 0.1
    assert (kept - free)[..., 4:, 4:].abs().max() > 1e-4


@pytest.mark.parametrize("tokens", TOKENS)
def test_model_sampling_flux_changes_the_schedule_only(comfy, pair, in_context, spec_of, tokens):
    model, transformer = pair
    case = Case(spec_of, 61, rows=2, cols=2, batch=1, condition_tokens=tokens)
    patched, positive = conditioned(in_context, model, case)
    (shifted,) = comfy.call("ModelSamplingFlux", model=patched, max_shift=1.9, base_shift=0.3, width=256, height=256)
    assert shifted.get_model_object("model_sampling").shift == pytest.approx(0.3)
    assert patched.get_model_object("model_sampling").shift == pytest.approx(case.spec.mu())
    _, raw = sampling.predict(shifted, case.latent, case.sigma, positive)
    assert (raw[0] - case.wanted(transformer)).abs().max() <= TOLERANCE
    assert (plan(shifted, case, positive) - plan(patched, case, positive)).abs().max() > 1e-3

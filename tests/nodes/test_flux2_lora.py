"""Planner LoRAs on FLUX.2: every key format places every layer, as diffusers does with the LoRA in its weights."""

import copy

import lora_factory
import pytest
import sampling
import torch
from flux2_cases import Flux2Case

from visual_planner.planner.presets import PRESETS

pytestmark = pytest.mark.comfyui
QKV = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
RENAMED = (
    ("single_transformer_blocks.", "single_blocks."), ("transformer_blocks.", "double_blocks."),
    ("attn.to_qkv_mlp_proj", "linear1"), ("attn.to_out.0", "img_attn.proj"), ("attn.to_add_out", "txt_attn.proj"),
    ("attn.to_out", "linear2"), ("ff_context.linear_in", "txt_mlp.0"), ("ff_context.linear_out", "txt_mlp.2"),
    ("ff.linear_in", "img_mlp.0"), ("ff.linear_out", "img_mlp.2"), ("x_embedder", "img_in"),
    ("context_embedder", "txt_in"), ("time_guidance_embed.timestep_embedder.linear_1", "time_in.in_layer"),
    ("time_guidance_embed.timestep_embedder.linear_2", "time_in.out_layer"), ("proj_out", "final_layer.linear"),
    ("norm_out.linear", "final_layer.adaLN_modulation.1"), ("_img.linear", "_img.lin"), ("_txt.linear", "_txt.lin"),
    ("single_stream_modulation.linear", "single_stream_modulation.lin"),
)  # fmt: skip


@pytest.fixture(scope="module")
def lora(flux2_pair):
    """Random low-rank matrices for every linear layer."""
    return lora_factory.random_lora(flux2_pair[1])


@pytest.fixture(scope="module")
def fused(flux2_pair, lora):
    """diffusers' transformer with the matrices in its weights."""
    transformer = copy.deepcopy(flux2_pair[1])
    for name, (down, up) in lora.items():
        transformer.get_submodule(name).weight += up @ down
    return transformer


@pytest.fixture
def folder(comfy):
    import folder_paths

    place = comfy.base / "models" / "loras"
    place.mkdir(parents=True, exist_ok=True)
    folder_paths.filename_list_cache.clear()
    yield place
    for file in place.rglob("*.*"):
        file.unlink()
    folder_paths.filename_list_cache.clear()


def bfl(lora):
    """The same matrices on BFL's layers, written out apart from the plugin's own tables."""
    rest, joined = dict(lora), {}
    for number in {name.split(".")[1] for name in lora if name.startswith("transformer_blocks.")}:
        for whole, names in QKV.items():
            parts = [rest.pop(f"transformer_blocks.{number}.{name}") for name in names]
            down, up = torch.cat([part[0] for part in parts]), torch.block_diag(*[part[1] for part in parts])
            joined[f"double_blocks.{number}.{whole}"] = (down, up)
    for name, (down, up) in rest.items():
        if name == "norm_out.linear":  # diffusers has the scale first, BFL the shift
            up = torch.cat(up.chunk(2)[::-1])
        for old, new in RENAMED:
            name = name.replace(old, new)
        joined[name] = (down, up)
    return joined


FORMATS = {
    "diffusers": lambda lora: lora_factory.diffusers_keys(lora),
    "diffusers without prefix": lambda lora: lora_factory.diffusers_keys(lora, prefix=""),
    "peft": lambda lora: lora_factory.diffusers_keys(lora, prefix="base_model.model."),
    "onetrainer": lambda lora: lora_factory.flat_keys(lora, "lora_transformer_"),
    "lycoris": lambda lora: lora_factory.flat_keys(lora, "lycoris_"),
    "bfl": lambda lora: lora_factory.diffusers_keys(bfl(lora), prefix="diffusion_model."),
    "peft with bfl's names": lambda lora: lora_factory.diffusers_keys(bfl(lora), prefix="base_model.model."),
    "kohya": lambda lora: lora_factory.flat_keys(bfl(lora), "lora_unet_"),
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_places_every_layer(comfy, folder, flux2_pair, lora, fused, spec_of, form):
    model, plain = flux2_pair
    case = Flux2Case(spec_of, 2, rows=2, cols=2, condition_tokens="first_cell", position_ids="clone")
    lora_factory.save(FORMATS[form](lora), folder / "planner.safetensors", case.spec.to_metadata())
    patched, spec = comfy.call("VisualPlannerLoraLoader", model=model, lora_name="planner.safetensors")
    assert spec == case.spec
    assert len(patched.patches) == len(bfl(lora)) > 20
    _, raw = sampling.predict(patched, case.latent, case.sigma, case.positive)
    with_lora, without = (unconditioned(transformer, case) for transformer in (fused, plain))
    assert (with_lora - without).abs().max() > 0.05
    assert (raw[0] - with_lora).abs().max() <= 1e-5


def unconditioned(transformer, case):
    from flux2_cases import placed, text_ids, tokens_of

    batch = len(case.latent)
    out = transformer(
        tokens_of(case.latent),
        encoder_hidden_states=case.context.expand(batch, -1, -1),
        timestep=torch.full((batch,), float(case.sigma)),
        img_ids=placed(case.spec, *case.latent.shape[-2:])[0],
        txt_ids=text_ids(case.context.shape[1]),
        return_dict=False,
    )[0]
    return out.transpose(1, 2).unflatten(2, case.latent.shape[-2:])


def test_planners_of_the_other_family_are_refused_in_one_line(comfy, folder, flux2_pair, tiny_model, lora, spec_of):
    for model, family, message in (
        (
            tiny_model,
            "flux2",
            r"must be a FLUX\.2 model, which planner LoRA p\.safetensors asks for, got a FLUX\.1 model",
        ),
        (flux2_pair[0], "flux1", r"must be a FLUX\.1 model, which planner LoRA p\.safetensors asks for, got a FLUX\.2"),
    ):
        tensors = lora_factory.diffusers_keys(lora)
        lora_factory.save(tensors, folder / "p.safetensors", spec_of(family=family).to_metadata())
        with pytest.raises(ValueError, match=message) as caught:
            comfy.call("VisualPlannerLoraLoader", model=model, lora_name="p.safetensors")
        assert "\n" not in str(caught.value)


def test_a_base_lora_of_the_other_family_is_refused(comfy, folder, flux2_pair, lora, spec_of):
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        other = FluxTransformer2DModel(num_layers=1, num_single_layers=1, num_attention_heads=2, attention_head_dim=128)
    lora_factory.save(
        lora_factory.diffusers_keys(lora), folder / "p.safetensors", spec_of(family="flux2").to_metadata()
    )
    foreign = lora_factory.random_lora(other)
    lora_factory.save(lora_factory.diffusers_keys(foreign), folder / "base.safetensors")
    with pytest.raises(ValueError, match=r"LoRA base\.safetensors must fit the model"):
        comfy.call(
            "VisualPlannerLoraLoader",
            model=flux2_pair[0],
            lora_name="p.safetensors",
            base_lora_name="base.safetensors",
        )


def test_a_lora_without_a_record_is_refused_by_its_keys_or_its_preset(comfy, folder, flux2_pair, tiny_model, lora):
    """Published LoRAs have no record, and every preset is of FLUX.1."""
    lora_factory.save(lora_factory.diffusers_keys(lora), folder / "p.safetensors")
    for model, message in (
        (flux2_pair[0], r"^model must be a FLUX\.1 model, which planner LoRA p\.safetensors asks for, got a FLUX\.2 "),
        (tiny_model, r"^LoRA p\.safetensors must fit the model, "),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            comfy.call("VisualPlannerLoraLoader", model=model, lora_name="p.safetensors", preset=next(iter(PRESETS)))
        assert "\n" not in str(caught.value)


def test_a_record_of_a_family_that_nobody_knows_is_refused(comfy, folder, flux2_pair, lora, spec_of):
    metadata = spec_of(family="flux2").to_metadata()
    (key,) = [key for key, text in metadata.items() if '"flux2"' in text]
    newer = metadata | {key: metadata[key].replace('"flux2"', '"flux3"')}
    lora_factory.save(lora_factory.diffusers_keys(lora), folder / "p.safetensors", newer)
    with pytest.raises(ValueError, match=r"family must be one of flux1, flux2, got 'flux3'") as caught:
        comfy.call("VisualPlannerLoraLoader", model=flux2_pair[0], lora_name="p.safetensors")
    assert "\n" not in str(caught.value)

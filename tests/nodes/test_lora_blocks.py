"""Strength by block: the same as a file scaled by hand, for every kind of adapter, merged and beside the weights."""

import adapter_factory
import lora_factory
import pytest
import quantised
import torch
from sampling import distance, flux2_velocity, velocity

from support.small_spec import SMALL_SPEC

pytestmark = pytest.mark.comfyui
RULES = "double: 0.5; single 1: -2; other: 0.25"
"""On the tiny planner's double and single blocks; its first single block keeps 1."""


def share(name):
    """Strength of a layer of diffusers by `RULES`, told without the plugin's own code."""
    if name.startswith("transformer_blocks."):
        return 0.5
    if name.startswith("single_transformer_blocks."):
        return -2.0 if name.split(".")[1] == "1" else 1.0
    return 0.25


@pytest.fixture
def put(module, folder):
    """Put a file on a MODEL: `put(model, tensors, how=..., blocks=...)`."""

    def run(model, tensors, strength=0.8, notes=None, **settings):
        path = lora_factory.save(tensors, folder / f"{len(list(folder.iterdir()))}.safetensors")
        return module("nodes.comfy.lora.lora").apply_lora(model, path, "a", strength, notes, **settings)

    return run


def merged_weights(model):
    return {key: [(p[0], p[1]) for p in patches] for key, patches in model.patches.items()}


@pytest.mark.parametrize("text", ["", "all: 1", "double: 3; double: 1"])
def test_all_ones_are_the_bits_of_before(put, lora, tiny_model, text):
    """One call of ComfyUI's with the same patches in the same order, and the same matrices beside."""
    tensors = lora_factory.diffusers_keys(lora)
    plain, given = put(tiny_model, tensors), put(tiny_model, tensors, blocks=text)
    first, second = adapter_factory.weights(plain), adapter_factory.weights(given)
    assert list(first) == list(second) and all(torch.equal(first[key], second[key]) for key in first)
    strengths = {patch[0] for patches in given.patches.values() for patch in patches}
    assert strengths == {0.8} and len(first) > 20
    beside = [velocity(put(tiny_model, tensors, how="beside", **more)) for more in ({}, {"blocks": text})]
    assert torch.equal(*beside)


@pytest.mark.parametrize("how", ["merged", "beside"])
def test_all_zeros_are_the_base(put, lora, tiny_model, how):
    notes = []
    patched = put(tiny_model, lora_factory.diffusers_keys(lora), how=how, blocks="all: 0", notes=notes)
    assert not patched.patches and not patched.attachments
    assert torch.equal(velocity(patched), velocity(tiny_model))
    assert "LoRA a: strength by block other: 0; double: 0; single: 0, so that it does nothing" in notes


@pytest.mark.parametrize("how", ["merged", "beside"])
def test_it_is_a_file_scaled_by_hand(put, lora, tiny_model, how):
    tensors = lora_factory.diffusers_keys(lora)
    scaled = lora_factory.diffusers_keys({name: (down, up * share(name)) for name, (down, up) in lora.items()})
    notes = []
    given = put(tiny_model, tensors, how=how, blocks=RULES, notes=notes)
    wanted = put(tiny_model, scaled, how=how)
    assert distance(velocity(given), velocity(wanted)) <= 1e-5
    assert distance(velocity(put(tiny_model, tensors, how=how)), velocity(wanted)) > 1e-3
    assert notes[0] == "LoRA a: strength by block other: 0.25; double: 0.5; single 1: -2"


@pytest.mark.parametrize("how", ["merged", "beside"])
def test_flux2_has_blocks_too(put, flux2_pair, how):
    model, transformer = flux2_pair
    lora = lora_factory.random_lora(transformer)
    scaled = lora_factory.diffusers_keys({name: (down, up * share(name)) for name, (down, up) in lora.items()})
    tensors = lora_factory.diffusers_keys(lora)
    given, wanted = put(model, tensors, how=how, blocks=RULES), put(model, scaled, how=how)
    assert distance(flux2_velocity(given), flux2_velocity(wanted)) <= 1e-5
    assert distance(flux2_velocity(put(model, tensors, how=how)), flux2_velocity(wanted)) > 1e-3
    assert torch.equal(flux2_velocity(put(model, tensors, how=how, blocks="all: 0")), flux2_velocity(model))


@pytest.mark.parametrize("how", ["merged", "beside"])
@pytest.mark.parametrize("kind", [kind for kind in adapter_factory.KINDS if kind != "lora bias"])
def test_every_kind_is_scaled_by_layers(put, tiny_model, kind, how):
    """A rule is the same as two files, each of the layers of one strength, loaded with it."""
    parts = {}
    for number, layer in enumerate(("transformer_blocks.0.attn.to_q", "single_transformer_blocks.1.proj_out")):
        rows, columns = adapter_factory.size_of(tiny_model, f"transformer.{layer}")
        made = adapter_factory.parts_of(kind, rows, columns, 20 + number)
        parts[layer] = adapter_factory.in_file(f"transformer.{layer}", made)
    first, second = parts.values()
    given = put(tiny_model, first | second, how=how, blocks="double: 0.5; single 1: 1.5")
    wanted = put(put(tiny_model, first, 0.4, how=how), second, 0.8 * 1.5, how=how)
    ours, theirs = adapter_factory.weights(given), adapter_factory.weights(wanted)
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[key], theirs[key], atol=1e-6) for key in ours)
    assert distance(velocity(given), velocity(wanted)) <= 1e-5
    off = put(tiny_model, first | second, how=how, blocks="double: 0")
    assert distance(velocity(off), velocity(put(tiny_model, second, how=how))) <= 1e-6


def test_the_node_scales_the_planner_lora_on_a_base_lora(comfy, tiny, tiny_folder, folder, lora, spec_of):
    """Beside fp8 weights; the base LoRA stays as it is."""
    model = tiny.load_model(tiny_folder)
    quantised.quantise(model, "fp8")
    base = {name: (down.roll(1, 1), up * 0.7) for name, (down, up) in lora.items()}
    record = spec_of(**SMALL_SPEC).to_metadata()

    def save(name, tensors, factors):
        scaled = {key: (down, up * factors(key)) for key, (down, up) in tensors.items()}
        lora_factory.save(lora_factory.diffusers_keys(scaled), folder / name, record)

    def load(**settings):
        node = comfy.node("VisualPlannerLoraLoader").PREPARE_CLASS_CLONE({})
        made = node.execute(
            model=model, lora_name="task.safetensors", base_lora_name="base.safetensors", strength=0.5, **settings
        )
        return velocity(made.result[0]), made.ui["text"][0]

    save("base.safetensors", base, lambda name: 1.0)
    save("task.safetensors", lora, lambda name: 1.0)
    plain, _ = load()
    given, text = load(blocks=RULES)
    assert "LoRA task.safetensors: strength by block other: 0.25; double: 0.5; single 1: -2\n" in text
    with pytest.raises(ValueError, match=r"blocks must name double blocks of this model \(0 to 1\), got 9"):
        load(blocks="double 9: 0")
    save("task.safetensors", lora, share)
    wanted, _ = load()
    assert distance(given, wanted) <= 1e-5 and distance(plain, wanted) > 1e-3


def test_whole_weights_are_only_switched(put, tiny_model):
    """ComfyUI puts another weight in the place of the model's whatever the strength, which the text says."""
    layer = "transformer.single_transformer_blocks.1.proj_out"
    tensors = adapter_factory.in_file(
        layer, adapter_factory.parts_of("set", *adapter_factory.size_of(tiny_model, layer), 1)
    )
    notes = []
    half = put(tiny_model, tensors, blocks="single: 0.5", notes=notes)
    assert "LoRA a: 1 of its layers are whole weights, which a strength by block can only switch off" in notes
    whole = put(tiny_model, tensors)
    assert distance(velocity(half), velocity(whole)) == 0 < distance(velocity(whole), velocity(tiny_model))

"""Every kind of adapter beside the weights: as in a float model, alone and in chains, and said where it is merged."""

import adapter_factory
import lora_factory
import pytest
import quantised
import torch
from adapter_factory import in_file, parts_of, size_of
from sampling import distance, velocity

pytestmark = pytest.mark.comfyui
MERGED = ("set",)
"""Kinds that never act beside."""
LARGE = {"diff": "whole differences", "boft": "BOFT"}
"""Kinds that act beside only where that is asked, and what the text calls them."""
SMALL = {"loha": 300, "loha tucker": 20_000, "lokr halves": 300, "lokr tucker": 300}
"""Factors for kinds whose random matrices multiply to next to nothing."""
LAYERS = (
    "transformer.transformer_blocks.0.attn.to_q",
    "transformer.transformer_blocks.1.attn.to_out.0",
    "transformer.single_transformer_blocks.0.proj_out",
    "transformer.x_embedder",
)


@pytest.fixture
def put(module, folder):
    """Put a file on a MODEL."""

    def run(model, tensors, strength=0.8, notes=None, **settings):
        path = lora_factory.save(tensors, folder / f"{len(list(folder.iterdir()))}.safetensors")
        return module("nodes.comfy.lora.lora").apply_lora(model, path, "a", strength, notes, **settings)

    return run


@pytest.fixture
def packed(tiny, tiny_folder):
    """`packed(stored)`: MODEL with quantised layers, and one of usual weights with the same values."""

    def load(stored):
        model, twin = tiny.load_model(tiny_folder), tiny.load_model(tiny_folder)
        quantised.quantise(model, stored)
        quantised.round_as(twin, model)
        return model, twin

    return load


def adapter(model, kind, seed, layers=LAYERS):
    """An adapter on a part of a fused layer, on whole ones, and on one outside of the blocks."""
    tensors = {}
    for number, layer in enumerate(layers):
        parts = parts_of(kind, *size_of(model, layer), seed + number)
        first = next(iter(parts))
        tensors |= in_file(layer, parts | {first: parts[first] * SMALL.get(kind, 1)})
    return tensors


def is_beside(kind, layer):
    """Whether a kind acts beside a layer: not on a part of a fused one where the layer would have to be asked twice."""
    return kind not in MERGED and not (layer.endswith("to_q") and kind in ("glora", "glora old", "dora columns"))


@pytest.mark.parametrize("kind", adapter_factory.KINDS)
def test_beside_is_what_merging_gives(put, tiny_model, kind):
    tensors = adapter(tiny_model, kind, 50)
    merged, beside = put(tiny_model, tensors, how="merged"), put(tiny_model, tensors, how="beside")
    wanted = velocity(merged)
    assert distance(velocity(beside), wanted) <= 2e-5
    assert distance(velocity(tiny_model), wanted) > 1e-3
    left = sum(not is_beside(kind, layer) for layer in LAYERS)
    assert len(beside.patches) == left, "only what cannot act beside is merged"
    assert len(beside.get_attachment("visual_planner.lora_beside") or ()) == len(LAYERS) - left


@pytest.mark.parametrize("kind", [kind for kind in adapter_factory.KINDS if kind not in MERGED])
def test_a_quantised_base_gets_all_of_it(put, packed, kind):
    """By itself where it needs little memory; half of merging's error is asked for, a hundredth comes out."""
    model, twin = packed("fp8")
    tensors = adapter(model, kind, 60, [layer for layer in LAYERS if is_beside(kind, layer)])
    notes = []
    how = "beside" if kind in LARGE else "auto"
    beside, wanted = velocity(put(model, tensors, notes=notes, how=how)), velocity(put(twin, tensors, how="merged"))
    merged = velocity(put(model, tensors, how="merged"))
    assert distance(beside, wanted) <= 2e-5
    assert distance(beside, wanted) <= 0.05 * distance(merged, wanted)
    assert notes[0].startswith("LoRA a: beside the weights of ") and len(notes) == 1


@pytest.mark.parametrize("kind", [*LARGE, *MERGED])
def test_what_is_merged_is_said(put, packed, kind):
    model, _ = packed("fp8")
    notes = []
    patched = put(model, adapter(model, kind, 70), notes=notes)
    assert len(patched.patches) == len(LAYERS) and not patched.attachments
    name = LARGE.get(kind, "whole weights")
    assert notes == [
        "LoRA a: merged into 4 layers (fp8)",
        f"LoRA a has layers that are merged into quantised weights, which rounds them: 4 of {name}",
    ]


@pytest.mark.parametrize("kind", ["dora rows", "dora columns", "glora", "oft", "lokr", "loha dora"])
def test_adapters_stand_on_each_other(put, tiny_model, kind):
    """In their order: a product finds what came before it, beside or merged, and what comes later finds the product."""
    layers = LAYERS[1:3]
    files = [adapter(tiny_model, one, seed, layers) for one, seed in (("lora", 1), (kind, 5), ("lora bias", 9))]
    outputs = []
    for how in ("merged", "beside"):
        model = tiny_model
        for tensors in files:
            model = put(model, tensors, how=how)
        outputs.append(velocity(model))
    assert not model.patches
    assert distance(outputs[1], outputs[0]) <= 5e-5
    late = put(model, adapter(tiny_model, "set", 13, layers[:1]), how="beside")
    wanted = tiny_model
    for tensors in (*files, adapter(tiny_model, "set", 13, layers[:1])):
        wanted = put(wanted, tensors, how="merged")
    assert distance(velocity(late), velocity(wanted)) <= 5e-5


@pytest.mark.parametrize("stored", ["fp8", "int8"])
@pytest.mark.parametrize(
    "layer", ["transformer_blocks.0.attn.to_v", "transformer_blocks.0.ff.net.2", "norm_out.linear"]
)
def test_dora_of_peft_on_packed_weights(put, packed, stored, layer):
    """PEFT's lengths are those of the sum's rows; the base's weight need not be readable for it.

    Not queries or keys: those are normalised after the layer, and the lengths of their rows change hardly anything.
    """
    model, twin = packed(stored)
    rows, columns = size_of(model, f"transformer.{layer}")
    pair = parts_of("lora", rows, columns, 3)
    lengths = torch.rand(rows, generator=torch.Generator().manual_seed(4)) + 0.5
    tensors = in_file(f"transformer.{layer}", {**pair, "lora_magnitude_vector": lengths})
    wanted = velocity(put(twin, tensors, how="merged"))
    own = distance(velocity(model), velocity(twin))
    beside = put(model, tensors)
    assert not beside.patches and distance(velocity(beside), wanted) <= 5e-5 + 2 * own
    assert distance(velocity(twin), wanted) > 1e-2 + 2 * own
    if layer.endswith("net.2"):
        late = in_file(f"transformer.{layer}", parts_of("diff", rows, columns, 5))
        with pytest.raises(ValueError, match="beside which PEFT's DoRA acts: set where to merged"):
            put(beside, late)


def test_what_is_used_is_freed(put, tiny_model):
    """Chains too; and the model is as it was."""
    before = velocity(tiny_model)
    patched = put(tiny_model, adapter(tiny_model, "dora rows", 3), how="beside")
    velocity(patched)
    layers = patched.get_attachment("visual_planner.lora_beside")
    assert layers and not any(layer._factors for layer in layers.values())
    assert not any("forward" in module.__dict__ for module in tiny_model.model.modules())
    assert torch.equal(velocity(tiny_model), before)

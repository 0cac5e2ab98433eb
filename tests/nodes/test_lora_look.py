"""Look into Planner LoRA: the sizes are those of the weights that the loader makes, and the record is the file's."""

import adapter_factory
import lora_factory
import numpy as np
import pytest
import quantised
import torch
from adapter_factory import in_file, parts_of, size_of
from torch.nn import Linear

from support.small_spec import SMALL_SPEC

pytestmark = pytest.mark.comfyui


@pytest.fixture
def look(comfy, folder):
    """Put tensors into a file and look into it: report, picture, blocks."""

    def run(model, tensors, metadata=None, **settings):
        lora_factory.save(tensors, folder / "a.safetensors", metadata)
        return comfy.call("VisualPlannerLookIntoLora", model=model, lora_name="a.safetensors", **settings)

    return run


@pytest.fixture
def measure(module, folder):
    """Changes by layer."""

    def run(model, tensors, blocks="", relative=True):
        path = lora_factory.save(tensors, folder / "b.safetensors")
        factors = module("nodes.comfy.lora.lora").factors_of(model, blocks)
        changes, _ = module("nodes.comfy.lora.lora_norms").changes_of(model, path, "b", factors, relative)
        return {change.layer: change for change in changes}

    return run


def wanted(model, patched):
    """(norm of the change, norm of the weight) by layer, from the weights that ComfyUI computes."""
    values, sizes = model.model.state_dict(), {}
    for key, after in adapter_factory.weights(patched).items():
        if key.endswith(".weight"):
            before = values[key].float()
            layer = key.removeprefix("diffusion_model.").removesuffix(".weight")
            sizes[layer] = float((after - before).norm()), float(before.norm())
    return sizes


def check(changes, sizes):
    assert changes.keys() == sizes.keys()
    for layer, (norm, weight) in sizes.items():
        assert changes[layer].norm == pytest.approx(norm, rel=1e-3, abs=1e-5), layer
        assert changes[layer].weight == pytest.approx(weight, rel=1e-4), layer


@pytest.mark.parametrize("blocks", ["", "double 1: 0.5; single: 0; other: -2"])
def test_a_whole_lora_is_measured_without_its_products(module, measure, folder, tiny_model, lora, blocks):
    tensors = lora_factory.diffusers_keys(lora)
    changes = measure(tiny_model, tensors, blocks)
    patched = module("nodes.comfy.lora.lora").apply_lora(tiny_model, folder / "b.safetensors", "b", 1.0, blocks=blocks)
    sizes = wanted(tiny_model, patched)
    if blocks:
        off = [layer for layer in changes if layer.startswith("single_blocks.")]
        assert len(off) > 3 and all(changes.pop(layer).norm == 0 for layer in off)
    check(changes, sizes)
    absolute = measure(tiny_model, tensors, blocks, relative=False)
    assert all(absolute[layer].norm == pytest.approx(change.norm) for layer, change in changes.items())
    assert all(change.weight is None for change in absolute.values())


@pytest.mark.parametrize("kind", adapter_factory.KINDS)
def test_every_kind_is_measured(apply, module, measure, folder, tiny_model, kind):
    tensors = {}
    for number, layer in enumerate(("lora_unet_double_blocks_0_img_mlp_0", "lora_unet_single_blocks_1_linear2")):
        tensors |= in_file(layer, parts_of(kind, *size_of(tiny_model, layer), 40 + number))
    changes = measure(tiny_model, tensors, "single: 0.5")
    patched = module("nodes.comfy.lora.lora").apply_lora(
        tiny_model, folder / "b.safetensors", "b", 1.0, blocks="single: 0.5"
    )
    check(changes, wanted(tiny_model, patched))


@pytest.mark.parametrize("stored", quantised.STORED)
def test_packed_weights_are_read(tiny, tiny_folder, measure, stored, lora):
    """Against the float model of the same stored weights; the MODEL is as it was."""
    model, twin = tiny.load_model(tiny_folder), tiny.load_model(tiny_folder)
    quantised.quantise(model, stored)
    quantised.round_as(twin, model)
    tensors = lora_factory.diffusers_keys(lora)
    ours, theirs = measure(model, tensors), measure(twin, tensors)
    assert ours.keys() == theirs.keys() and len(ours) == 39
    for layer, change in ours.items():
        assert change.norm == pytest.approx(theirs[layer].norm)
        assert change.weight == pytest.approx(theirs[layer].weight, rel=1e-4)
    assert not model.patches and not model.attachments


def test_a_layer_of_unknown_packing_is_asked(module):
    """Unit vectors through the layer give its weight, without the bias."""
    layer = Linear(1500, 7)
    got = module("nodes.comfy.lora.lora_norms").unpacked(layer, 1500, torch.device("cpu"))
    torch.testing.assert_close(got, layer.weight.detach(), atol=1e-6, rtol=0)


def test_what_was_applied_before_counts(module, measure, folder, tiny_model):
    """DoRA on a base LoRA: the change is that of the loader's second step."""
    apply, layer = module("nodes.comfy.lora.lora").apply_lora, "lora_unet_double_blocks_0_img_mlp_0"
    shape = size_of(tiny_model, layer)
    first = lora_factory.save(in_file(layer, parts_of("lora", *shape, 1)), folder / "first.safetensors")
    base = apply(tiny_model, first, "first", 1.0)
    changes = measure(base, in_file(layer, parts_of("dora rows", *shape, 2)))
    both = apply(base, folder / "b.safetensors", "b", 1.0)
    ((key, after),) = adapter_factory.weights(both).items()
    before = adapter_factory.weights(base)[key]
    assert changes["double_blocks.0.img_mlp.0"].norm == pytest.approx(float((after - before).norm()), rel=1e-4)
    assert changes["double_blocks.0.img_mlp.0"].weight == pytest.approx(float(before.norm()), rel=1e-5)


def test_flux2_has_its_own_kinds_of_layers(look, flux2_pair, lora):
    model, transformer = flux2_pair
    report, picture, _ = look(model, lora_factory.diffusers_keys(lora_factory.random_lora(transformer)))
    assert "single linear1 " in report and "double img_attn.qkv " in report
    assert "most in double_stream_modulation" in report or "most in " in report.split("Outside of the blocks")[1]
    assert picture.ndim == 4 and picture.shape[-1] == 3


def test_the_report_has_the_record_and_the_picture_the_blocks(look, tiny_model, lora, spec_of):
    tensors = lora_factory.diffusers_keys(lora)
    metadata = {**spec_of(**SMALL_SPEC).to_metadata(), "modelspec.title": "a planner", "visual_planner.steps": "4000",
                "modelspec.thumbnail": "data:" + "x" * 5000, "ss_note": "line\nline " + "y" * 500}  # fmt: skip
    report, picture, blocks = look(tiny_model, tensors, metadata, blocks="double: 0.5")
    lines = report.splitlines()
    assert lines[0].startswith("a.safetensors: lora of rank 4 on 39 weights, ")
    assert "3x3 serpentine, cells 64 x 64 px, modes text, trajectory, both" in lines
    assert "Presets with the same record: none" in lines
    assert {"modelspec.title: a planner", "visual_planner.steps: 4000"} <= set(lines)
    assert "thumbnail" not in report and max(map(len, lines)) < 700
    assert any(line.startswith("Change: ") and line.endswith("% of the weights' norm") for line in lines)
    for start in ("Double-stream blocks: ", "Single-stream blocks: ", "Outside of the blocks: ", "By kind of layer: "):
        assert any(line.startswith(start) and "%" in line for line in lines), start
    assert lines[-1] == "Strength by block: double: 0.5" and blocks == "double: 0.5"
    assert picture.min() >= 0 and picture.max() <= 1 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


def test_presets_are_named(look, tiny_model, lora, module):
    presets = module("visual_planner.planner.presets").PRESETS
    tensors, name = lora_factory.diffusers_keys(lora), next(iter(presets))
    report, _, _ = look(tiny_model, tensors)
    assert f"No planner record: set preset to the weights that match it ({', '.join(presets)})" in report
    report, _, _ = look(tiny_model, tensors, presets[name].to_metadata(), size="absolute")
    same = [other for other, preset in presets.items() if not preset.differences(presets[name])]
    assert f"Presets with the same record: {', '.join(same)}\n" in report and "Change: " in report
    assert "%" not in report.split("Change: ")[1]


def test_what_does_not_fit_is_one_line(look, tiny_model, lora):
    with pytest.raises(ValueError, match="match nothing in it"):
        look(tiny_model, {"something.lora_A.weight": torch.ones(1, 2), "something.lora_B.weight": torch.ones(2, 1)})
    with pytest.raises(ValueError, match="blocks must be rules"):
        look(tiny_model, lora_factory.diffusers_keys(lora), blocks="everything")

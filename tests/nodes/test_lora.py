"""The planner LoRA loader: every key format, alpha, records, and errors that name what does not fit."""

import json
from dataclasses import replace

import lora_factory
import pytest
import torch
from torch.nn import Linear

from support.small_spec import SMALL_SPEC

pytestmark = pytest.mark.comfyui


@pytest.fixture(scope="session")
def lora(tiny_folder):
    """Random low-rank matrices for every linear layer of the tiny planner."""
    from diffusers import FluxTransformer2DModel

    return lora_factory.random_lora(FluxTransformer2DModel.from_pretrained(tiny_folder / "transformer"))


@pytest.fixture
def folder(comfy):
    """ComfyUI's loras folder, emptied after the test."""
    import folder_paths

    place = comfy.base / "models" / "loras"
    place.mkdir(parents=True, exist_ok=True)
    folder_paths.filename_list_cache.clear()
    yield place
    for file in place.rglob("*.*"):
        file.unlink()
    folder_paths.filename_list_cache.clear()


@pytest.fixture
def spec(module):
    return module("visual_planner.planner.spec").PlannerSpec(**SMALL_SPEC)


@pytest.fixture
def load(comfy, folder, tiny_model):
    def run(name, **settings):
        return comfy.call("VisualPlannerLoraLoader", **{"model": tiny_model, "lora_name": name, **settings})

    return run


def weights(patched) -> dict[str, torch.Tensor]:
    """Every weight that patches change, as ComfyUI would compute it."""
    import comfy.lora

    values = patched.model.state_dict()
    return {key: comfy.lora.calculate_weight(p, values[key].clone(), key) for key, p in patched.patches.items()}


def assert_same(first, second, tolerance=0.0):
    first, second = weights(first), weights(second)
    assert first.keys() == second.keys()
    assert len(first) > 20
    for key in first:
        assert (first[key] - second[key]).abs().max() <= tolerance, key


FORMATS = {
    "diffusers": lambda lora: lora_factory.diffusers_keys(lora),
    "diffusers without prefix": lambda lora: lora_factory.diffusers_keys(lora, prefix=""),
    "diffusers under diffusion_model": lambda lora: lora_factory.diffusers_keys(lora, prefix="diffusion_model."),
    "peft": lambda lora: lora_factory.diffusers_keys(lora, prefix="base_model.model."),
    "peft, named adapter": lambda lora: lora_factory.diffusers_keys(lora, prefix="base_model.model.", infix=".default"),
    "peft in a pipeline": lambda lora: lora_factory.diffusers_keys(lora, prefix="transformer.base_model.model."),
    "onetrainer": lambda lora: lora_factory.flat_keys(lora, "lora_transformer_"),
    "lycoris": lambda lora: lora_factory.flat_keys(lora, "lycoris_"),
    "kohya with diffusers' names": lambda lora: lora_factory.flat_keys(lora, "lora_unet_"),
    "bfl": lambda lora: lora_factory.diffusers_keys(lora_factory.bfl(lora), prefix="diffusion_model."),
    "bfl without prefix": lambda lora: lora_factory.diffusers_keys(lora_factory.bfl(lora), prefix=""),
    "kohya": lambda lora: lora_factory.flat_keys(lora_factory.bfl(lora), "lora_unet_"),
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_what_the_stock_loader_gives(comfy, load, folder, lora, spec, tiny_model, form):
    lora_factory.save(lora_factory.diffusers_keys(lora), folder / "reference.safetensors")
    lora_factory.save(FORMATS[form](lora), folder / "lora.safetensors", spec.to_metadata())
    (stock,) = comfy.call(
        "LoraLoaderModelOnly", model=tiny_model, lora_name="reference.safetensors", strength_model=0.8
    )
    ours, read = load("lora.safetensors", strength=0.8)
    assert read == spec
    # The same matrices, but fused ones are multiplied in another order.
    assert_same(ours, stock, tolerance=0.0 if "bfl" not in form and form != "kohya" else 1e-6)


def test_base_and_task_lora_add_up(comfy, load, folder, lora, spec, tiny_model):
    other = {name: (down * 0.5, up + 0.01) for name, (down, up) in lora.items()}
    lora_factory.save(lora_factory.diffusers_keys(other), folder / "pretrain.safetensors")
    lora_factory.save(lora_factory.diffusers_keys(lora), folder / "task.safetensors", spec.to_metadata())
    ours, _ = load("task.safetensors", strength=0.7, base_lora_name="pretrain.safetensors", base_strength=1.1)
    (stock,) = comfy.call("LoraLoaderModelOnly", model=tiny_model, lora_name="pretrain.safetensors", strength_model=1.1)
    (stock,) = comfy.call("LoraLoaderModelOnly", model=stock, lora_name="task.safetensors", strength_model=0.7)
    assert_same(ours, stock)
    assert not tiny_model.patches


def scaled(lora, factor):
    return {name: (down, up * factor) for name, (down, up) in lora.items()}


@pytest.mark.parametrize(
    "metadata",
    [
        {"lora_adapter_metadata": json.dumps({"transformer.r": 4, "transformer.lora_alpha": 12})},
        {"lora_adapter_metadata": json.dumps({"r": 4, "lora_alpha": 12.0, "alpha_pattern": {}})},
        {"lora_adapter_metadata": json.dumps({"transformer.lora_alpha": 6, "transformer.use_rslora": True})},
        {"lora_alpha": "12.0"},
    ],
)
def test_alpha_in_the_header_counts(load, folder, lora, spec, metadata):
    lora_factory.save(lora_factory.diffusers_keys(lora), folder / "a.safetensors", {**spec.to_metadata(), **metadata})
    lora_factory.save(lora_factory.diffusers_keys(scaled(lora, 3.0)), folder / "b.safetensors", spec.to_metadata())
    assert_same(load("a.safetensors")[0], load("b.safetensors")[0], tolerance=1e-6)


def test_alpha_tensors_win_over_the_header_and_patterns_over_the_default(load, folder, lora, spec):
    named = "single_transformer_blocks.0.proj_out"
    record = {"transformer.lora_alpha": 8, "transformer.alpha_pattern": {named: 2}}
    tensors = lora_factory.diffusers_keys(lora)
    tensors["transformer.x_embedder.alpha"] = torch.tensor(12.0)
    metadata = {**spec.to_metadata(), "lora_adapter_metadata": json.dumps(record)}
    lora_factory.save(tensors, folder / "a.safetensors", metadata)
    wanted = scaled(lora, 2.0)
    wanted["x_embedder"] = (lora["x_embedder"][0], lora["x_embedder"][1] * 3.0)
    wanted[named] = (lora[named][0], lora[named][1] * 0.5)
    lora_factory.save(lora_factory.diffusers_keys(wanted), folder / "b.safetensors", spec.to_metadata())
    assert_same(load("a.safetensors")[0], load("b.safetensors")[0], tolerance=1e-6)


def test_strength_zero_changes_nothing_but_reads_the_record(load, folder, lora, spec):
    lora_factory.save(lora_factory.diffusers_keys(lora), folder / "a.safetensors", spec.to_metadata())
    model, read = load("a.safetensors", strength=0.0)
    assert not model.patches
    assert read == spec


def test_a_preset_serves_a_lora_without_record(load, folder, lora, module):
    lora_factory.save(lora_factory.diffusers_keys(lora), folder / "bridge.safetensors")
    presets = module("visual_planner.planner.presets").PRESETS
    for name in presets:
        assert load("bridge.safetensors", preset=name)[1] == presets[name]
    with pytest.raises(ValueError, match=r"no planner record in its header: set preset .*\(bridge_text, ") as caught:
        load("bridge.safetensors")
    assert "\n" not in str(caught.value)


def test_a_preset_over_a_record_is_warned_of(load, folder, lora, spec, caplog):
    lora_factory.save(lora_factory.diffusers_keys(lora), folder / "a.safetensors", spec.to_metadata())
    load("a.safetensors", preset="bridge_text")
    assert "has its own planner record, but preset bridge_text overrides it" in caplog.text


def refused(load, folder, tensors, spec, message, metadata=None):
    lora_factory.save(tensors, folder / "bad.safetensors", {**spec.to_metadata(), **(metadata or {})})
    with pytest.raises(ValueError, match=message) as caught:
        load("bad.safetensors")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_lora_of_another_architecture_is_refused(load, folder, spec):
    tensors = {}
    for block in range(5):
        for name in ("to_q", "to_k"):
            for letter, shape in (("A", (4, 64)), ("B", (64, 4))):
                tensors[f"unet.down_blocks.{block}.attentions.0.{name}.lora_{letter}.weight"] = torch.zeros(shape)
    message = refused(load, folder, tensors, spec, "20 of its 20 keys match nothing in it")
    assert "unet.down_blocks.0.attentions.0.to_k.lora_A.weight" in message
    assert "and 17 more" in message


def test_a_lora_of_a_wider_model_is_refused(load, folder, spec):
    transformer = torch.nn.Module()
    transformer.x_embedder = Linear(64, 3072)
    transformer.context_embedder = Linear(4096, 3072)
    tensors = lora_factory.diffusers_keys(lora_factory.random_lora(transformer))
    message = refused(load, folder, tensors, spec, "2 of its 2 modules have another shape")
    assert "transformer.context_embedder: LoRA 3072x4096, model 256x128" in message


def test_a_lora_with_some_foreign_keys_is_refused(load, folder, lora, spec):
    tensors = lora_factory.diffusers_keys(lora)
    tensors["transformer.transformer_blocks.57.attn.to_q.lora_A.weight"] = torch.zeros(4, 256)
    tensors["lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight"] = torch.zeros(4, 64)
    tensors["something"] = torch.zeros(1)
    refused(load, folder, tensors, spec, rf"2 of its {len(tensors)} keys match nothing in it \(")


def test_half_a_pair_is_refused(load, folder, lora, spec):
    tensors = lora_factory.diffusers_keys(lora)
    del tensors["transformer.x_embedder.lora_B.weight"]
    refused(load, folder, tensors, spec, r"both matrices of each pair, but 1 lack one \(transformer.x_embedder\)")


def test_two_keys_for_one_place_are_refused(load, folder, lora, spec):
    tensors = lora_factory.diffusers_keys(lora) | lora_factory.diffusers_keys(lora, prefix="base_model.model.")
    refused(load, folder, tensors, spec, "several of its keys map to")


def test_an_empty_file_is_refused(load, folder, spec):
    refused(load, folder, {}, spec, "0 of its 0 keys")


def test_bad_header_settings_are_refused(load, folder, lora, spec):
    tensors = lora_factory.diffusers_keys(lora)
    refused(load, folder, tensors, spec, "is not JSON", {"lora_adapter_metadata": "{"})
    for settings in ('{"lora_alpha": "much"}', '{"lora_alpha": 1e400}', '{"lora_alpha": [1]}', '{"lora_alpha": true}'):
        refused(load, folder, tensors, spec, "finite number as alpha", {"lora_adapter_metadata": settings})
    refused(load, folder, tensors, spec, "finite number as alpha", {"lora_alpha": "nan"})
    for pattern in ('"abc"', "[1]", "7"):
        message = "layers and numbers as alpha_pattern"
        refused(load, folder, tensors, spec, message, {"lora_adapter_metadata": f'{{"alpha_pattern": {pattern}}}'})
    for pattern in ("(a+)+$", "(.*)*x", "." * 300 + "*", "[a-z]+"):
        settings = json.dumps({"alpha_pattern": {pattern: 3}})
        refused(load, folder, tensors, spec, "names of layers in alpha_pattern", {"lora_adapter_metadata": settings})
    refused(load, folder, tensors, spec, "planner spec must be JSON", {"visual_planner.spec": "{"})
    message = r"version must be at most \d+, got 99: this file needs a newer plugin"
    refused(load, folder, tensors, spec, message, {"visual_planner.spec": '{"version": 99}'})


def test_the_nodes_text_names_the_steps_of_execution_where_they_are_others(module, spec):
    summary = module("nodes.loaders").summary
    assert "\n8 steps, guidance" in summary(spec)
    assert "\n8 steps (2 to execute), guidance" in summary(replace(spec, execution_steps=2))


@pytest.mark.parametrize("content", [b"", b"12345678", b"not a safetensors file at all, but some text", b"\xff" * 64])
def test_a_file_that_is_no_safetensors_is_refused(load, folder, content):
    (folder / "bad.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"LoRA bad\.safetensors must be a safetensors file") as caught:
        load("bad.safetensors")
    assert "\n" not in str(caught.value)


def test_a_truncated_lora_is_refused(load, folder, lora, spec):
    path = lora_factory.save(lora_factory.diffusers_keys(lora), folder / "bad.safetensors", spec.to_metadata())
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"must have \d+ bytes, but has \d+: it was truncated"):
        load("bad.safetensors")


def test_nothing_outside_the_folders_is_read(load, folder, lora, spec, comfy, shipped):
    lora_factory.save(lora_factory.diffusers_keys(lora), comfy.base / "secret.safetensors", spec.to_metadata())
    for name in ("../../secret.safetensors", str(comfy.base / "secret.safetensors"), "absent.safetensors", "a.ckpt"):
        with pytest.raises(ValueError, match="LoRA must be"):
            load(name)
    for name in ("../transformer/diffusion_pytorch_model (built in)", "/etc/passwd (built in)", " (built in)"):
        with pytest.raises(ValueError, match="LoRA must be one of those that ship with the plugin"):
            load(name)


def test_the_lists_hold_shipped_and_own_loras(comfy, folder, lora, spec, load, shipped):
    lora_factory.save(lora_factory.diffusers_keys(lora), folder / "sub" / "mine.safetensors", spec.to_metadata())
    (folder / "old.ckpt").write_bytes(b"")
    own = shipped / "loras" / "tiny_planner.safetensors"
    lora_factory.save(lora_factory.diffusers_keys(lora), own, spec.to_metadata())
    try:
        inputs = comfy.node("VisualPlannerLoraLoader").INPUT_TYPES()["required"]
        names = ["tiny_planner (built in)", "metaworld_planner (built in)", "sub/mine.safetensors"]
        assert inputs["lora_name"][1]["options"] == names
        assert inputs["base_lora_name"][1]["options"] == ["none", *names]
        assert_same(load(names[0])[0], load(names[2])[0])
    finally:
        own.unlink()


def test_the_header_is_read_without_the_data(folder, lora, spec, module, monkeypatch):
    path = lora_factory.save(lora_factory.diffusers_keys(lora), folder / "a.safetensors", spec.to_metadata())
    monkeypatch.setattr("safetensors.safe_open", None)
    header = module("nodes.comfy.safetensors_files").read_header(path, "LoRA a")
    assert header.shapes["transformer.x_embedder.lora_A.weight"] == (lora_factory.RANK, 64)
    assert module("visual_planner.planner.spec").PlannerSpec.from_metadata(header.metadata) == spec


def test_the_sampled_result_is_that_of_diffusers(tiny_folder, lora, spec, folder, load):
    """Weights merged by ComfyUI predict what diffusers predicts with the same LoRA loaded by its own loader."""
    import reference
    import sampling
    from diffusers import FluxTransformer2DModel

    tensors = lora_factory.diffusers_keys(lora)
    lora_factory.save(tensors, folder / "a.safetensors", spec.to_metadata())
    model, _ = load("a.safetensors")
    with torch.inference_mode(False):
        transformer = FluxTransformer2DModel.from_pretrained(tiny_folder / "transformer")
        transformer.load_lora_adapter(tensors, prefix="transformer")
    transformer.requires_grad_(False).eval()
    generator = torch.Generator().manual_seed(2)
    latent, context, pooled = (torch.randn(s, generator=generator) for s in ((1, 16, 8, 8), (1, 9, 128), (1, 64)))
    conditioning = [[context, {"pooled_output": pooled, "guidance": 3.5}]]
    _, raw = sampling.predict(model, latent, 0.7, conditioning)
    wanted = reference.predict(transformer, latent, None, reference.grid_ids(8, 8), None, 0.7, context, pooled, 3.5)
    assert (raw[0] - wanted).abs().max() < 5e-5

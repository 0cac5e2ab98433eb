"""Adapters of every kind: what is whole does what the stock loader makes of it, what is not is one line."""

import json

import adapter_factory
import lora_factory
import pytest
import torch
from adapter_factory import in_file, refused, size_of, weights

pytestmark = pytest.mark.comfyui
LAYERS = {
    "lycoris_transformer_blocks_0_attn_to_q": (256, 256),  # a third of a fused layer
    "lora_unet_double_blocks_0_img_mlp_0": None,
    "lora_unet_single_blocks_0_linear2": None,
    "diffusion_model.txt_in": None,
}


WHOLE = {
    "lora_unet_double_blocks_0_img_mlp_0": "diffusion_model.double_blocks.0.img_mlp.0.weight",
    "diffusion_model.txt_in": "diffusion_model.txt_in.weight",
}


def in_layer(tensors, layer):
    return {key.removeprefix(f"{layer}."): tensor for key, tensor in tensors.items() if key.startswith(f"{layer}.")}


def tucker(weight, parts, strength=0.8):
    second = parts["lokr_w2_a"].T @ parts["lokr_t2"][:, :, 0, 0] @ parts["lokr_w2_b"]
    scale = parts["alpha"] / len(parts["lokr_w2_b"])
    return weight + strength * scale * torch.kron(parts["lokr_w1"], second)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", adapter_factory.KINDS)
def test_a_whole_adapter_is_what_the_stock_loader_makes_of_it(comfy, apply, tiny_model, folder, kind, seed):
    tensors = {}
    for number, layer in enumerate(LAYERS):
        if kind == "lora bias" and number == 0:
            continue  # the stock loader cannot place a bias of a part of a layer
        rows, columns = size_of(tiny_model, layer)
        tensors |= in_file(layer, adapter_factory.parts_of(kind, rows, columns, 10 * seed + number))
    ours, notes = apply(tensors, strength=0.8)
    (stock,) = comfy.call("LoraLoaderModelOnly", model=tiny_model, lora_name="a.safetensors", strength_model=0.8)
    stock, before = weights(stock), tiny_model.model.state_dict()
    if kind == "lokr tucker":  # the stock loader logs an error for these, and leaves the weight as it is
        stock |= {key: tucker(before[key], in_layer(tensors, layer)) for layer, key in WHOLE.items()}
    assert ours.keys() == stock.keys() and len(ours) >= 3 and not notes
    for key in ours:
        if kind == "lokr tucker":
            torch.testing.assert_close(ours[key], stock[key], atol=1e-7, rtol=0) if key in WHOLE.values() else None
        else:
            assert torch.equal(ours[key], stock[key])
        assert not torch.equal(ours[key], before[key]), f"{key}: it does something"


@pytest.mark.parametrize("layer", list(LAYERS)[:2])
@pytest.mark.parametrize("kind", adapter_factory.KINDS)
def test_a_broken_adapter_is_one_line_and_nothing_is_applied(apply, tiny_model, kind, layer, caplog):
    rows, columns = size_of(tiny_model, layer)
    good = adapter_factory.parts_of(kind, rows, columns, 3)
    for how, parts in adapter_factory.breakages(kind, good).items():
        try:
            text = refused(apply, in_file(layer, parts))
        except (AssertionError, pytest.fail.Exception) as error:
            raise AssertionError(f"{kind}, {how}: {error}") from error
        named = layer.removeprefix("lycoris_") in text or "layers are zero" in text
        assert named, f"{how}: {text}"
    assert not tiny_model.patches


@pytest.mark.parametrize("seed", range(40))
def test_an_adapter_of_any_other_shape_is_refused(apply, tiny_model, seed):
    """Every kind, made for a layer of a random other size."""
    generator = torch.Generator().manual_seed(seed)
    layer = list(LAYERS)[seed % len(LAYERS)]
    rows, columns = size_of(tiny_model, layer)
    other_rows, other_columns = (8 * int(n) for n in torch.randint(1, 64, (2,), generator=generator))
    for kind in adapter_factory.KINDS:
        fits = other_rows == rows if kind.endswith("oft") else (other_rows, other_columns) == (rows, columns)
        if not fits:
            refused(apply, in_file(layer, adapter_factory.parts_of(kind, other_rows, other_columns, seed)))


@pytest.mark.parametrize("key", ["ia3_l.weight", "on_input", "lora_embedding_A", "vera_lambda_b", "oft_R.weight"])
def test_kinds_that_comfyui_does_not_know_are_refused_as_such(apply, tiny_model, key):
    good = in_file(
        "transformer.x_embedder", adapter_factory.parts_of("lora", *size_of(tiny_model, "transformer.x_embedder"), 1)
    )
    text = refused(apply, {**good, f"transformer.x_embedder.{key}": torch.ones(1, 4)})
    assert f"transformer.x_embedder.{key}" in text and "of a kind that ComfyUI can apply" in text


def test_bfl_files_have_biases_and_scales_of_norms(apply, tiny_model):
    state = tiny_model.model.state_dict()
    norm = next(key for key in state if "double_blocks.0.img_attn.norm.key_norm" in key)
    down, up, bias, scale = (
        torch.randn(4, 256) * 0.05,
        torch.randn(256, 4) * 0.05,
        torch.randn(256),
        torch.rand(state[norm].shape),
    )
    got, _ = apply(
        {
            "double_blocks.0.img_attn.proj.lora_A.weight": down,
            "double_blocks.0.img_attn.proj.lora_B.weight": up,
            "double_blocks.0.img_attn.proj.lora_B.bias": bias,
            "double_blocks.0.img_attn.norm.key_norm.scale": scale,
        }
    )
    weight = "diffusion_model.double_blocks.0.img_attn.proj.weight"
    assert got.keys() == {weight, weight.replace("weight", "bias"), norm}
    torch.testing.assert_close(got[weight], state[weight] + up @ down)
    torch.testing.assert_close(got[weight.replace("weight", "bias")], state[weight.replace("weight", "bias")] + bias)
    assert torch.equal(got[norm], scale)


def test_a_bias_of_a_part_of_a_layer_goes_to_that_part(apply, tiny_model):
    down, up, bias = torch.randn(4, 256) * 0.05, torch.randn(256, 4) * 0.05, torch.randn(256)
    name = "transformer.transformer_blocks.0.attn.to_k"
    got, _ = apply({f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up, f"{name}.lora_B.bias": bias})
    key = "diffusion_model.double_blocks.0.img_attn.qkv.bias"
    change = got[key] - tiny_model.model.state_dict()[key]
    torch.testing.assert_close(change[256:512], bias)
    assert not change[:256].any() and not change[512:].any()


def test_a_control_lora_that_widens_the_input_is_refused(apply):
    tensors = {
        "diffusion_model.img_in.lora_A.weight": torch.ones(4, 128),
        "diffusion_model.img_in.lora_B.weight": torch.ones(256, 4),
    }
    assert "LoRA 256x128, model 256x64" in refused(apply, tensors)
    tensors["diffusion_model.img_in.reshape_weight"] = torch.tensor([10**6, 10**6])
    assert "asks for a wider layer" in refused(apply, tensors)


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize(
    "layer", ["transformer_blocks.0.attn.to_q", "transformer_blocks.0.ff.net.2", "norm_out.linear"]
)
def test_dora_of_peft_is_what_peft_merges(apply, tiny_folder, tiny_model, layer, rslora):
    """Against peft's own merge, on a layer that is a part of a larger one, a whole one, and one whose halves move."""
    from diffusers import FluxTransformer2DModel
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    with torch.inference_mode(False):
        transformer = FluxTransformer2DModel.from_pretrained(tiny_folder / "transformer")
        config = LoraConfig(r=4, lora_alpha=7, target_modules=[layer], use_dora=True, use_rslora=rslora)
        transformer.add_adapter(config, adapter_name="robot")
        generator = torch.Generator().manual_seed(4)
        for name, value in transformer.named_parameters():
            if "lora_" in name:
                noise = torch.randn(value.shape, generator=generator)
                value.data = value.data * (1 + 0.1 * noise) if "magnitude" in name else noise * 0.1
        tensors = {key: value.detach().clone() for key, value in
                   get_peft_model_state_dict(transformer, adapter_name="robot").items()}  # fmt: skip
        module = transformer.get_submodule(layer)
        module.merge(adapter_names=["robot"])
        merged = module.get_base_layer().weight.detach().clone()
    assert any("magnitude" in key for key in tensors)
    settings = json.dumps({"r": 4, "lora_alpha": 7, "use_dora": True, "use_rslora": rslora})
    got, _ = apply({f"transformer.{key}": value for key, value in tensors.items()}, {"lora_adapter_metadata": settings})
    (weight,) = got.values()
    if layer == "norm_out.linear":
        merged = torch.cat(merged.chunk(2)[::-1])
    rows = slice(0, 256) if layer.endswith("to_q") else slice(None)
    assert (weight[rows] - merged).abs().max() < 2e-5
    before = tiny_model.model.state_dict()[next(iter(got))]
    assert (weight[rows] - before[rows]).abs().max() > 0.01


def test_dora_of_peft_is_the_same_while_another_lora_is_patched_in(apply, tiny_model, module, folder, spec_of):
    """After a run, ComfyUI's weights in memory are those of the run's LoRA."""
    import comfy.model_management

    lora, layer = module("nodes.comfy.lora.lora"), "transformer.transformer_blocks.0.ff.net.2"
    rows, columns = size_of(tiny_model, layer)
    tensors = {"lora_A.weight": torch.randn(4, columns), "lora_B.weight": torch.randn(rows, 4)}
    tensors = in_file(layer, {**tensors, "lora_magnitude_vector": torch.rand(rows) + 0.5})
    wanted, _ = apply(tensors)
    other = in_file(layer, adapter_factory.parts_of("lora", rows, columns, 1))
    loaded = lora.apply_lora(tiny_model, lora_factory.save(other, folder / "other.safetensors"), "other", 5.0)
    comfy.model_management.load_models_gpu([loaded])
    path = lora_factory.save(tensors, folder / "dora.safetensors")
    patched = lora.apply_lora(tiny_model, path, "dora", 1.0)
    comfy.model_management.unload_all_models()
    got = weights(patched)
    assert wanted.keys() == got.keys() and all(torch.equal(wanted[key], got[key]) for key in wanted)


def test_dora_of_peft_stands_on_what_was_applied_before_it(apply, tiny_model, module, folder):
    """A base LoRA first: the lengths are those of the weight that the adapter finds."""
    layer, lora = "transformer_blocks.0.ff.net.2", module("nodes.comfy.lora.lora")
    key, shape = (
        "diffusion_model.double_blocks.0.img_mlp.2.weight",
        size_of(tiny_model, f"transformer.{layer}"),
    )
    base = in_file(f"transformer.{layer}", adapter_factory.parts_of("lora", *shape, 1))
    model = lora.apply_lora(tiny_model, lora_factory.save(base, folder / "base.safetensors"), "base", 1.0)
    down, up, lengths = torch.randn(4, shape[1]) * 0.05, torch.randn(shape[0], 4) * 0.05, torch.rand(shape[0]) + 0.5
    tensors = {"lora_A.weight": down, "lora_B.weight": up, "lora_magnitude_vector": lengths}
    got, _ = apply(in_file(f"transformer.{layer}", tensors), model=model)
    torch.testing.assert_close(got[key].norm(dim=1), lengths, atol=1e-5, rtol=0)
    summed = weights(model)[key] + up @ down
    torch.testing.assert_close(
        got[key], summed / summed.norm(dim=1, keepdim=True) * lengths[:, None], atol=1e-5, rtol=0
    )

"""Adapter files of every trainer: names, scales, and what belongs to other parts of a pipeline."""

import json

import lora_factory
import pytest
import torch
from adapter_factory import refused

pytestmark = pytest.mark.comfyui


def renamed(tensors, *pairs):
    for old, new in pairs:
        tensors = {key.replace(old, new): value for key, value in tensors.items()}
    return tensors


FOREIGN = {
    "compiled": [("@.", "transformer._orig_mod.")],
    "compiled blocks": [("@.", "transformer."), (".attn.", "._orig_mod.attn.")],
    "data parallel": [("@.", "module.")],
    "both, in a pipeline": [("@.", "transformer.module._orig_mod.base_model.model.")],
    "sharded": [("@.", "transformer."), (".attn.", "._fsdp_wrapped_module.attn.")],
    "another adapter name": [("@.", "transformer."), (".weight", ".default_0.weight")],
    "an adapter of words": [("@.", "base_model.model."), (".weight", ".my-robot planner.weight")],
    "linear layers": [("@.", "transformer."), ("lora_A", "lora_linear_layer.down"), ("lora_B", "lora_linear_layer.up")],
    "processors": [
        ("@.", "transformer."), (".attn.", ".attn.processor."), (".lora_A.", "_lora.down."), (".lora_B.", "_lora.up.")
    ],
}  # fmt: skip


@pytest.mark.parametrize("form", FOREIGN)
def test_names_of_wrappers_and_other_tools_are_understood(apply, lora, form):
    wanted, _ = apply(lora_factory.diffusers_keys(lora))
    got, _ = apply(renamed(lora_factory.diffusers_keys(lora, prefix="@."), *FOREIGN[form]))
    assert wanted.keys() == got.keys() and all(torch.equal(wanted[key], got[key]) for key in wanted)


def test_omi_names_of_onetrainer_are_understood(apply, lora):
    whole = {"attn.to_q": "qkv.0", "attn.to_k": "qkv.1", "attn.to_v": "qkv.2"}
    text = {"attn.add_q_proj": "qkv.0", "attn.add_k_proj": "qkv.1", "attn.add_v_proj": "qkv.2"}
    names = {"x_embedder": "img_in.proj", "context_embedder": "txt_in"}
    for block in {name.split(".")[1] for name in lora if name.startswith("transformer_blocks.")}:
        names |= {f"transformer_blocks.{block}.{a}": f"double_blocks.{block}.img_attn.{b}" for a, b in whole.items()}
        names |= {f"transformer_blocks.{block}.{a}": f"double_blocks.{block}.txt_attn.{b}" for a, b in text.items()}
        names[f"transformer_blocks.{block}.ff.net.0.proj"] = f"double_blocks.{block}.img_mlp.0"
    for block in {name.split(".")[1] for name in lora if name.startswith("single_transformer_blocks.")}:
        old, new = f"single_transformer_blocks.{block}", f"single_blocks.{block}.linear1"
        names |= {
            f"{old}.{part}": f"{new}.{n}" for n, part in enumerate(("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"))
        }
    chosen = {name: lora[name] for name in names}
    omi = {}
    for old, new in names.items():
        down, up = lora[old]
        omi |= {f"transformer.{new}.lora_down.weight": down, f"transformer.{new}.lora_up.weight": up}
        omi[f"transformer.{new}.alpha"] = torch.tensor(float(len(down)))
    omi["bundle_emb.robot.t5_out"] = torch.ones(2, 8)
    omi["clip_l.text_model.encoder.layers.0.mlp.fc1.lora_down.weight"] = torch.ones(2, 8)
    wanted, _ = apply(lora_factory.diffusers_keys(chosen))
    got, notes = apply(omi)
    assert wanted.keys() == got.keys() and all(torch.equal(wanted[key], got[key]) for key in wanted)
    assert notes == ["LoRA a.safetensors has 2 keys of text encoders, which were left out"]


def test_xlabs_names_are_understood(apply, lora):
    fused = lora_factory.bfl(lora)
    names = {
        "img_attn.qkv": "qkv_lora1",
        "txt_attn.qkv": "qkv_lora2",
        "img_attn.proj": "proj_lora1",
        "txt_attn.proj": "proj_lora2",
    }
    tensors, wanted = {}, {}
    for name, (down, up) in fused.items():
        block, layer = ".".join(name.split(".")[:2]), ".".join(name.split(".")[2:])
        if layer in names:
            tensors[f"{block}.processor.{names[layer]}.down.weight"] = down
            tensors[f"{block}.processor.{names[layer]}.up.weight"] = up
            wanted[name] = (down, up)
    got, _ = apply(tensors)
    right, _ = apply(lora_factory.diffusers_keys(wanted, prefix="diffusion_model."))
    assert len(got) == 4 * len({name.split(".")[1] for name in wanted}) and got.keys() == right.keys()
    assert all(torch.equal(got[key], right[key]) for key in got)


def test_xlabs_names_of_single_blocks_mean_queries_keys_and_values_alone(apply, tiny_model):
    down, up = torch.randn(4, 256) * 0.05, torch.randn(768, 4) * 0.05
    got, _ = apply(
        {"single_blocks.0.processor.qkv_lora.down.weight": down, "single_blocks.0.processor.qkv_lora.up.weight": up}
    )
    ((key, weight),) = got.items()
    change = weight - tiny_model.model.state_dict()[key]
    torch.testing.assert_close(change[:768], up @ down, atol=1e-6, rtol=0)
    assert not change[768:].any()


def scaled(lora, factor):
    return {name: (down, up * factor) for name, (down, up) in lora.items()}


def same(first, second):
    assert first.keys() == second.keys()
    assert all((first[key] - second[key]).abs().max() < 1e-6 for key in first)


HEADER = {"ss_network_alpha": "2.0", "ss_network_dim": "4"}


def test_kohyas_record_counts_only_where_its_alpha_got_lost(apply, lora):
    """Converted files keep the record, with alpha folded into the matrices; the stock loader takes them as they are."""
    right, _ = apply(lora_factory.diffusers_keys(lora))
    same(apply(lora_factory.diffusers_keys(lora), HEADER)[0], right)
    same(apply(lora_factory.diffusers_keys(lora_factory.bfl(lora), "diffusion_model."), HEADER)[0], right)
    same(apply(lora_factory.flat_keys(lora, "lora_unet_"), HEADER)[0], right)  # alpha tensors win
    lost = {
        key: value for key, value in lora_factory.flat_keys(lora, "lora_unet_").items() if not key.endswith("alpha")
    }
    same(apply(lost, HEADER)[0], apply(lora_factory.diffusers_keys(scaled(lora, 0.5)))[0])
    some = {**lost, "lora_unet_x_embedder.alpha": torch.tensor(4.0)}
    same(apply(some, HEADER)[0], right)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "renamed.safetensors"])
def test_pefts_settings_beside_the_file_count(apply, lora, folder, name):
    settings = {
        "r": 4,
        "lora_alpha": 8,
        "alpha_pattern": {"attn.to_q": 2, r"single_transformer_blocks\.\d+\.proj_mlp": 12},
    }
    (folder / "run").mkdir(exist_ok=True)
    (folder / "run" / "adapter_config.json").write_text(json.dumps(settings))
    wanted = {
        key: (down, up * (0.5 if key.endswith("attn.to_q") else 3 if key.endswith("proj_mlp") else 2))
        for key, (down, up) in lora.items()
    }
    got, _ = apply(lora_factory.diffusers_keys(lora, "base_model.model."), name=f"run/{name}")
    same(got, apply(lora_factory.diffusers_keys(wanted))[0])
    flat, _ = apply(lora_factory.flat_keys(lora, "lora_unet_"), name=f"run/{name}")  # not PEFT's: its own alpha
    same(flat, apply(lora_factory.diffusers_keys(lora))[0])


def test_settings_of_another_file_do_not_count(apply, lora, folder):
    (folder / "adapter_config.json").write_text('{"lora_alpha": 8}')
    lora_factory.save(lora_factory.diffusers_keys(lora), folder / "adapter_model.safetensors")
    got, _ = apply(lora_factory.diffusers_keys(lora), name="other.safetensors")
    (folder / "adapter_config.json").unlink()
    same(got, apply(lora_factory.diffusers_keys(lora))[0])


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"lora_alpha": "x"}', '{"alpha_pattern": 3}', "\x00", '{"lora_alpha": 1e999}']
)
def test_broken_settings_beside_the_file_are_one_line(apply, lora, folder, text):
    (folder / "adapter_config.json").write_text(text)
    with pytest.raises(ValueError, match="^LoRA adapter_model.safetensors") as caught:
        apply(lora_factory.diffusers_keys(lora), name="adapter_model.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "prefix",
    [
        "lora_te1_text_model_encoder_layers_0_mlp_fc1",
        "lora_te_text_model_x",
        "lora_te2_encoder_block_0",
        "text_encoder.text_model.encoder.layers.0.mlp.fc1",
        "text_encoder_2.encoder.block.0",
        "text_encoders.clip_l.transformer.x",
        "clip_l.text_model.x",
        "t5xxl.encoder.x",
    ],
)
def test_text_encoder_keys_are_left_out_with_a_line(apply, lora, prefix):
    tensors = lora_factory.diffusers_keys(lora)
    other = {
        f"{prefix}.lora_A.weight": torch.ones(2, 8),
        f"{prefix}.lora_B.weight": torch.ones(8, 2),
        f"{prefix}.alpha": torch.tensor(1.0),
    }
    wanted, _ = apply(tensors)
    got, notes = apply({**tensors, **other})
    assert notes == ["LoRA a.safetensors has 3 keys of text encoders, which were left out"]
    assert all(torch.equal(got[key], wanted[key]) for key in wanted)
    refused(apply, other, "3 keys of text encoders alone")


def test_several_adapters_in_a_file_are_refused(apply, lora):
    first = lora_factory.diffusers_keys({"x_embedder": lora["x_embedder"]}, infix=".push")
    second = lora_factory.diffusers_keys({"context_embedder": lora["context_embedder"]}, infix=".pick")
    refused(apply, {**first, **second}, "must hold one adapter, but it holds pick, push")


def test_two_names_of_one_layer_are_refused(apply, lora):
    pair = lora["transformer_blocks.0.attn.to_out.0"]
    first = lora_factory.diffusers_keys({"transformer_blocks.0.attn.to_out.0": pair})
    second = lora_factory.flat_keys({"double_blocks.0.img_attn.proj": pair}, "lora_unet_")
    refused(apply, {**first, **second}, "one entry per layer, but several of its keys map to")


def test_alpha_of_0_in_the_header_is_refused(apply, lora):
    refused(apply, lora_factory.diffusers_keys(lora), "layers have an alpha of 0", metadata={"lora_alpha": "0"})

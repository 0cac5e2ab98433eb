"""LoRA files of other trainers as `train.lora.base` and `train.lora.init`: the same weights, or one line."""

import json

import pytest
import torch
from safetensors.torch import save_file

from training.errors import TrainingError
from training.model.key_map import check_loads
from training.model.lora import add_lora, fuse_lora, start_from
from training.model.lora_files import read_lora
from training.sections.planner import LoraSection
from training.tiny_base.parts import make_transformer
from visual_planner.planner.families import FLUX1
from visual_planner.planner.layers import bfl_places

RANK = 2


@pytest.fixture(scope="module")
def base():
    torch.manual_seed(0)
    return make_transformer(1, 2, 2)


@pytest.fixture(scope="module")
def lora(base):
    """(down, up) of every linear layer, by diffusers' name."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: (torch.randn(RANK, layer.in_features, generator=generator),
               torch.randn(layer.out_features, RANK, generator=generator))
        for name, layer in base.named_modules() if isinstance(layer, torch.nn.Linear)
    }  # fmt: skip


def diffusers(lora, prefix="transformer.", infix=""):
    return {
        f"{prefix}{name}.lora_{side}{infix}.weight": matrix
        for name, pair in lora.items()
        for side, matrix in zip("AB", pair, strict=True)
    }


def flat(lora, prefix, alpha=float(RANK)):
    tensors = {}
    for name, (down, up) in lora.items():
        module = prefix + name.replace(".", "_")
        tensors |= {f"{module}.lora_down.weight": down, f"{module}.lora_up.weight": up * (RANK / alpha)}
        tensors[f"{module}.alpha"] = torch.tensor(alpha)
    return tensors


def fused(base, lora):
    """The same on BFL's layers, where several are one."""
    config = base.config
    hidden = config.num_attention_heads * config.attention_head_dim
    parts: dict = {}
    for name, place in bfl_places(FLUX1, config.num_layers, config.num_single_layers, hidden).items():
        if name in lora:
            down, up = lora[name]
            up = torch.cat(up.chunk(2)[::-1]) if place.swapped else up
            parts.setdefault(place.layer, []).append((place.rows[0] if place.rows else 0, down, up))
    return {
        layer: (torch.cat([down for _, down, _ in found]), torch.block_diag(*[up for _, _, up in found]))
        for layer, found in ((layer, sorted(found, key=lambda one: one[0])) for layer, found in parts.items())
    }


FORMS = {
    "diffusers": lambda base, lora: diffusers(lora),
    "bare": lambda base, lora: diffusers(lora, ""),
    "peft": lambda base, lora: diffusers(lora, "base_model.model.", ".robot"),
    "compiled": lambda base, lora: diffusers(lora, "transformer._orig_mod."),
    "onetrainer": lambda base, lora: flat(lora, "lora_transformer_"),
    "alpha": lambda base, lora: flat(lora, "lora_transformer_", 16.0),
    "bfl": lambda base, lora: diffusers(fused(base, lora), "diffusion_model."),
    "kohya": lambda base, lora: {
        key: value for key, value in flat(fused(base, lora), "lora_unet_").items() if not key.endswith("alpha")
    },
}


def weights_with(base, file):
    model = make_transformer(1, 2, 2)
    model.load_state_dict(base.state_dict())
    fuse_lora(model, file, 0.7)
    return model.state_dict()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_base(base, lora, tmp_path, form):
    save_file(diffusers(lora), tmp_path / "plain.safetensors")
    (tmp_path / "other").mkdir()
    tensors = {key: value.contiguous().clone() for key, value in FORMS[form](base, lora).items()}
    tensors["lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight"] = torch.ones(2, 4)
    save_file(
        tensors, tmp_path / "other" / "lora.safetensors", {"ss_network_alpha": "1"} if form == "diffusers" else None
    )
    wanted, got = (
        weights_with(base, file) for file in (tmp_path / "plain.safetensors", tmp_path / "other/lora.safetensors")
    )
    for name, weight in wanted.items():
        assert (
            torch.equal(weight, got[name]) if form == "diffusers" else torch.allclose(weight, got[name], atol=1e-4)
        ), name


def test_pefts_settings_beside_the_file_count(base, lora, tmp_path):
    save_file(diffusers(lora, "base_model.model."), tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 4, "r": RANK}))
    tensors = read_lora(tmp_path / "adapter_model.safetensors", base)
    assert torch.equal(tensors["transformer.x_embedder.lora_B.weight"], lora["x_embedder"][1] * 2)
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": "x"}')
    with pytest.raises(TrainingError, match="finite number as alpha"):
        read_lora(tmp_path / "adapter_model.safetensors", base)


def test_training_begins_with_any_form(base, lora, tmp_path):
    save_file(flat(lora, "lora_transformer_", 8.0), tmp_path / "kohya.safetensors")
    model = make_transformer(1, 2, 2)
    section = LoraSection(rank=RANK, alpha=1.0, targets="all_linear", init=tmp_path / "kohya.safetensors")
    add_lora(model, section)
    start_from(model, section)
    up = dict(model.named_parameters())["x_embedder.lora_B.planner.weight"]
    assert torch.allclose(up, lora["x_embedder"][1] * RANK)


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        (
            {"lokr_w1": (2, 2), "lokr_w2": (2, 2)},
            "must hold pairs of matrices alone to train on, but x_embedder has lokr_w1, lokr",
        ),
        ({"lora_A.weight": (2, 64), "lora_B.weight": (128, 2), "dora_scale": (128, 1)}, "x_embedder has dora_scale"),
        ({"lora_A.weight": (2, 64), "lora_B.weight": (128, 2), "lora_magnitude_vector": (128,)}, "has magnitude"),
        ({"lokr_w1": (2, 2)}, "must be whole, but x_embedder must have lokr_w2, or"),
        ({"alpha": ()}, "must be whole, but x_embedder has alpha alone"),
        ({"lora_A.weight": (2, 64)}, "lack one of their two matrices"),
        ({"lora_A.weight": (3, 64), "lora_B.weight": (128, 2)}, "must be whole"),
        ({"lora_A.weight": (0, 64), "lora_B.weight": (128, 0)}, "of rank 0"),
        ({"ia3_l": (1, 64)}, "have no counterpart"),
    ],
)
def test_other_kinds_and_broken_ones_are_one_line(base, tmp_path, parts, line):
    file = tmp_path / "lora.safetensors"
    save_file({f"transformer.x_embedder.{part}": torch.ones(shape) for part, shape in parts.items()}, file)
    with pytest.raises(TrainingError, match=line) as caught:
        check_loads(read_lora(file, base), base)
    assert "\n" not in str(caught.value)

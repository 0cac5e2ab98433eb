"""Frozen matrices in fewer bits: what they multiply with, what the backward pass keeps, what cannot be."""

import sys

import pytest
import torch
from torch import autocast
from torch.nn import Linear

from support.small_world import config_for
from training.errors import TrainingError
from training.model.lora import add_lora
from training.model.quantize import PackedLinear, quantize_frozen
from training.planner.train import make_model, train
from training.sections.planner import LoraSection
from training.tiny_base.parts import make_transformer


def layer(seed=0):
    torch.manual_seed(seed)
    return Linear(96, 64)


@pytest.mark.parametrize(("form", "error"), [("int8", 0.5 / 127), ("fp8", 2**-4)])
def test_a_packed_matrix_is_near_the_whole_one(form, error):
    """int8: half a step of the row's largest; fp8 e4m3: three bits of fraction."""
    whole = layer()
    packed = PackedLinear(whole, form)
    difference = (packed.dequantized() - whole.weight).abs()
    bound = error * (whole.weight.abs().amax(1, keepdim=True) if form == "int8" else whole.weight.abs())
    assert (difference <= bound * 1.01 + 1e-4).all()
    assert difference.max() > 0
    assert packed.packed.element_size() == 1


@pytest.mark.parametrize("form", ["int8", "fp8"])
def test_product_and_gradient_are_those_of_the_packed_matrix(form):
    packed = PackedLinear(layer(), form)
    x = torch.randn(3, 5, 96, requires_grad=True)
    y = packed(x)
    assert torch.allclose(y, x @ packed.dequantized().T + packed.bias, atol=1e-5)
    weights = torch.randn_like(y)
    (y * weights).sum().backward()
    assert torch.allclose(x.grad, weights @ packed.dequantized(), atol=1e-4)


def test_the_backward_pass_keeps_one_byte_a_number():
    packed, kept = PackedLinear(layer(), "int8"), []
    x = torch.randn(4, 96, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        packed(x)
    assert sorted(tensor.dtype for tensor in kept if tensor.numel() > 64) == [torch.int8]


@pytest.mark.parametrize("form", ["int8", "fp8"])
def test_only_frozen_matrices_of_the_blocks_are_packed(form):
    transformer = make_transformer(1, 1, 1)
    before = sum(p.numel() * p.element_size() for p in transformer.transformer_blocks.parameters())
    add_lora(transformer, LoraSection(rank=2, alpha=2))
    layers = quantize_frozen(transformer, form)
    assert layers == 14 + 6  # linear layers of a double and of a single block
    stored = [*transformer.transformer_blocks.parameters(), *transformer.transformer_blocks.buffers()]
    after = sum(t.numel() * t.element_size() for t in stored if not t.requires_grad)
    assert after < 0.3 * before
    assert type(transformer.proj_out) is type(transformer.x_embedder) is torch.nn.Linear
    assert all(p.dtype == torch.float32 for p in transformer.parameters() if p.requires_grad)


@pytest.mark.parametrize("form", ["int8", "fp8"])
def test_a_run_on_a_packed_base_learns_and_saves_its_adapter(world, tmp_path, form):
    config = config_for(world, out=tmp_path / "run", max_steps=1, quantize=form, gradient_checkpointing=True)
    train(config)
    files = sorted(path.name for path in (tmp_path / "run" / "checkpoints" / "00000001").iterdir())
    assert files == ["optimizer.safetensors", "state.json", "weights.safetensors"]


def test_nf4_without_its_package_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(TrainingError, match="quantize nf4 needs the package bitsandbytes"):
        quantize_frozen(make_transformer(1, 1, 1), "nf4")


def test_nf4_is_that_of_bitsandbytes():
    bitsandbytes = pytest.importorskip("bitsandbytes")
    transformer = make_transformer(1, 1, 1).requires_grad_(False)
    weight = transformer.transformer_blocks[0].attn.to_q.weight.clone()
    assert quantize_frozen(transformer, "nf4") == 20
    packed = transformer.transformer_blocks[0].attn.to_q
    assert isinstance(packed, bitsandbytes.nn.Linear4bit)
    x = torch.randn(4, weight.shape[1])
    wanted = x @ weight.T
    assert (packed(x) - wanted).std() < 0.15 * wanted.std()


@pytest.mark.parametrize("form", ["int8", "fp8", "nf4"])
def test_packed_layers_answer_in_the_type_of_autocast(form):
    if form == "nf4":
        pytest.importorskip("bitsandbytes")
    transformer = make_transformer(1, 1, 1).requires_grad_(False)
    quantize_frozen(transformer, form)
    packed = transformer.transformer_blocks[0].attn.to_q
    x = torch.randn(4, packed.in_features)
    with autocast("cpu", torch.bfloat16):
        assert packed(x).dtype == torch.bfloat16
    assert packed(x).dtype == torch.float32


def test_merged_forward_and_packed_weights_exclude_each_other(world):
    lora = {"rank": 2, "alpha": 2, "merged_forward": True}
    config = config_for(world, quantize="int8", lora=lora)
    with pytest.raises(TrainingError, match=r"lora\.merged_forward needs plain weights, but quantize is int8"):
        make_model(config.train)


def test_half_precision_needs_a_gpu(world):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(TrainingError, match="mixed_precision fp16 needs a GPU"):
        train(config_for(world, mixed_precision="fp16"))

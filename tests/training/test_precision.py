"""In which precision matrices are multiplied, and attention by products."""

from types import MethodType

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import autocast
from torch.nn import Linear

from support.small_world import config_for
from training.errors import TrainingError
from training.loop.loop import make_accelerator
from training.loop.precision import resolved
from training.model import lora
from training.model.bases import split_attention
from training.model.bases.split_attention import attend
from training.model.lora import _merged_forward
from training.model.quantize import as_computed
from training.planner.train import make_loop


@pytest.mark.parametrize(("short", "long"), [((2, 3, 40, 16), (2, 3, 57, 16)), ((1, 2, 184, 128), (1, 2, 184, 128))])
def test_attention_by_products_is_fused_attention(short, long, monkeypatch):
    generator = torch.Generator().manual_seed(3)
    found = {}
    given = [torch.randn(shape, generator=generator) for shape in (short, long, long)]
    for keys in (0, 256):
        monkeypatch.setattr(split_attention, "SHORT", keys)
        inputs = [tensor.clone().requires_grad_() for tensor in given]
        out = attend(*inputs)
        out.square().sum().backward()
        found[keys] = [out, *(tensor.grad for tensor in inputs)]
    for fused, products in zip(*found.values(), strict=True):
        torch.testing.assert_close(products, fused, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("grad", [True, False])
def test_products_are_for_short_sequences_that_are_trained(grad, monkeypatch):
    """Fused attention is what studies look at and what a GPU runs."""
    fused = []
    original = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *a, **k: fused.append(1) or original(*a, **k)
    )
    with torch.set_grad_enabled(grad):
        for count in (split_attention.SHORT, split_attention.SHORT + 1):
            attend(*(torch.zeros(1, 1, count, 8) for _ in range(3)))
    assert len(fused) == (1 if grad else 2)


@pytest.mark.parametrize(("bf16", "amx", "kind"), [(True, False, "bf16"), (False, True, "bf16"), (False, False, "no")])
def test_auto_is_bf16_where_the_cpu_multiplies_it(bf16, amx, kind, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert resolved("auto", on_cpu=True) == kind
    assert resolved("no", on_cpu=True) == "no"


@pytest.mark.parametrize(("there", "kind"), [(True, "bf16"), (False, "no")])
def test_auto_on_a_gpu(there, kind, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: there)
    assert resolved("auto", on_cpu=False) == kind


def test_fp16_needs_a_gpu():
    with pytest.raises(TrainingError, match="mixed_precision fp16 needs a GPU: use auto, bf16 or no on a CPU"):
        resolved("fp16", on_cpu=True)


@pytest.mark.parametrize("precision", ["medium", "highest"])
def test_a_run_sets_how_float32_is_multiplied(world, precision):
    """A run without the setting also takes back what one before it has set."""
    make_accelerator(config_for(world, matmul_precision=precision).train, "cpu")
    assert torch.get_float32_matmul_precision() == precision


def test_runs_in_one_process_have_a_precision_each(world):
    """Autocast is on for the runs that want it, and what a run computes does not depend on the one before it."""
    losses = {}
    for number, kind in enumerate(("no", "bf16", "no", "bf16")):
        loop = make_loop(config_for(world, mixed_precision=kind, out=world / f"lora_{number}"))
        assert loop.accelerator.mixed_precision == kind
        losses[number] = loop.one_step()
    assert losses[0] == losses[2] and losses[1] == losses[3]
    assert 0 < abs(losses[0] - losses[1]) < 0.02 * losses[0]


def test_layers_with_a_common_input_share_its_copy(monkeypatch):
    """In bfloat16 as autocast makes one for each of them; in float32 there is none."""
    layers = torch.nn.ModuleDict({name: Linear(24, 16) for name in "qk"})
    adapter = LoraConfig(r=4, target_modules=["q", "k"], init_lora_weights=False)
    with_adapter = inject_adapter_in_model(adapter, layers, lora.ADAPTER)
    pair = [with_adapter[name] for name in "qk"]
    casts = []
    monkeypatch.setattr(lora, "as_computed", lambda x: casts.append(x) or as_computed(x))
    x = torch.randn(50, 24)
    plain = [layer(x) for layer in pair]
    for layer in pair:
        layer.forward = MethodType(_merged_forward, layer)
    torch.testing.assert_close([layer(x) for layer in pair], plain)
    assert len(casts) == 2 and not hasattr(x, "shared_cast")
    with autocast("cpu", torch.bfloat16):
        short = [layer(x) for layer in pair]
    assert len(casts) == 3 and x.shared_cast.dtype == torch.bfloat16
    torch.testing.assert_close([out.float() for out in short], plain, rtol=0.05, atol=0.05)

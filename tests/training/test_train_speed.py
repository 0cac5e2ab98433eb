"""Switches for speed and memory: the plain path's results, and what each of them holds, rounds or refuses."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import autocast
from torch.nn import Linear

from support.small_world import config_for
from training.errors import TrainingError
from training.model.lora import add_lora
from training.model.quantize import PackedLinear, quantize_frozen
from training.planner.compiling import compile_blocks, compiles
from training.planner.memory import memory_plan
from training.planner.offload import COPIES, Offload, blocks_of, chosen_blocks, frozen_tensors
from training.planner.train import make_model
from training.sections.planner import LoraSection, TrainSection
from training.tiny_base.parts import make_transformer
from visual_planner.planner.conditioning import image_ids, text_ids
from visual_planner.planner.families import FLUX1
from visual_planner.planner.spec import PlannerSpec


@pytest.fixture(scope="module")
def base():
    torch.manual_seed(0)
    transformer = make_transformer(1, 2, 3)
    for parameter in transformer.parameters():  # gates start at zero: give everything something to do
        torch.nn.init.normal_(parameter, std=0.05)
    return transformer


def adapted(base, targets="all_linear", form="none", eight=False, **lora):
    transformer = copy.deepcopy(base).train()
    add_lora(transformer, LoraSection(rank=4, alpha=8, targets=targets, **lora))
    torch.manual_seed(1)
    for parameter in transformer.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    quantize_frozen(transformer, form, eight=eight)
    return transformer


def gradients(transformer, kind=None):
    """Output of a pass, and gradients of everything that is trained."""
    torch.manual_seed(2)
    config = transformer.config
    guidance = {"guidance": torch.ones(2)} if config.guidance_embeds else {}
    with nullcontext() if kind is None else autocast("cpu", kind):
        out = transformer(
            hidden_states=torch.randn(2, 20, config.in_channels),
            encoder_hidden_states=torch.randn(2, 5, config.joint_attention_dim),
            pooled_projections=torch.randn(2, config.pooled_projection_dim),
            timestep=torch.tensor([0.2, 0.7]), img_ids=image_ids(4, 5), txt_ids=text_ids(5, FLUX1),
            return_dict=False, **guidance,
        )[0]  # fmt: skip
    out.float().square().mean().backward()
    found = [p.grad.clone() for p in transformer.parameters() if p.requires_grad]
    transformer.zero_grad()
    assert len(found) > 40 and all(gradient.abs().max() > 0 for gradient in found)
    return [out.detach(), *found]


def apart(ours, theirs):
    """Largest difference relative to the largest number, over all tensors."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # of diffusers' norms under autocast
@pytest.mark.parametrize(
    ("form", "kind", "bound"),
    [("none", None, 1e-4), ("none", torch.bfloat16, 0.1), ("int8", None, 1e-4), ("fp8", None, 1e-4)],
)
def test_a_fused_adapter_computes_what_pefts_does(base, form, kind, bound):
    fused = gradients(adapted(base, form=form, fused_forward=True), kind)
    assert apart(fused, gradients(adapted(base, form=form), kind)) < bound
    assert fused[0].dtype == (kind or torch.float32)


def test_a_fused_adapter_leaves_bitsandbytes_its_product(base):
    pytest.importorskip("bitsandbytes")
    pair = [gradients(adapted(base, "blocks", "nf4", fused_forward=fused)) for fused in (False, True)]
    assert apart(*pair) == 0


def test_products_in_int8_are_those_of_rounded_activations():
    torch.manual_seed(0)
    packed = PackedLinear(Linear(96, 64), "int8", eight=True)
    x = torch.randn(2, 20, 96, requires_grad=True)
    y = packed(x)
    step = x.detach().abs().amax(-1, keepdim=True) / 127
    exact = (
        x.detach() / step
    ).round().double() * step.double() @ packed.dequantized().double().T + packed.bias.double()
    assert torch.allclose(y.double(), exact, atol=1e-5)
    plain = x @ packed.dequantized().T + packed.bias
    assert 1e-4 < (y - plain).std() / plain.std() < 0.02
    weights = torch.randn_like(y)
    (y * weights).sum().backward()
    assert torch.allclose(x.grad, weights @ packed.dequantized(), atol=1e-4)


def test_few_rows_are_not_rounded():
    packed = PackedLinear(Linear(96, 64), "int8", eight=True)
    x = torch.randn(16, 96)
    assert torch.allclose(packed(x), x @ packed.dequantized().T + packed.bias, atol=1e-5)


@pytest.mark.parametrize(("form", "bound"), [("int8", 0.02), ("fp8", 0.05)])
def test_products_in_8_bits_are_near_those_in_16(form, bound):
    torch.manual_seed(0)
    layer, x = Linear(96, 64), torch.randn(40, 96)
    plain = PackedLinear(layer, form)(x)
    assert 1e-4 < (PackedLinear(layer, form, eight=True)(x) - plain).std() / plain.std() < bound


@pytest.mark.parametrize("form", ["none", "int8"])
def test_offloaded_blocks_give_the_same_gradients(base, form):
    """Bit for bit, through two steps of which the second foresees every call; a forward pass between them too."""
    plain = adapted(base, "blocks", form)
    plain.enable_gradient_checkpointing()
    away = copy.deepcopy(plain)
    stored = sum(t.nbytes for block in blocks_of(away) for t in frozen_tensors(block).values())
    offload = Offload(chosen_blocks(away, 5), torch.device("cpu"))
    assert sum(t.nbytes for block in blocks_of(away) for t in frozen_tensors(block).values()) == 0
    assert sum(t.nbytes for kept in offload.kept for t in kept.values()) == stored
    wanted = gradients(plain)
    assert apart(gradients(away), wanted) == 0
    before = offload.unforeseen
    assert apart(gradients(away), wanted) == 0
    assert offload.unforeseen - before <= 1  # the first call after the last of a step is learned once
    assert len(offload.fetched) <= COPIES - 1
    before, fetches = offload.unforeseen, offload.fetches
    assert apart(gradients(away), wanted) == 0
    assert offload.unforeseen == before
    assert offload.fetches - fetches <= 10  # each block once forward and once backward


def test_some_blocks_can_stay(base):
    away = adapted(base, "blocks")
    assert [blocks_of(away).index(block) for block in chosen_blocks(away, 2)] == [2, 4]
    with pytest.raises(TrainingError, match="offload must be at most 5, the number of the base's blocks, got 6"):
        chosen_blocks(away, 6)


def test_the_memory_plan_knows_what_is_offloaded():
    def plan(**values):
        with torch.device("meta"):
            transformer = make_transformer(1, 2, 3)
        given = {"base": "none", "cache": "none", "out": "none", "lora": {"rank": 4, "alpha": 4}, **values}
        given |= {"base_dtype": "float32", "gradient_checkpointing": True}
        return memory_plan(
            TrainSection.model_validate(given), PlannerSpec(cell_height=32, cell_width=32), 5, transformer
        )

    whole, away, some = plan(), plan(offload=5), plan(offload=4)
    assert (whole.in_ram, whole.activations) == (0, away.activations)
    assert whole.base - away.base < away.in_ram < whole.base
    assert away.base < some.base < whole.base
    assert "in RAM" in away.text() and "in RAM" not in whole.text()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own look at inputs
def test_compiled_blocks_with_fused_adapters_compute_the_same(base):
    """Through torch.compile's front end, which costs no C++ compiler's time."""
    small = copy.deepcopy(base)
    del small.transformer_blocks[1:], small.single_transformer_blocks[1:]
    fused = adapted(small, fused_forward=True)
    wanted = gradients(fused)
    compile_blocks(fused, backend="eager")
    assert apart(gradients(fused), wanted) < 1e-4


def test_auto_compiles_long_runs_where_there_is_a_compiler(world, monkeypatch):
    def auto(**values):
        return compiles(config_for(world, **{"compile_blocks": "auto", "max_steps": 1000, **values}).train, "cpu")

    for found in ("/usr/bin/c++", None):
        monkeypatch.setattr("training.planner.compiling.shutil.which", lambda _, found=found: found)
        assert auto() == (found is not None)
        assert not auto(max_steps=999)
        assert not auto(compile_blocks=False)
        assert not auto(offload=1, gradient_checkpointing=True)
        assert auto(compile_blocks=True)  # asked for: torch says what it lacks


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"offload": 1}, "offload needs gradient_checkpointing: true"),
        ({"offload": 1, "gradient_checkpointing": True, "compile_blocks": True}, "offload and compile_blocks: true"),
        ({"offload": 1, "gradient_checkpointing": True, "quantize": "nf4"}, "offload and quantize: nf4 exclude"),
        ({"quantized_products": True}, "quantized_products needs quantize int8 or fp8, but quantize is none"),
        ({"lora": {"fused_forward": True, "merged_forward": True}}, "fused_forward and lora.merged_forward exclude"),
    ],
)
def test_settings_that_exclude_each_other_are_one_line(world, settings, message):
    with pytest.raises(TrainingError, match=message):
        make_model(config_for(world, **settings).train)

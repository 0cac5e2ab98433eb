"""The cached condition in diffusers: two passes equal one dense pass with a mask, gradients included; it trains."""

import copy
import json
import shutil

import pytest
import torch
from test_training_parts import batch_of, small_transformer

from support.dense import dense_velocity
from support.small_world import SPEC, config_for
from training.cache.write import cache
from training.data.episodes import EpisodeSet
from training.model.bases.split_attention import ConditionKeys
from training.model.in_context import InContext
from training.model.lora import add_lora
from training.model.pipeline import PlannerPipeline, read_spec
from training.planner.export import export
from training.planner.objective import flow_matching_loss
from training.planner.train import train
from training.sections.planner import LoraSection
from training.sections.run import ObjectiveSection
from training.tiny_base.parts import make_transformer
from visual_planner.planner.spec import PlannerSpec

TOLERANCE = 1e-5
CACHED = PlannerSpec(cell_height=32, cell_width=48, condition_tokens="first_cell_cached")


def lively_transformer(heads=1, double=1, single=1, seed=0):
    """Random weights with an output of the order of 1, so that every part of the model tells."""
    torch.manual_seed(seed)
    transformer = make_transformer(heads, double, single)
    for name, parameter in transformer.named_parameters():
        std = 0.9 / parameter.shape[1] ** 0.5 if parameter.ndim > 1 else 0.1
        torch.nn.init.normal_(parameter, mean=float("norm_" in name and parameter.ndim == 1), std=std)
    return transformer


def call_of(spec, seed=0, batch=2, words=7):
    torch.manual_seed(seed)
    tokens = torch.randn(batch, spec.target_tokens, 64)
    condition = torch.randn(batch, spec.conditioning_tokens, 64)
    text, pooled = torch.randn(batch, words, 128), torch.randn(batch, 64)
    return tokens, condition, text, pooled, torch.rand(batch), 1 + 4 * torch.rand(batch)


def dense(transformer, in_context, tokens, condition, text, pooled, sigma, guidance):
    ids, own = in_context.target_ids, in_context.ids[len(in_context.target_ids) :]
    return dense_velocity(transformer, tokens, condition, ids, own, text, pooled, sigma, guidance)


@pytest.mark.parametrize("seed", range(6))
def test_two_passes_are_the_dense_pass_with_a_mask(seed):
    ids = ("clone", "kontext", "fold")[seed % 3]
    spec = PlannerSpec(
        rows=1 + seed % 3, cols=2, cell_height=32, cell_width=16 * (1 + seed % 2),
        condition_tokens="first_cell_cached", position_ids=ids,
    )  # fmt: skip
    transformer = lively_transformer(1 + seed % 2, 1 + seed % 2, 2, seed)
    in_context, call = InContext(spec), call_of(spec, seed, words=1 + 3 * seed)
    together = InContext(PlannerSpec(**{**vars(spec), "condition_tokens": "first_cell"}))
    with torch.no_grad():
        velocity, wanted = in_context(transformer, *call), dense(transformer, in_context, *call)
        other = together(transformer, *call)
    assert wanted.std() > 0.1
    assert (velocity - wanted).abs().max() <= TOLERANCE * max(1.0, float(wanted.abs().max()))
    assert (other - wanted).abs().max() > 1e-3


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_flow_through_both_passes(checkpointing):
    transformer, in_context, call = lively_transformer(), InContext(CACHED), call_of(CACHED)
    add_lora(transformer, LoraSection(rank=4, alpha=4, targets="all_linear"))
    for name, parameter in transformer.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    plain = copy.deepcopy(transformer)
    if checkpointing:
        transformer.train().enable_gradient_checkpointing()
    in_context(transformer, *call).square().mean().backward()
    dense(plain, in_context, *call).square().mean().backward()
    wanted = {name: p.grad for name, p in plain.named_parameters() if p.requires_grad}
    assert len(wanted) > 50
    largest = max(float(grad.abs().max()) for grad in wanted.values())
    for name, parameter in transformer.named_parameters():
        if parameter.requires_grad:
            assert (parameter.grad - wanted[name]).abs().max() <= TOLERANCE * max(1.0, largest), name


def test_keys_depend_on_the_condition_and_guidance_alone():
    transformer, in_context = lively_transformer(), InContext(CACHED)
    _, condition, text, pooled, _, guidance = call_of(CACHED)
    with torch.no_grad():
        first = in_context.prepare(transformer, condition, text, pooled, guidance)
        again = in_context.prepare(transformer, condition, text[:, :2] + 1, pooled + 1, guidance)
        moved = in_context.prepare(transformer, condition, text, pooled, guidance + 1)
    assert isinstance(first, ConditionKeys)
    assert len(first.layers) == 2
    for layer, parts in first.layers.items():
        assert parts[0].shape == (2, CACHED.conditioning_tokens, 1, 128)
        assert all(torch.equal(a, b) for a, b in zip(parts, again.layers[layer], strict=True))
        assert not torch.equal(parts[1], moved.layers[layer][1])


def test_keys_made_once_serve_every_step():
    transformer, in_context = lively_transformer(), InContext(CACHED)
    tokens, condition, text, pooled, sigma, guidance = call_of(CACHED)
    with torch.no_grad():
        keys = in_context.prepare(transformer, condition, text, pooled, guidance)
        for level in (sigma, sigma / 3):
            once = in_context(transformer, tokens, keys, text, pooled, level, guidance)
            assert torch.equal(once, in_context(transformer, tokens, condition, text, pooled, level, guidance))


def test_without_a_condition_the_model_is_diffusers_own():
    transformer, in_context = lively_transformer(), InContext(CACHED)
    tokens, condition, text, pooled, sigma, guidance = call_of(CACHED)
    with torch.no_grad():
        before = in_context(transformer, tokens, None, text, pooled, sigma, guidance)
        in_context(transformer, tokens, condition, text, pooled, sigma, guidance)
        after = in_context(transformer, tokens, None, text, pooled, sigma, guidance)
    assert (before - after).abs().max() <= 1e-6


def test_the_loss_learns_from_the_condition():
    transformer, batch = small_transformer(), batch_of(CACHED)
    loss = flow_matching_loss(
        transformer, InContext(CACHED), batch, ObjectiveSection(), torch.Generator().manual_seed(0), True
    )
    loss.backward()
    batch.condition = -batch.condition
    other = flow_matching_loss(
        transformer, InContext(CACHED), batch, ObjectiveSection(), torch.Generator().manual_seed(0), True
    )
    assert loss != other
    assert all(parameter.grad is not None for parameter in transformer.parameters())


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """Two steps of training in a world whose pairs are asked for with a cached condition."""
    folder = tmp_path_factory.mktemp("cached")
    for name in ("pairs", "base", "episodes"):
        shutil.copytree(world / name, folder / name)
    info = json.loads((folder / "pairs" / "dataset.json").read_text())
    info["spec"]["condition_tokens"] = "first_cell_cached"
    (folder / "pairs" / "dataset.json").write_text(json.dumps(info))
    config = config_for(folder, max_steps=2)
    config = config.model_copy(update={"spec": {**SPEC, "condition_tokens": "first_cell_cached"}})
    cache(config)
    train(config)
    export(config)
    return folder


class EachStepAnew(InContext):
    """Computes the condition's keys and values at every step."""

    def prepare(self, transformer, condition, *rest):
        return condition

    def __call__(self, transformer, tokens, condition, text, pooled, sigma, guidance):
        keys = super().prepare(transformer, condition, text, pooled, guidance)
        return super().__call__(transformer, tokens, keys, text, pooled, sigma, guidance)


def test_two_steps_of_training_give_a_planner_that_plans_with_its_cache(trained):
    spec = read_spec(trained / "planner.safetensors")
    assert spec.condition_is_cached
    planner = PlannerPipeline.load(trained / "base", trained / "planner.safetensors")
    frames = EpisodeSet.open(trained / "episodes").episodes[0].load_frames()[:1]
    lengths = []
    planner.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: lengths.append(kwargs["hidden_states"].shape[1]), with_kwargs=True
    )
    plan = planner.plan(frames, ["nine frames: push"], seed=3)
    # The condition once, then every step without it.
    assert lengths == [spec.conditioning_tokens] + [spec.target_tokens] * spec.steps
    planner.in_context = EachStepAnew(spec)
    lengths.clear()
    anew = planner.plan(frames, ["nine frames: push"], seed=3)
    assert lengths == [spec.conditioning_tokens, spec.target_tokens] * spec.steps
    assert torch.equal(plan, anew)
    assert not torch.equal(plan, planner.plan(255 - frames, ["nine frames: push"], seed=3))

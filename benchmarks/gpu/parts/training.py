"""A training step of a recipe: seconds, operations, and memory compared with `training memory`.

Loop, objective, adapter, packing and optimizer are those of `python -m training train`; weights, latents and text
embeddings are random.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

from training.loop.loop import Loop, make_accelerator
from training.model.bases import split_attention
from training.model.bases.registry import base_of
from training.model.in_context import InContext
from training.model.transformer import load_config_only
from training.planner.memory import GIB, OVERHEAD_GIB, MemoryPlan, memory_plan
from training.planner.objective import Batch, flow_matching_loss
from training.planner.train import prepare_model
from training.sections.config import Config, load_config

from ..measuring.clock import Meter, weights_of
from ..measuring.flops import adapter_forward, shape_of, training_step
from ..measuring.networks import compile_blocks, drawn, shapes, with_random_weights
from ..measuring.rates import rate
from ..size import NotHereError, Report, Size
from .parity import PLANNER, require_base

HOUR_S = 3600
RECIPES = Path(__file__).resolve().parents[3] / "training" / "configs"


def training(
    report: Report,
    size: Size,
    recipe: str,
    changes: dict[str, object] | None = None,
    compiled: bool = False,
    tiny_planner: bool = False,
) -> None:
    """Steps of a recipe.

    Args:
        report: takes figures.
        size: size of the run.
        recipe: file of `training/configs`.
        changes: section.key of `train` -> value that replaces the recipe's.
        compiled: compile every block of the transformer.
        tiny_planner: use the network of the shipped tiny planner, and the grid of the recipe.

    Raises:
        NotHereError: a package or the tiny planner is missing, or the GPU is smaller than what the recipe needs.
    """
    config = _config(size, recipe, changes or {}, tiny_planner)
    section = config.train
    split_attention.SHORT = 0  # a rehearsal on a CPU must use fused attention as on a GPU, for which memory is computed
    if section.quantize == "nf4" and importlib.util.find_spec("bitsandbytes") is None:
        raise NotHereError("quantize nf4 needs the package bitsandbytes, which is not installed")
    computed = memory_plan(section, config.planner_spec(), size.words, _shapes(config, size, tiny_planner))
    report(recipe=recipe, changes=changes or {}, examples_at_once=section.batch_size, computed=_parts(computed))
    _require_room(computed, size)
    loop = _loop(config, size, compiled, tiny_planner)
    meter = Meter(size.device, size.repeats, size.warmup)
    first = meter.once(loop.one_step)
    seconds = meter.median(loop.one_step)
    examples = section.batch_size * section.gradient_accumulation
    report(first_step_s=first, step_s=seconds, examples_of_a_step=examples, example_s=seconds / examples)
    report(steps_of_the_recipe=section.max_steps, hours_of_the_recipe=section.max_steps * seconds / HOUR_S)
    report(**_rates(size, loop, config, seconds / examples))
    report(memory=_memory(size, meter, loop, computed, compiled))
    report(loss=loop.one_step())


def _config(size: Size, recipe: str, changes: dict[str, object], tiny_planner: bool) -> Config:
    own = {"validation.every": 0, "tensorboard": False, "out": "unused", "compile_blocks": False}
    given = {**own, **changes, **({} if size.released else size.training)}
    if tiny_planner and not size.released:
        given |= {"batch_size": 1, "gradient_accumulation": 1}  # a network of its real size, thus one example
    overrides = [f"train.{key}={value}" for key, value in given.items()]
    if not tiny_planner:
        overrides += [f"spec.cell_{side}={pixels}" for side, pixels in zip(("height", "width"), size.cell, strict=True)]
    config = load_config(RECIPES / recipe, overrides)
    if size.released:
        return config
    offload = min(config.train.offload, 2)  # a rehearsal's networks have two blocks
    return config.model_copy(update={"train": config.train.model_copy(update={"offload": offload})})


def _shapes(config: Config, size: Size, tiny_planner: bool) -> torch.nn.Module:
    """The transformer on the meta device."""
    if not tiny_planner:
        return shapes(config.planner_spec().family, size)
    require_base()
    return load_config_only(PLANNER)


def _require_room(computed: MemoryPlan, size: Size) -> None:
    if size.device != "cuda":
        return
    free = torch.cuda.mem_get_info()[0] / GIB
    if computed.total > free:
        raise NotHereError(f"the recipe needs {computed.total:.1f} GiB as computed, {free:.1f} GiB of the GPU are free")


def _loop(config: Config, size: Size, compiled: bool, tiny_planner: bool) -> Loop:
    """As `training.planner.train.make_loop` sets it up, with random weights, and a random batch in place of a cache."""
    section, spec = config.train, config.planner_spec()
    lora = section.lora.model_copy(update={"init": None})  # weights are random, and its file may have another rank
    section = section.model_copy(update={"lora": lora})
    base = base_of(spec)
    accelerator = make_accelerator(section, section.device)
    dtype = getattr(torch, section.base_dtype)
    transformer = with_random_weights(_shapes(config, size, tiny_planner), size.device, dtype).train()
    prepare_model(transformer, section, accelerator.device)
    if compiled:
        compile_blocks(transformer, size)
    text, pooled = base.blank_text(transformer.config, section.batch_size, size.words)
    batch = Batch(
        drawn(size.device, section.batch_size, *spec.latent_shape, seed=2),
        drawn(size.device, section.batch_size, *spec.condition_latent_shape, seed=3),
        drawn(size.device, *text.shape, seed=4),
        None if pooled is None else drawn(size.device, *pooled.shape, seed=5),
        drawn(size.device, section.batch_size, spec.layout.frames, 2, seed=6)
        if section.objective.end_effector_weight
        else None,
    )
    in_context, guided = InContext(spec, accelerator.device), transformer.config.guidance_embeds

    def loss_of(model: torch.nn.Module, index: int, generator: torch.Generator) -> torch.Tensor:
        return flow_matching_loss(model, in_context, batch, section.objective, generator, guided)

    return Loop(section, transformer, loss_of, accelerator)


def _rates(size: Size, loop: Loop, config: Config, seconds: float) -> dict:
    """Operations of an example by formula, and their rate."""
    spec, model = config.planner_spec(), loop.accelerator.unwrap_model(loop.model)
    picture = spec.target_tokens + spec.conditioning_tokens
    adapter = adapter_forward(model, picture, size.words)
    checkpointing = config.train.gradient_checkpointing
    operations = training_step(shape_of(model), picture + size.words, adapter, checkpointing)
    return rate(operations, seconds, size.device)


def _parts(computed: MemoryPlan) -> dict[str, float]:
    """A memory plan in GiB."""
    names = ("base", "adapter", "gradients", "optimizer", "averaged", "activations")
    return {name: getattr(computed, name) / GIB for name in names} | {"tensors": _tensors(computed)}


def _tensors(computed: MemoryPlan) -> float:
    """Memory of tensors alone in the plan, without validation's autoencoder [GiB]."""
    return computed.total - OVERHEAD_GIB - computed.validation / GIB


def _memory(size: Size, meter: Meter, loop: Loop, computed: MemoryPlan, compiled: bool) -> dict[str, float]:
    """The peak of a step compared with the plan, and what the allocator and the driver hold beyond it."""
    if compiled and size.device == "cpu":
        return {}  # storages cannot be counted in compiled code
    planned = _tensors(computed)
    measured = meter.peak(loop.one_step, lambda: _held(loop)) / GIB
    found = {"computed_gib": planned, "measured_gib": measured, "difference_percent": 100 * (measured / planned - 1)}
    if size.device == "cuda":
        free, total = torch.cuda.mem_get_info()
        found |= {"reserved_gib": torch.cuda.max_memory_reserved() / GIB, "used_on_gpu_gib": (total - free) / GIB}
        found["context_and_workspaces_gib"] = found["used_on_gpu_gib"] - torch.cuda.memory_reserved() / GIB
    return found


def _held(loop: Loop) -> list[torch.Tensor]:
    """What stays between steps."""
    state = [value for optimizer in loop.optimizers for values in optimizer.state.values() for value in values.values()]
    tensors = [value for value in state if isinstance(value, torch.Tensor)]
    return [*weights_of(loop.accelerator.unwrap_model(loop.model)), *tensors, *loop.averaged.values()]

"""Train a planner LoRA on a frozen base, from a cache."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator

from visual_planner.planner.families import Family
from visual_planner.planner.spec import PlannerSpec

from ..cache.mixture import Mixture
from ..errors import TrainingError
from ..loop.loop import Loop, make_accelerator
from ..loop.record import json_digest, make_record
from ..model.autoencoder import load_vae
from ..model.bases.registry import base_of_module
from ..model.in_context import InContext
from ..model.lora import add_lora, fuse_lora, start_from
from ..model.quantize import quantize_frozen
from ..model.transformer import load_transformer, shape_of
from ..sections.config import Config, save_config
from ..sections.planner import TrainSection
from ..sections.result import ExportSection
from .batches import CachedPairs
from .compiling import compile_blocks, compiles
from .decoded import DecodedError
from .objective import BatchLoss, flow_matching_loss
from .offload import offload_blocks
from .validation import Validation

DECIDES_NOTHING = ("gradient_checkpointing", "compile_blocks", "offload")
"""Settings of a planner's training that, up to rounding, only change its cost."""


def make_model(
    section: TrainSection, device: torch.device | str = "cpu", family: Family | None = None
) -> torch.nn.Module:
    """The frozen base (with its base LoRA, packed as configured) and a fresh adapter.

    Raises:
        TrainingError: settings that exclude each other, a base of another family, or a base LoRA of another model.
    """
    _check_together(section)
    transformer = load_transformer(section.base, section.base_dtype, family)
    if section.lora.base is not None:
        fuse_lora(transformer, section.lora.base)
    prepare_model(transformer, section, device)
    return transformer


def prepare_model(transformer: torch.nn.Module, section: TrainSection, device: torch.device | str) -> None:
    """Give a base a fresh adapter, and pack, offload and compile it as configured; in place."""
    base_of_module(transformer).split_attention(transformer)
    if section.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    add_lora(transformer, section.lora)
    if section.lora.init is not None:
        start_from(transformer, section.lora)
    at = "cpu" if section.offload else device  # the whole base may be too large for the device
    quantize_frozen(transformer, section.quantize, at, section.quantized_products)
    if section.offload:
        offload_blocks(transformer, section.offload, device)
    if compiles(section, device):
        compile_blocks(transformer)


def _check_together(section: TrainSection) -> None:
    """Refuse settings that exclude each other."""
    if section.quantize != "none" and section.lora.merged_forward:
        raise TrainingError(
            f"lora.merged_forward needs plain weights, but quantize is {section.quantize}: turn one of them off"
        )
    if section.lora.fused_forward and section.lora.merged_forward:
        raise TrainingError("lora.fused_forward and lora.merged_forward exclude each other: turn one of them off")
    if section.quantized_products and section.quantize not in ("int8", "fp8"):
        raise TrainingError(f"quantized_products needs quantize int8 or fp8, but quantize is {section.quantize}")
    if section.offload and not section.gradient_checkpointing:
        raise TrainingError("offload needs gradient_checkpointing: true, since a backward pass keeps all weights else")
    for name, wrong in (
        ("compile_blocks: true", section.compile_blocks is True), ("quantize: nf4", section.quantize == "nf4"),
        ("shard: true", section.shard), ("lora.merged_forward: true", section.lora.merged_forward),
    ):  # fmt: skip
        if section.offload and wrong:
            raise TrainingError(f"offload and {name} exclude each other: turn one of them off")


def train(config: Config) -> bool:
    """Train (or resume training) a LoRA; checkpoints, log and validation pictures are in `train.out`.

    Returns:
        Whether the run has reached its end.
    """
    return run_loop(make_loop(config), config)


def run_loop(loop: Loop, config: Config) -> bool:
    """Run a planner's training from its newest checkpoint to its end (True) or to a stop."""
    loop.resume()
    if loop.accelerator.is_main_process:
        save_config(config, loop.run_folder / "config.yaml")
    finished = loop.run()
    state = "finished" if finished else "stopped"
    loop.accelerator.print(f"{state} at step {loop.step} of {loop.section.max_steps}: {loop.run_folder}")
    loop.accelerator.end_training()
    return finished


def make_loop(config: Config) -> Loop:
    """The loop of `train`, at its first step.

    Raises:
        TrainingError: cache, base and configuration do not belong together, or settings exclude each other.
    """
    parts = make_parts(config, config.section("train"))
    loss = partial(flow_matching_loss, in_context=parts.in_context, guidance_embedded=parts.guidance_embedded)
    if parts.section.objective.decoded_weight:
        vae = load_vae(
            parts.section.base / "vae", device=parts.accelerator.device, family=parts.mixture.spec.base_family
        )
        loss = partial(loss, decoded=DecodedError(vae, parts.mixture.spec.layout))
    return parts.loop("train", config.export, config.planner_spec(), loss)


@dataclass
class Parts:
    """The parts of every training of a planner LoRA.

    Args:
        section: its settings, `max_epochs` turned into steps.
        mixture: the caches.
        accelerator: the accelerator of this process.
        transformer: the frozen base with its adapter.
        in_context: the spec's token and id arrangement.
        pairs: the pairs that steps draw from.
    """

    section: TrainSection
    mixture: Mixture
    accelerator: Accelerator
    transformer: torch.nn.Module
    in_context: InContext
    pairs: CachedPairs

    @property
    def guidance_embedded(self) -> bool:
        """Whether the transformer takes a guidance value."""
        return self.transformer.config.guidance_embeds

    def loop(self, kind: str, export: ExportSection | None, spec: PlannerSpec, loss: BatchLoss, **inputs: Path) -> Loop:
        """The loop at its first step.

        Args:
            kind: name of the section.
            export: how the file will be written; None: with the defaults.
            spec: spec of the exported file, with which validation samples plans.
            loss: loss of one batch.
            inputs: further files that the weights depend on, by field name.
        """
        section, accelerator = self.section, self.accelerator

        def loss_of(model: torch.nn.Module, index: int, generator: torch.Generator) -> torch.Tensor:
            batch = self.pairs.batch(index, accelerator.device)
            return loss(model, batch=batch, section=section.objective, generator=generator, share=self.pairs.share)

        every = section.validation.every
        validation = None
        if every:
            validation = Validation(
                section, export, self.mixture, self.transformer, self.in_context, accelerator, spec, loss
            )
        record = planner_record(
            kind, section, spec, self.mixture, self.transformer, accelerator.num_processes, **inputs
        )
        return Loop(section, self.transformer, loss_of, accelerator, validation, every, section.shard, record)


def make_parts(config: Config, section: TrainSection) -> Parts:
    """Open the caches, load the base and add the adapter.

    Raises:
        TrainingError: cache, base and configuration do not belong together, or settings exclude each other.
    """
    mixture = Mixture.open(section.cache)
    if names := config.planner_spec().differences(mixture.spec):
        raise TrainingError(
            f"the configuration's spec differs from the one that cache {mixture.name} was made with in "
            f"{', '.join(names)}: create the cache again"
        )
    mixture.check_encoders(Path(section.base))
    accelerator = make_accelerator(section, section.device)
    if section.offload and accelerator.num_processes > 1:
        raise TrainingError(f"offload needs one process, got {accelerator.num_processes}: shard: true splits the base")
    transformer = make_model(section, accelerator.device, mixture.spec.base_family)
    share = accelerator.process_index, accelerator.num_processes
    pairs = CachedPairs(mixture, section, share=share)
    section = _limited(section, len(pairs), accelerator)
    return Parts(section, mixture, accelerator, transformer, InContext(mixture.spec, accelerator.device), pairs)


def planner_record(
    kind: str,
    section: TrainSection,
    spec: PlannerSpec,
    mixture: Mixture,
    transformer: torch.nn.Module,
    processes: int,
    **more: Path,
) -> dict:
    """Record of what a planner's weights depend on and what its file must contain; see `make_record`."""
    inputs = {
        "base": Path(section.base) / "transformer",
        "lora.base": section.lora.base,
        "cache": json_digest([cache.manifest for cache in mixture.caches]),
        **more,
    }
    return make_record(
        kind, section, inputs, spec, processes,
        DECIDES_NOTHING, shares=mixture.shares, model=shape_of(transformer),
    )  # fmt: skip


def _limited(section: TrainSection, pairs: int, accelerator: Accelerator) -> TrainSection:
    """The section with `max_epochs` turned into steps, if that is less than `max_steps`."""
    if section.max_epochs is None:
        return section
    at_once = section.batch_size * section.gradient_accumulation * accelerator.num_processes
    steps = max(1, math.ceil(section.max_epochs * pairs / at_once))
    return section.model_copy(update={"max_steps": min(section.max_steps, steps)})

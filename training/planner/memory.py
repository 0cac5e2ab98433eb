"""Compute how much memory a training step takes before any weight is loaded.

One step (forward, backward, optimizer) runs on PyTorch's meta device, which computes shapes but no values, with the
module that the configuration would train: its layers, adapter, dtypes, checkpointing and token counts. Every
storage that an operation creates is counted while it exists, so the peak is that of the real step up to the allocator's
rounding, the workspace of the device's libraries and its context (docs/training.md describes the method).
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from visual_planner.planner.spec import PlannerSpec

from ..errors import TrainingError
from ..loop.precision import expect_mixed_norms
from ..loop.randomness import step_generator
from ..model.bases.registry import base_of, base_of_autoencoder, require_base
from ..model.in_context import InContext
from ..model.lora import add_lora, computes_fused
from ..model.quantize import PackedLinear, quantize_frozen
from ..model.transformer import load_config_only
from ..sections.config import Config
from ..sections.planner import TrainSection
from .decoded import DecodedError
from .objective import Batch, flow_matching_loss
from .offload import COPIES, chosen_blocks, frozen_tensors

GIB = 2**30
OVERHEAD_GIB = 1.0
"Added for the device's context and library workspaces, which no tensor accounts for (an estimate)."
_NF4_BYTES = 0.5 + (1 + 4 / 256) / 64
"""Bytes of a weight in nf4: four bits, plus an 8-bit scale per 64 weights and a float32 scale per 256 of those."""
_VAE_GIB = 0.33
"""Bytes of FLUX's autoencoder in float32, which validation keeps in memory."""
_STATE = {"adamw": 8.0, "adamw8bit": 2.03, "prodigy": 16.0, "muon": 8.0}
"Optimizer state [bytes] per trained parameter in float32."


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all live storages that operations have created; works on any device.

    Attributes:
        now: bytes alive.
        peak: largest `now`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def know(self, tensors: object) -> None:
        """Exclude storages that existed before."""
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, torch.Tensor):
                self._known.add(tensor.untyped_storage()._cdata)

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        """Run an operation and count the storages that it creates."""
        result = function(*arguments, **(keywords or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes of one process.

    Args:
        base: frozen weights.
        adapter: trained weights (float32).
        gradients: gradients of the adapter.
        optimizer: state of the optimizer.
        averaged: the EMA weights.
        activations: what forward and backward pass hold at their peak in addition to the above.
        validation: autoencoder in memory during training, 0 without validation.
        tokens: noise, condition and text tokens of one example.
        trained: number of trained values.
        in_ram: frozen weights that wait in RAM.
    """

    base: int
    adapter: int
    gradients: int
    optimizer: int
    averaged: int
    activations: int
    validation: int
    tokens: tuple[int, int, int]
    trained: int
    in_ram: int = 0

    @property
    def total(self) -> float:
        """Total with the overhead [GiB]."""
        parts = self.base, self.adapter, self.gradients, self.optimizer, self.averaged, self.activations
        return (sum(parts) + self.validation) / GIB + OVERHEAD_GIB

    def text(self) -> str:
        """One line per part."""
        noise, condition, words = self.tokens
        lines = [f"tokens per example: {noise} noise + {condition} condition + {words} text"]
        lines.append(f"trained parameters: {self.trained / 1e6:.1f} million")
        for name in ("base", "adapter", "gradients", "optimizer", "averaged", "activations", "validation"):
            lines.append(f"{name:12}{getattr(self, name) / GIB:8.2f} GiB")
        if self.in_ram:
            lines.append(f"{'in RAM':12}{self.in_ram / GIB:8.2f} GiB (offloaded, not in the total)")
        lines.append(f"{'overhead':12}{OVERHEAD_GIB:8.2f} GiB (context and workspaces, estimated)")
        return "\n".join([*lines, f"{'total':12}{self.total:8.2f} GiB"])


def show_memory(config: Config) -> MemoryPlan:
    """Print the memory plan of `train`."""
    section: TrainSection = config.section("train")
    spec = config.planner_spec()
    tokens = config.cache.text_tokens if config.cache is not None else 512
    if not tokens:
        raise TrainingError(
            "cache.text_tokens must be more than 0 to compute memory, got 0, which only the tokenizer can resolve"
        )
    plan = memory_plan(section, spec, tokens)
    print(plan.text())
    return plan


def memory_plan(
    section: TrainSection, spec: PlannerSpec, text_tokens: int, model: torch.nn.Module | None = None
) -> MemoryPlan:
    """Memory of one step of `train` on one device.

    Args:
        section: settings of the run.
        spec: layout, cell size, condition tokens.
        text_tokens: length of the text.
        model: model on the meta device; None reads the base's config.json, or takes the family's released shapes.
    """
    model = base_shapes(section, spec) if model is None else model
    model = torch.nn.Module.to(model, getattr(torch, section.base_dtype))
    if section.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    with torch.device("meta"):
        add_lora(model, section.lora)
    packed_as = "int8" if section.quantize == "nf4" else section.quantize  # nf4's layers exist on real devices only
    quantize_frozen(model, packed_as, "meta", section.quantized_products)
    numbers = sum(p.numel() for p in model.parameters() if p.requires_grad)
    away, copies = _offloaded_bytes(model, section.offload)
    base = _base_bytes(model, section.quantize) - away + copies
    in_context = InContext(spec, "meta")
    decoded = _decoded_error(section, spec)
    if decoded is not None:
        base += sum(p.nbytes for p in decoded.vae.parameters())
    peak = step_peak(model, in_context, _batch(section, spec, text_tokens, model), section, decoded)
    condition = len(in_context.ids) - len(in_context.target_ids)
    return MemoryPlan(
        base=base,
        adapter=4 * numbers,
        gradients=4 * numbers,
        optimizer=round(_STATE[section.optimizer.name] * numbers),
        averaged=4 * numbers if section.ema_decay else 0,
        activations=max(0, peak - 4 * numbers),
        validation=round(_VAE_GIB * GIB) if section.validation.every else 0,
        tokens=(len(in_context.target_ids), condition, text_tokens),
        trained=numbers,
        in_ram=away,
    )


def base_shapes(section: TrainSection, spec: PlannerSpec) -> torch.nn.Module:
    """The base on the meta device, with the shapes of the family's released base if its folder does not exist yet."""
    if (section.base / "transformer" / "config.json").is_file():
        require_base(section.base, spec.base_family)
        return load_config_only(section.base)
    with torch.device("meta"):
        return base_of(spec).released_shapes()


def _base_bytes(model: torch.nn.Module, quantize: str) -> int:
    """Bytes of everything frozen."""
    total = sum(p.nbytes for p in model.parameters() if not p.requires_grad)
    if quantize == "nf4":
        return total + sum(round(_NF4_BYTES * layer.packed.numel()) for layer in _packed_layers(model))
    return total + sum(buffer.nbytes for buffer in model.buffers())


def _offloaded_bytes(model: torch.nn.Module, count: int) -> tuple[int, int]:
    """Bytes that wait in RAM, and bytes of the copies that are on the device at the same time."""
    sizes = [sum(t.nbytes for t in frozen_tensors(block).values()) for block in chosen_blocks(model, count)]
    return sum(sizes), sum(sorted(sizes)[-COPIES:])


def _packed_layers(model: torch.nn.Module) -> list[PackedLinear]:
    return [module for module in model.modules() if isinstance(module, PackedLinear)]


def _batch(section: TrainSection, spec: PlannerSpec, text_tokens: int, model: torch.nn.Module) -> Batch:
    count, config = section.batch_size, model.config
    with torch.device("meta"):
        return Batch(
            torch.empty(count, *spec.latent_shape),
            torch.empty(count, *spec.condition_latent_shape),
            *base_of(spec).blank_text(config, count, text_tokens),
            torch.empty(count, spec.layout.frames, 2) if section.objective.end_effector_weight else None,
        )


def _decoded_error(section: TrainSection, spec: PlannerSpec) -> DecodedError | None:
    """The error of decoded frames on the meta device, None where it has no weight.

    Raises:
        TrainingError: the base has no autoencoder yet, whose sizes are needed.
    """
    if not section.objective.decoded_weight:
        return None
    folder = Path(section.base) / "vae"
    if not (folder / "config.json").is_file():
        raise TrainingError(f"objective.decoded_weight needs the base's autoencoder, but {folder} has no config.json")
    kind = base_of_autoencoder(folder, spec.base_family).autoencoder
    with torch.device("meta"):
        return DecodedError(kind.from_config(kind.load_config(folder, local_files_only=True)), spec.layout)


def step_peak(
    model: torch.nn.Module,
    in_context: InContext,
    batch: Batch,
    section: TrainSection,
    decoded: DecodedError | None = None,
) -> int:
    """Largest number of bytes that forward and backward hold beside weights and inputs, gradients included."""
    kinds = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16, "auto": torch.bfloat16}
    dtype = kinds[section.mixed_precision]  # the plan is for a GPU
    expect_mixed_norms()
    counter, guidance = PeakMemory(), model.config.guidance_embeds
    counter.know([list(model.parameters()), list(model.buffers()), list(vars(batch).values()), in_context.ids])
    if decoded is not None:
        counter.know(list(decoded.vae.parameters()))
    if model.is_gradient_checkpointing:
        # modes are off in the backward pass: recomputed layers must enter them again
        again = partial(checkpoint, use_reentrant=False, context_fn=lambda: (nullcontext(), _AsOnDevice(dtype)))
        model.enable_gradient_checkpointing(lambda module, *arguments: again(module.__call__, *arguments))
    with _packed_under_autocast(model, dtype), counter, _AsOnDevice(dtype):
        loss = flow_matching_loss(
            model, in_context, batch, section.objective, step_generator(0, 0), guidance, decoded=decoded
        )
        loss.backward()
    return counter.peak


@contextmanager
def _packed_under_autocast(model: torch.nn.Module, dtype: torch.dtype | None) -> Iterator[None]:
    """Cast the inputs of packed layers and fused adapters as autocast would: they compute in their input's dtype."""
    layers = [module for module in model.modules() if isinstance(module, PackedLinear) or computes_fused(module)]
    hooks = [
        layer.register_forward_pre_hook(lambda _, given: (given[0].to(dtype), *given[1:]))
        for layer in layers if dtype is not None
    ]  # fmt: skip
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _AsOnDevice(TorchFunctionMode):
    """Emulates autocast and fused attention of a GPU on the meta device, which has neither.

    Args:
        dtype: dtype of matrix products, None without autocast.
    """

    def __init__(self, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        """Call a function: products in the short dtype, layer norms in float32, attention without its matrix."""
        keywords = keywords or {}
        if function is functional.scaled_dot_product_attention:
            given = [*arguments[:3], *(keywords[name] for name in ("query", "key", "value") if name in keywords)]
            return _FusedAttention.apply(*(tensor.to(self.dtype or tensor.dtype) for tensor in given))
        if self.dtype is not None and function is functional.linear:
            arguments = tuple(tensor if tensor is None else tensor.to(self.dtype) for tensor in arguments)
        if self.dtype is not None and function is functional.layer_norm:
            arguments = (arguments[0].float(), *arguments[1:])
        return function(*arguments, **keywords)


class _FusedAttention(torch.autograd.Function):
    """The storages of fused attention (Dao 2023): it keeps inputs, output and one number per query."""

    @staticmethod
    def forward(ctx, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        out, sums = torch.empty_like(query), query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, out, sums)
        return out

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])

"""What each switch of the training costs and changes: a step with it against a step without it.

One double-stream and one single-stream block of FLUX.1's width with random weights, its adapter, AdamW and the loss of
`python -m training train`. Steps with and without a switch take turns; then both train from the same weights for
some steps, and their adapters are compared: the largest difference relative to the largest change of any weight. Times
are CPU times, of all threads.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from launcher.console import StatusLine

from .harness import Benchmark, interleave

REPEATS = 5
CASES: dict[str, tuple[dict, dict]] = {
    "fused_adapter": ({}, {"lora.fused_forward": True}),
    "fused_adapter_int8": ({"quantize": "int8"}, {"lora.fused_forward": True}),
    "int8_products": ({"quantize": "int8"}, {"quantized_products": True}),
    "fp8_products": ({"quantize": "fp8"}, {"quantized_products": True}),
    "offload": ({"gradient_checkpointing": True}, {"offload": 2}),
    "compile": ({}, {"compile_blocks": True}),
}
"""Switch -> the settings on both sides, and the switch's own."""


@dataclass(frozen=True)
class Setting:
    """Sizes of a measurement.

    Args:
        heads: attention heads of 128 channels.
        cell: side of a cell of a 3x3 grid [px].
        words: text tokens.
        rank: rank of the adapter.
        steps: number of steps that both sides train.
        cases: switches to measure.
    """

    heads: int = 24
    cell: int = 48
    words: int = 64
    rank: int = 16
    steps: int = 20
    cases: tuple[str, ...] = tuple(CASES)


def run(repeats: int | None = None, setting: Setting | None = None) -> Benchmark:
    """Measure.

    Args:
        repeats: timed rounds of each pair.
        setting: other sizes than FLUX.1's, to test the benchmark.
    """
    setting, status = setting or Setting(), StatusLine("Switches")
    raw, ratios, notes = {}, {}, {"width": 128 * setting.heads, "steps compared": setting.steps}
    for name in setting.cases:
        if name == "int8_products" and not torch.cpu._is_vnni_supported():
            notes[name] = "left out: this CPU has no 8-bit products (VNNI), and torch's own are 20 to 100 times as slow"
            continue
        status.update(name)
        both, own = CASES[name]
        pair = {f"{name} without": _loop(setting, both), name: _loop(setting, both | own)}
        start = [p.detach().clone() for p in pair[name].trained.values()]
        for _ in range(setting.steps):
            for loop in pair.values():
                loop.one_step()
        plain, ours = ([p.detach() for p in loop.trained.values()] for loop in pair.values())
        notes[f"{name}: largest difference of weights / largest change"] = f"{_apart(ours, plain, start):.2g}"
        steps = {case: loop.one_step for case, loop in pair.items()}
        raw |= interleave(steps, repeats or REPEATS, warmup=0, clock=time.process_time)  # other programs do not count
        ratios[f"{name}/without"] = (name, f"{name} without")
        if name != "compile":  # storages cannot be counted in compiled code
            peaks = [_peak(loop) for loop in pair.values()]
            notes[f"{name}: memory of a step / without"] = f"{peaks[1] / peaks[0]:.3f}"
        del pair
    status.close()
    return Benchmark("switches", "s", raw, ratios, notes)


def _apart(ours: list[torch.Tensor], plain: list[torch.Tensor], start: list[torch.Tensor]) -> float:
    def largest(one, two):
        return max(float((a - b).abs().max()) for a, b in zip(one, two, strict=True))

    return largest(ours, plain) / largest(plain, start)


def _loop(setting: Setting, settings: dict):
    """A training of the two blocks, on the same random weights and the same batch each time."""
    from diffusers import FluxTransformer2DModel

    from training.loop.loop import Loop, make_accelerator
    from training.model.in_context import InContext
    from training.planner.objective import Batch, flow_matching_loss
    from training.planner.train import prepare_model
    from training.sections.planner import TrainSection
    from visual_planner.planner.spec import PlannerSpec

    given = {
        "base": "unused", "cache": "unused", "out": Path(tempfile.gettempdir()) / "unused", "base_dtype": "float32",
        "device": "cpu", "threads": torch.get_num_threads(), "lora": {"rank": setting.rank, "alpha": setting.rank},
    }  # fmt: skip
    for name, value in settings.items():
        section, _, key = name.rpartition(".")
        (given[section] if section else given)[key] = value
    section = TrainSection.model_validate(given)
    accelerator = make_accelerator(section, "cpu")
    torch.manual_seed(0)
    model = FluxTransformer2DModel(
        num_layers=1, num_single_layers=1, num_attention_heads=setting.heads, joint_attention_dim=64,
        pooled_projection_dim=32, guidance_embeds=True,
    )  # fmt: skip
    prepare_model(model.train(), section, "cpu")
    spec = PlannerSpec(cell_height=setting.cell, cell_width=setting.cell, condition_tokens="first_cell")
    shapes = (1, *spec.latent_shape), (1, *spec.condition_latent_shape), (1, setting.words, 64), (1, 32)
    batch = Batch(*(torch.randn(shape) for shape in shapes))
    in_context = InContext(spec, "cpu")

    def loss_of(model, index, generator):
        return flow_matching_loss(model, in_context, batch, section.objective, generator, True)

    return Loop(section, model, loss_of, accelerator)


def _peak(loop) -> int:
    """Peak of bytes in tensors during a step: what stays on the device, and what the step creates."""
    from training.planner.memory import PeakMemory

    model = loop.accelerator.unwrap_model(loop.model)
    state = [value for optimizer in loop.optimizers for values in optimizer.state.values() for value in values.values()]
    stays = [*model.parameters(), *model.buffers(), *(value for value in state if isinstance(value, torch.Tensor))]
    counter = PeakMemory()
    counter.know(stays)
    with counter:
        loop.one_step()
    return counter.peak + sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in stays}.values())

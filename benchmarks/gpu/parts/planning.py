"""Planning with diffusers' classes: a step under each kind of condition tokens, whole plans, memory, compiled blocks.

Transformer and sampling are those of the planning pipeline; text embeddings and latents are random. The first three
kinds run with diffusers' own attention processors. A cached condition needs ours, so "none" is timed with those too,
and the ratio of the two compares like with like.
"""

from __future__ import annotations

import torch
from torch import autocast

from training.model.bases.registry import base_of
from training.model.in_context import InContext
from training.model.quantize import quantize_frozen
from training.model.sampling import draw_noise, sample
from visual_planner.planner.conditioning import pack_latents

from ..measuring.clock import GIB, Meter, medians, ratios, weights_of
from ..measuring.flops import shape_of, tokens_of
from ..measuring.networks import compile_blocks, drawn, random_transformer, spec_of
from ..measuring.rates import rate
from ..size import Report, Size

WAYS = ("none", "first_cell", "full_grid")
CACHED = "first_cell_cached"
SIGMA, GUIDANCE = 0.7, 3.5


class Step:
    """One step of a plan in diffusers' classes.

    Args:
        transformer: transformer on the device.
        size: size of the run.
        family: family of the transformer.
        way: one of the kinds of condition tokens, or "none".
        short: whether products are computed in bfloat16; otherwise everything is in the weights' dtype.
    """

    def __init__(self, transformer: torch.nn.Module, size: Size, family: str, way: str, short: bool = True) -> None:
        self.transformer, self.conditioned, self.short = transformer, way != "none", short
        self.spec = spec_of(size, family, way if self.conditioned else "first_cell")
        self.in_context, device = InContext(self.spec, size.device), size.device
        shapes = base_of(self.spec).blank_text(transformer.config, 1, size.words)
        self.text, self.pooled = (None if s is None else drawn(device, *s.shape, seed=2) for s in shapes)
        self.latent = drawn(device, 1, *self.spec.condition_latent_shape, seed=3) if self.conditioned else None
        pack = self.spec.base_family
        self.tokens = pack_latents(drawn(device, 1, *self.spec.latent_shape), family=pack)
        self.condition = None if self.latent is None else pack_latents(self.latent, family=pack)
        takes = transformer.config.guidance_embeds
        self.guidance = torch.full((1,), GUIDANCE, device=device) if takes else None
        self.sigma = torch.full((1,), SIGMA, device=device)
        self.prepared = self.condition

    def autocast(self) -> torch.autocast:
        """Autocast as in the planning pipeline with bfloat16 weights."""
        return autocast(self.tokens.device.type, torch.bfloat16, enabled=self.short)

    @torch.no_grad()
    def prepare(self) -> None:
        """Compute what is needed once per plan: keys and values of a cached condition."""
        with self.autocast():
            self.prepared = self.in_context.prepare(
                self.transformer, self.condition, self.text, self.pooled, self.guidance
            )

    @torch.no_grad()
    def __call__(self, again: bool = False) -> torch.Tensor:
        """Velocity; `again` computes a cached condition in this call."""
        with self.autocast():
            return self.in_context(
                self.transformer, self.tokens, self.condition if again else self.prepared, self.text, self.pooled,
                self.sigma, self.guidance,
            )  # fmt: skip

    @torch.no_grad()
    def plan(self, steps: int) -> torch.Tensor:
        """Latents of a whole plan, with noise drawn on the CPU as always."""
        with self.autocast():
            return sample(
                self.transformer, self.in_context, self.spec, draw_noise(self.spec, [0]), self.latent, self.text,
                self.pooled, steps=steps, cfg=1.0,
            )  # fmt: skip


def planning(report: Report, size: Size, family: str, form: str = "none") -> None:
    """Steps and plans of a family's released base.

    Args:
        report: takes figures.
        size: size of the run.
        family: name of the family.
        form: how the blocks' matrices are stored, as in a recipe's `quantize`.
    """
    meter = Meter(size.device, size.repeats, size.warmup)
    model = random_transformer(family, size)
    quantize_frozen(model, form, size.device)
    report(weights_gib=sum(tensor.nbytes for tensor in weights_of(model)) / GIB)
    steps = {way: Step(model, size, family, way) for way in WAYS}
    raw = meter.rounds(steps)
    _report_steps(report, size, model, steps["none"].spec, raw)
    report(ratio_to_none=ratios(raw, "none"))
    report(peak_gib={way: meter.peak(step, lambda: weights_of(model)) / GIB for way, step in steps.items()})
    _cached(report, size, meter, model, family)
    _plans(report, size, meter, Step(model, size, family, CACHED))


def compiled_planning(report: Report, size: Size, family: str) -> None:
    """Steps with every block compiled, compared with uncompiled ones."""
    meter = Meter(size.device, size.repeats, size.warmup)
    model = random_transformer(family, size)
    base_of(spec_of(size, family)).split_attention(model)
    plain = medians(meter.rounds({"first_cell": Step(model, size, family, "first_cell")}))["first_cell"]
    report(plain_step_s=plain, blocks=compile_blocks(model, size), backend=size.backend)
    for way in ("first_cell", CACHED):
        step = Step(model, size, family, way)
        first = meter.once(lambda step=step: (step.prepare(), step()))
        seconds = meter.median(step)
        report(
            **{f"compiled_{way}": {"first_step_s": first, "step_s": seconds, "to_plain_first_cell": seconds / plain}}
        )


def _report_steps(report: Report, size: Size, model: torch.nn.Module, spec, raw: dict[str, list[float]]) -> None:
    """Seconds, operations by formula and rates of steps."""
    shape, rows = shape_of(model), {}
    for way, seconds in medians(raw).items():
        kind = CACHED if way == CACHED else way
        condition = spec_of(size, spec.family, "full_grid" if way == "full_grid" else "first_cell").conditioning_tokens
        operations = shape.forward(*tokens_of(kind, spec.target_tokens, condition, size.words))
        rows[way] = {"step_s": seconds, **rate(operations, seconds, size.device), "raw_s": raw[way]}
    report(**rows)


def _cached(report: Report, size: Size, meter: Meter, model: torch.nn.Module, family: str) -> None:
    """The cached condition: its one pass, a step, the cost of both relative to no condition, and their correctness."""
    base_of(spec_of(size, family)).split_attention(model)
    none, cached = Step(model, size, family, "none"), Step(model, size, family, CACHED)
    once = meter.median(cached.prepare)
    raw = meter.rounds({"none": none, CACHED: cached})
    _report_steps(report, size, model, cached.spec, {CACHED: raw[CACHED]})
    ratio, without = ratios(raw, "none")[CACHED], medians(raw)["none"]
    report(
        condition_once_s=once,
        none_with_our_attention_s=without,
        cached_ratio_to_none={"a step": ratio} | {f"plan of {n}": ratio + once / n / without for n in size.plans},
        cached_peak_gib=meter.peak(cached, lambda: weights_of(model)) / GIB,
    )
    kept, computed = cached().float(), cached(again=True).float()
    report(cached_against_recomputed=((kept - computed).norm() / computed.norm()).item())


def _plans(report: Report, size: Size, meter: Meter, step: Step) -> None:
    """Whole plans of a cached condition."""
    step.plan(1)
    for count in size.plans:
        report(**{f"plan_of_{count}_s": meter.once(lambda count=count: step.plan(count))})
    finite = bool(step.plan(1).isfinite().all())
    report(plan_peak_gib=meter.peak(lambda: step.plan(1), lambda: weights_of(step.transformer)) / GIB, finite=finite)

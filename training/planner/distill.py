"""Distillation: a planner LoRA learns to reach in a few steps what its teacher reaches in many.

The student starts as a copy of the teacher. Its steps are every r-th noise level of the teacher's schedule; from a
noisy latent at one of them the teacher takes r deterministic Euler steps, and the student learns the one step that ends
in the same place: progressive distillation (Salimans and Ho, arXiv 2202.00512) for the velocity of rectified flow, in
one stage. Classifier-free guidance of the teacher becomes part of the student, which needs none (Meng et al.,
"On Distillation of Guided Diffusion Models", arXiv 2210.03142).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch

from visual_planner.planner.conditioning import add_noise, pack_latents, sigmas
from visual_planner.planner.spec import PlannerSpec

from ..cache.mixture import Mixture
from ..errors import TrainingError
from ..loop.loop import Loop
from ..model.in_context import InContext
from ..model.sampling import guided_velocity
from ..sections.config import Config
from ..sections.planner import DistillSection
from ..sections.run import ObjectiveSection
from .objective import Batch, draw_noise_and_guidance, weighted_error
from .train import make_parts, run_loop


def distill(config: Config) -> bool:
    """Distil (or resume distilling) a LoRA; checkpoints, log and validation pictures are in `distill.out`.

    Returns:
        Whether the run has reached its end.
    """
    return run_loop(make_distillation(config), config)


def student_spec(spec: PlannerSpec, section: DistillSection) -> PlannerSpec:
    """The student's spec: its own steps, and no classifier-free guidance.

    Args:
        spec: the teacher's spec.
        section: settings with the number of steps.
    """
    steps = section.student_steps
    return replace(spec, steps=steps, execution_steps=min(steps, spec.execution_steps), cfg=1.0)


def make_distillation(config: Config) -> Loop:
    """The loop of `distill`, at its first step.

    Raises:
        TrainingError: no teacher is named, the steps do not divide its steps, or as in `train`.
    """
    section: DistillSection = config.section("distill")
    spec = config.planner_spec()
    if section.lora.init is None:
        raise TrainingError("distill.lora.init must name the exported LoRA of the teacher, got none")
    if section.objective.decoded_weight:
        raise TrainingError("distill.objective.decoded_weight must be 0: only `train` decodes frames")
    if section.shard:
        raise TrainingError("distill.shard must be false: teacher and student exchange whole weights")
    levels = teacher_levels(spec, section)
    student = student_spec(spec, section)
    parts = make_parts(config, section)
    teacher = Teacher(parts.transformer, parts.in_context, levels, spec.cfg, _empty_prompt(parts.mixture, spec))
    loss = partial(distillation_loss, teacher=teacher, guidance_embedded=parts.guidance_embedded)
    return parts.loop("distill", config.export, student, loss, **{"lora.init": section.lora.init})


def teacher_levels(spec: PlannerSpec, section: DistillSection) -> torch.Tensor:
    """The teacher's noise levels (steps, r + 1): one row per step of the student, from its start to its end.

    Raises:
        TrainingError: the student's steps do not divide the teacher's, or are not fewer, or the two schedules differ.
    """
    steps, of_teacher = section.student_steps, section.teacher_steps or spec.steps
    if steps >= of_teacher:
        raise TrainingError(f"distill.student_steps must be fewer than the teacher's {of_teacher}, got {steps}")
    if of_teacher % steps:
        raise TrainingError(f"distill.student_steps must divide the teacher's {of_teacher} steps, got {steps}")
    levels = sigmas(of_teacher, spec.mu())
    ratio = of_teacher // steps
    if not torch.allclose(levels[::ratio], sigmas(steps, student_spec(spec, section).mu()), atol=1e-6):
        raise TrainingError(f"the noise levels of {steps} steps are no part of those of {of_teacher}")
    return levels.unfold(0, ratio + 1, ratio)


class Teacher:
    """The planner before its distillation: the same base with the adapter's initial weights, which are kept.

    Args:
        transformer: base with the adapter, which holds the teacher's weights at this point.
        in_context: the spec's token and id arrangement.
        levels: (S, r + 1) noise levels, one row per step of the student.
        cfg: its classifier-free guidance; 1 is without.
        empty: text embeddings (1, T, D) and pooled text (1, P) of the empty prompt; None without guidance.
    """

    def __init__(
        self,
        transformer: torch.nn.Module,
        in_context: InContext,
        levels: torch.Tensor,
        cfg: float = 1.0,
        empty: tuple[torch.Tensor, torch.Tensor | None] | None = None,
    ) -> None:
        self.transformer, self.in_context = transformer, in_context
        self.levels, self.cfg, self.empty = levels, cfg, empty
        self._weights = {n: p.detach().clone() for n, p in transformer.named_parameters() if p.requires_grad}

    @property
    def steps(self) -> int:
        """Steps of the student."""
        return len(self.levels)

    @torch.no_grad()
    def velocity(
        self, tokens: torch.Tensor, condition: torch.Tensor | None, batch: Batch, step: torch.Tensor,
        guidance: torch.Tensor | None,
    ) -> torch.Tensor:  # fmt: skip
        """Mean velocity (B, N, C) over a step of the student, along the teacher's own trajectory.

        Args:
            tokens: (B, N, C) packed latents at the noise level of the step's start.
            condition: (B, M, C) packed condition latents, or None.
            batch: the batch, for its text.
            step: (B,) number of the student's step.
            guidance: (B,) guidance to embed, or None.
        """
        levels = self.levels[step].to(tokens.device)
        there = tokens
        with self._in_place():
            call = guided_velocity(
                self.transformer, self.in_context, condition, batch.text, batch.pooled, guidance, self.cfg, self.empty
            )
            for now, following in zip(levels.T[:-1], levels.T[1:], strict=True):
                there = there + (following - now)[:, None, None] * call(there, now).to(there.dtype)
        return (there - tokens) / (levels[:, -1] - levels[:, 0])[:, None, None]

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        """Put the teacher's weights into the model; autocast's cached casts of the other weights are dropped."""
        own = dict(self.transformer.named_parameters())
        kept = {name: own[name].data for name in self._weights}
        torch.clear_autocast_cache()
        try:
            for name, tensor in self._weights.items():
                own[name].data = tensor
            yield
        finally:
            for name, tensor in kept.items():
                own[name].data = tensor
            torch.clear_autocast_cache()


def distillation_loss(
    model: torch.nn.Module,
    batch: Batch,
    section: ObjectiveSection,
    generator: torch.Generator,
    teacher: Teacher,
    guidance_embedded: bool,
    share: tuple[int, int] = (0, 1),
) -> torch.Tensor:
    """How far the student's step ends from where the teacher ends (a scalar): squared error of the mean velocities.

    Args:
        model: the student.
        batch: latents and text embeddings, on the model's device.
        section: weights of the loss, guidance; noise levels are the student's own.
        generator: CPU generator of steps, noise and guidance.
        teacher: the teacher.
        guidance_embedded: whether the transformer takes a guidance value.
        share: number of this process and count of processes.
    """
    in_context = teacher.in_context
    clean = pack_latents(batch.target, family=in_context.family)
    own = slice(len(clean) * share[0], len(clean) * (share[0] + 1))
    step = torch.randint(teacher.steps, (len(clean) * share[1],), generator=generator)[own]
    noise, guidance = draw_noise_and_guidance(clean, section, generator, guidance_embedded, share)
    start = teacher.levels[step, 0].to(clean.device)
    tokens = add_noise(clean, noise, start)
    condition = None if batch.condition is None else pack_latents(batch.condition, family=in_context.family)
    wanted = teacher.velocity(tokens, condition, batch, step, guidance)
    predicted = in_context(model, tokens, condition, batch.text, batch.pooled, start, guidance)
    return weighted_error(predicted, wanted, batch, in_context, section)


def _empty_prompt(mixture: Mixture, spec: PlannerSpec) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    if spec.cfg == 1:
        return None
    words, vector = mixture.text(mixture.pairs[0], dropped=True)
    return words[None], None if vector is None else vector[None]

"""The objective: a batch of latents → the flow-matching loss of in-context tokens.

`x_s = (1 - s) x_0 + s e`; the model predicts the velocity `e - x_0` of the noise tokens; the condition's tokens
come after them (or, cached, pass through the model apart), stay clean, and their output is not used (arXiv 2512.00532).
"""

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from visual_planner.grid.cells import first_cell
from visual_planner.planner.conditioning import (
    add_noise,
    pack_latents,
    velocity,
)

from ..model.in_context import InContext
from ..sections.run import ObjectiveSection


@dataclass
class Batch:
    """Examples of one step.

    Args:
        target: (B, C, h, w) normalised latents of the grids.
        condition: (B, C, h', w') normalised latents of the condition, None for a model without one.
        text: (B, T, D) text embeddings.
        pooled: (B, P) pooled text, None in families without one.
    """

    target: torch.Tensor
    condition: torch.Tensor | None
    text: torch.Tensor
    pooled: torch.Tensor | None


class BatchLoss(Protocol):
    """The loss of one batch (a scalar), for a training and for its validation."""

    def __call__(
        self,
        model: torch.nn.Module,
        *,
        batch: Batch,
        section: ObjectiveSection,
        generator: torch.Generator,
        share: tuple[int, int] = (0, 1),
    ) -> torch.Tensor:
        """Arguments as of `flow_matching_loss`."""


def draw_sigma(count: int, section: ObjectiveSection, generator: torch.Generator) -> torch.Tensor:
    """Noise levels (count,) in (0, 1) from the configured distribution."""
    if section.timesteps != "logit_normal":
        even = torch.rand(count, generator=generator)
        shift = section.shift if section.timesteps == "shifted" else 1.0
        return shift * even / (1 + (shift - 1) * even)
    return torch.sigmoid(section.logit_mean + section.logit_std * torch.randn(count, generator=generator))


def flow_matching_loss(
    transformer: torch.nn.Module,
    in_context: InContext,
    batch: Batch,
    section: ObjectiveSection,
    generator: torch.Generator,
    guidance_embedded: bool,
    share: tuple[int, int] = (0, 1),
) -> torch.Tensor:
    """The loss of one batch (a scalar).

    Noise is drawn for the batches of all processes, so that it does not depend on how many share a step.

    Args:
        transformer: of the spec's family, with its adapter.
        in_context: the spec's token and id arrangement.
        batch: latents and text embeddings, on the model's device.
        section: noise levels and weights.
        generator: CPU generator of noise levels, noise and guidance.
        guidance_embedded: whether the transformer takes a guidance value.
        share: number of this process and count of processes.
    """
    pack = partial(pack_latents, family=in_context.family)
    clean = pack(batch.target)
    total = len(clean) * share[1]
    own = slice(len(clean) * share[0], len(clean) * (share[0] + 1))
    sigma = draw_sigma(total, section, generator)[own].to(clean.device)
    noise, guidance = draw_noise_and_guidance(clean, section, generator, guidance_embedded, share)
    condition = None if batch.condition is None else pack(batch.condition)
    predicted = in_context(
        transformer, add_noise(clean, noise, sigma), condition, batch.text, batch.pooled, sigma, guidance
    )
    return weighted_error(predicted, velocity(clean, noise), batch.target, in_context, section)


def draw_noise_and_guidance(
    clean: torch.Tensor,
    section: ObjectiveSection,
    generator: torch.Generator,
    guidance_embedded: bool,
    share: tuple[int, int],
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """This process's noise (B, N, C), like the packed latents `clean`, and guidance (B,), None where none is embedded.

    Both are drawn for the batches of all processes; `share` is the number of this one and their count.
    """
    total = len(clean) * share[1]
    own = slice(len(clean) * share[0], len(clean) * (share[0] + 1))
    noise = torch.randn(total, *clean.shape[1:], generator=generator)[own].to(clean.device, clean.dtype)
    if not guidance_embedded:
        return noise, None
    low, high = section.guidance
    return noise, (low + (high - low) * torch.rand(total, generator=generator))[own].to(clean.device)


def weighted_error(
    predicted: torch.Tensor,
    wanted: torch.Tensor,
    target: torch.Tensor,
    in_context: InContext,
    section: ObjectiveSection,
) -> torch.Tensor:
    """Mean squared error of packed velocities (B, N, C), weighted by what moves in `target` (B, C, h, w)."""
    error = (predicted.float() - wanted.float()).square()
    if section.motion_weight:
        weights = motion_weights(target, in_context, section.motion_weight)
        error = error * pack_latents(weights, family=in_context.family)
    return error.mean()


def motion_weights(target: torch.Tensor, in_context: InContext, strength: float) -> torch.Tensor:
    """Loss weights that favour what moves, so that small objects are not drowned by the still table.

    A latent position's weight is `1 + strength * d / mean(d)`, where d is its squared distance (over channels) from
    the same place of the first cell, limited to 8 times the mean, and weights are scaled to a mean of 1 per example.

    Args:
        target: (B, C, H, W) clean latents of grids.
        in_context: for the layout of the grid.
        strength: 0 gives 1 everywhere.

    Returns:
        (B, C, H, W), the same in all channels.
    """
    layout = in_context.layout
    first = first_cell(target.movedim(1, -1), layout).movedim(-1, 1)
    distance = (target - first.repeat(1, 1, layout.rows, layout.cols)).square().mean(dim=1, keepdim=True)
    mean = distance.mean(dim=(-2, -1), keepdim=True).clamp_min(1e-6)
    weights = 1 + strength * (distance / mean).clamp_max(8.0)
    weights = weights / weights.mean(dim=(-2, -1), keepdim=True)
    return weights.expand_as(target)

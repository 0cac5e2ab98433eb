"""The objective: a batch of latents -> the flow-matching loss of in-context tokens.

`x_s = (1 - s) x_0 + s e`; the model predicts the velocity `e - x_0` of the noise tokens; the condition's tokens
come after them (or, if cached, pass through the model separately) and stay clean; their output is not used (arXiv
2512.00532).
"""

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from visual_planner.grid.cells import assemble_grid, first_cell
from visual_planner.grid.layout import GridLayout
from visual_planner.planner.conditioning import (
    add_noise,
    pack_latents,
    unpack_latents,
    velocity,
)

from ..errors import TrainingError
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
        end_effector: (B, F, 2) its place in each frame, x and y in fractions of the cell's sides, NaN where unknown;
            None if no weight needs it.
    """

    target: torch.Tensor
    condition: torch.Tensor | None
    text: torch.Tensor
    pooled: torch.Tensor | None
    end_effector: torch.Tensor | None = None


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
        """Arguments as in `flow_matching_loss`."""


class FrameError(Protocol):
    """Error of frames that are decoded from clean latents (B, C, H, W), as `DecodedError` has it."""

    def __call__(
        self, estimate: torch.Tensor, batch: Batch, section: ObjectiveSection, generator: torch.Generator
    ) -> torch.Tensor:
        """A scalar."""


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
    decoded: FrameError | None = None,
) -> torch.Tensor:
    """The loss of one batch (a scalar).

    Noise is drawn for the batches of all processes, so that it does not depend on their number.

    Args:
        transformer: a transformer of the spec's family, with its adapter.
        in_context: the spec's token and id arrangement.
        batch: latents and text embeddings, on the model's device.
        section: noise levels and weights.
        generator: CPU generator of noise levels, noise and guidance.
        guidance_embedded: whether the transformer takes a guidance value.
        share: number of this process and count of processes.
        decoded: error of decoded frames, for `decoded_weight`.

    Raises:
        TrainingError: decoded frames have a weight, and nothing decodes them here.
    """
    pack = partial(pack_latents, family=in_context.family)
    clean = pack(batch.target)
    total = len(clean) * share[1]
    own = slice(len(clean) * share[0], len(clean) * (share[0] + 1))
    sigma = draw_sigma(total, section, generator)[own].to(clean.device)
    noise, guidance = draw_noise_and_guidance(clean, section, generator, guidance_embedded, share)
    condition = None if batch.condition is None else pack(batch.condition)
    noisy = add_noise(clean, noise, sigma)
    predicted = in_context(transformer, noisy, condition, batch.text, batch.pooled, sigma, guidance)
    loss = weighted_error(predicted, velocity(clean, noise), batch, in_context, section)
    if not section.decoded_weight:
        return loss
    if decoded is None:
        raise TrainingError("objective.decoded_weight must be 0 here: only `train` decodes frames")
    estimate = noisy.float() - sigma.view(-1, 1, 1) * predicted.float()
    grids = unpack_latents(estimate, *batch.target.shape[-2:], family=in_context.family)
    return loss + section.decoded_weight * decoded(grids, batch, section, generator)


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
    predicted: torch.Tensor, wanted: torch.Tensor, batch: Batch, in_context: InContext, section: ObjectiveSection
) -> torch.Tensor:
    """Mean squared error of packed velocities (B, N, C), with the weights of `loss_weights`."""
    error = (predicted.float() - wanted.float()).square()
    weights = loss_weights(batch, in_context, section)
    if weights is not None:
        error = error * pack_latents(weights, family=in_context.family)
    return error.mean()


def loss_weights(batch: Batch, in_context: InContext, section: ObjectiveSection) -> torch.Tensor | None:
    """Loss weights of latent positions, so that the static table does not drown out small but decisive parts.

    `1 + motion_weight * motion + end_effector_weight * near`, scaled to a mean of 1 per example; see `motion` and
    `near_end_effector`.

    Args:
        batch: the batch, whose `target` (B, C, H, W) has clean latents of grids.
        in_context: arrangement with the layout of the grid.
        section: settings with the two weights.

    Returns:
        (B, C, H, W), the same in all channels; None if both weights are 0.

    Raises:
        TrainingError: the end effector has a weight, but the batch does not have its place.
    """
    target, layout = batch.target, in_context.layout
    if not section.motion_weight and not section.end_effector_weight:
        return None
    weights = torch.ones_like(target[:, :1])
    if section.motion_weight:
        weights = weights + section.motion_weight * motion(target, layout)
    if section.end_effector_weight:
        if batch.end_effector is None:
            raise TrainingError(
                "objective.end_effector_weight must be 0 here: only trainings from caches know its place"
            )
        near = near_end_effector(batch.end_effector, layout, target.shape[-2:], section.end_effector_radius)
        weights = weights + section.end_effector_weight * near
    return (weights / weights.mean(dim=(-2, -1), keepdim=True)).expand_as(target)


def motion(target: torch.Tensor, layout: GridLayout) -> torch.Tensor:
    """How much of each latent position moves (B, 1, H, W), at most 8.

    It is the squared distance (over channels) from the same place in the first cell, divided by the mean over all
    positions.
    """
    first = first_cell(target.movedim(1, -1), layout).movedim(-1, 1)
    distance = (target - first.repeat(1, 1, layout.rows, layout.cols)).square().mean(dim=1, keepdim=True)
    mean = distance.mean(dim=(-2, -1), keepdim=True).clamp_min(1e-6)
    return (distance / mean).clamp_max(8.0)


def near_end_effector(places: torch.Tensor, layout: GridLayout, size: tuple[int, int], radius: float) -> torch.Tensor:
    """A Gaussian around the end effector in each cell (B, 1, H, W), 1 at its place; 0 in cells where it is unknown.

    Args:
        places: (B, F, 2) x and y in fractions of the cell's sides, NaN where unknown.
        layout: layout of the grid.
        size: (H, W) of the grid's latents.
        radius: standard deviation, in heights of a cell.
    """
    height, width = size[0] // layout.rows, size[1] // layout.cols
    y = (torch.arange(height, device=places.device) + 0.5) / height
    x = (torch.arange(width, device=places.device) + 0.5) / width
    across = (x - places[..., :1]) * (width / height)  # latent cells have the same shape as pixel cells
    squared = across.square()[..., None, :] + (y - places[..., 1:]).square()[..., None]
    near = torch.exp(-squared / (2 * radius**2)).nan_to_num(0.0)
    return assemble_grid(near.flatten(0, 1)[..., None], layout).movedim(-1, 1)

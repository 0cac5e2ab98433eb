"""The objective: a batch of latents → the flow-matching loss of in-context tokens.

`x_s = (1 - s) x_0 + s e`; the model predicts the velocity `e - x_0` of the noise tokens; the condition's tokens
come after them, stay clean, and their output is not used (arXiv 2512.00532).
"""

from dataclasses import dataclass

import torch

from visual_planner.conditioning import (
    PATCH,
    add_noise,
    condition_ids,
    condition_token_index,
    image_ids,
    pack_latents,
    target_ids,
    velocity,
)
from visual_planner.spec import PlannerSpec

from .config import ObjectiveSection


@dataclass
class Batch:
    """Examples of one step.

    Args:
        target: (B, 16, H/8, W/8) normalised latents of the grids.
        condition: (B, 16, h/8, w/8) normalised latents of the condition, None for a model without one.
        text: (B, T, D) T5 states.
        pooled: (B, P) pooled CLIP state.
    """

    target: torch.Tensor
    condition: torch.Tensor | None
    text: torch.Tensor
    pooled: torch.Tensor


class InContext:
    """Runs a diffusers FLUX transformer on noise tokens followed by condition tokens.

    Args:
        spec: layout, condition tokens and ids.
        device: of the ids.
    """

    def __init__(self, spec: PlannerSpec, device: torch.device | str = "cpu") -> None:
        height, width = spec.grid_size
        self.cell_latent = spec.cell_height // 8, spec.cell_width // 8
        plain = image_ids(height // 8 // PATCH, width // 8 // PATCH)
        target = target_ids(plain, spec.layout, spec.cell_tokens, spec.position_ids)
        index = condition_token_index(spec.layout, spec.cell_tokens, spec.condition_tokens)
        self.target_ids = target.to(device)
        self.ids = torch.cat([target, condition_ids(target, index, spec.position_ids)]).to(device)

    def __call__(
        self,
        transformer: torch.nn.Module,
        tokens: torch.Tensor,
        condition: torch.Tensor | None,
        text: torch.Tensor,
        pooled: torch.Tensor,
        sigma: torch.Tensor,
        guidance: torch.Tensor | None,
    ) -> torch.Tensor:
        """Velocity of the noise tokens.

        Args:
            transformer: FluxTransformer2DModel.
            tokens: (B, N, 64) packed noisy latents.
            condition: (B, M, 64) packed condition latents, or None.
            text: (B, T, D) T5 states.
            pooled: (B, P) pooled CLIP state.
            sigma: (B,) noise level in [0, 1].
            guidance: (B,) guidance to embed, None for a model without that input.

        Returns:
            (B, N, 64).
        """
        hidden = tokens if condition is None else torch.cat([tokens, condition.to(tokens.dtype)], dim=1)
        output = transformer(
            hidden_states=hidden,
            encoder_hidden_states=text,
            pooled_projections=pooled,
            timestep=sigma,
            guidance=guidance,
            img_ids=self.target_ids if condition is None else self.ids,
            txt_ids=torch.zeros(text.shape[1], 3, device=tokens.device),
            return_dict=False,
        )[0]
        return output[:, : tokens.shape[1]]


def draw_sigma(count: int, section: ObjectiveSection, generator: torch.Generator) -> torch.Tensor:
    """Noise levels (count,) in (0, 1) from the configured distribution."""
    if section.timesteps == "uniform":
        return torch.rand(count, generator=generator)
    return torch.sigmoid(section.logit_mean + section.logit_std * torch.randn(count, generator=generator))


def flow_matching_loss(
    transformer: torch.nn.Module,
    in_context: InContext,
    batch: Batch,
    section: ObjectiveSection,
    generator: torch.Generator,
    guidance_embedded: bool,
) -> torch.Tensor:
    """The loss of one batch (a scalar).

    Args:
        transformer: FluxTransformer2DModel with its adapter.
        in_context: the spec's token and id arrangement.
        batch: latents and text states, on the model's device.
        section: noise levels and weights.
        generator: CPU generator of noise levels, noise and guidance.
        guidance_embedded: whether the transformer takes a guidance value.
    """
    clean = pack_latents(batch.target)
    device, count = clean.device, len(clean)
    sigma = draw_sigma(count, section, generator).to(device)
    noise = torch.randn(clean.shape, generator=generator).to(device, clean.dtype)
    guidance = None
    if guidance_embedded:
        low, high = section.guidance
        guidance = (low + (high - low) * torch.rand(count, generator=generator)).to(device)
    condition = None if batch.condition is None else pack_latents(batch.condition)
    predicted = in_context(
        transformer, add_noise(clean, noise, sigma), condition, batch.text, batch.pooled, sigma, guidance
    )
    error = (predicted.float() - velocity(clean, noise).float()).square()
    if section.motion_weight:
        error = error * pack_latents(motion_weights(batch.target, in_context, section.motion_weight))
    return error.mean()


def motion_weights(target: torch.Tensor, in_context: InContext, strength: float) -> torch.Tensor:
    """Loss weights that favour what moves, so that small objects are not drowned by the still table.

    A latent position's weight is `1 + strength * d / mean(d)`, where d is its squared distance (over channels) from
    the same place of the first cell, limited to 8 times the mean, and weights are scaled to a mean of 1 per example.

    Args:
        target: (B, 16, H, W) clean latents of grids.
        in_context: for the size of a cell.
        strength: 0 gives 1 everywhere.

    Returns:
        (B, 16, H, W), the same in all channels.
    """
    cell_height, cell_width = in_context.cell_latent
    first = target[..., :cell_height, :cell_width]
    rows, cols = target.shape[-2] // cell_height, target.shape[-1] // cell_width
    distance = (target - first.repeat(1, 1, rows, cols)).square().mean(dim=1, keepdim=True)
    mean = distance.mean(dim=(-2, -1), keepdim=True).clamp_min(1e-6)
    weights = 1 + strength * (distance / mean).clamp_max(8.0)
    weights = weights / weights.mean(dim=(-2, -1), keepdim=True)
    return weights.expand_as(target)

"""Euler sampling of a planner's grid from latents and text embeddings that are there already."""

from itertools import pairwise

import torch

from visual_planner.planner.conditioning import pack_latents, sigmas, unpack_latents
from visual_planner.planner.spec import PlannerSpec

from .in_context import InContext


def draw_noise(spec: PlannerSpec, seeds: list[int], plans: int = 1) -> torch.Tensor:
    """Noise (B * plans, C, h, w), so many plans a seed: what ComfyUI's samplers draw for a batch of that size."""
    shape = (plans, *spec.latent_shape)
    return torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@torch.no_grad()
def sample(
    transformer: torch.nn.Module,
    in_context: InContext,
    spec: PlannerSpec,
    noise: torch.Tensor,
    condition: torch.Tensor | None,
    text: torch.Tensor,
    pooled: torch.Tensor,
    steps: int | None = None,
    guidance: float | None = None,
    known: torch.Tensor | None = None,
    skip: int = 0,
    keep: torch.Tensor | None = None,
) -> torch.Tensor:
    """Normalised latents (B, 16, H/8, W/8) of plans.

    Args:
        transformer: FluxTransformer2DModel.
        in_context: the spec's token and id arrangement.
        spec: schedule and guidance.
        noise: (B, 16, H/8, W/8).
        condition: (B, 16, h/8, w/8) normalised condition latents, or None.
        text: (B, T, D) T5 states.
        pooled: (B, P) pooled CLIP state.
        steps: Euler steps; None takes the spec's.
        guidance: embedded guidance; None takes the spec's.
        known: (B, 16, H/8, W/8) latents of plans that are there, to be drawn again from some noise on (SDEdit), or to
            stay in parts.
        skip: steps that are left out then, 0 (nothing of them is kept) to all (nothing is drawn again).
        keep: (1, H/8, W/8) mask of the known latents, 1 = generate, 0 = stays: there the model sees them at each step's
            noise, as ComfyUI's samplers do where a latent has a noise mask.
    """
    device = in_context.ids.device
    height, width = noise.shape[-2:]
    levels = sigmas(steps or spec.steps, spec.mu())[skip:]

    def at(level: torch.Tensor) -> torch.Tensor:
        """What is known, at that noise level."""
        return pack_latents(float(level) * noise + (1 - float(level)) * known.to(noise)).to(device)

    tokens = pack_latents(noise).to(device) if known is None else at(levels[0])
    stays = None if keep is None else pack_latents(keep.expand_as(noise).contiguous()).to(device) < 0.5
    value = spec.guidance if guidance is None else guidance
    takes_guidance = transformer.config.guidance_embeds
    embedded = torch.full((len(noise),), float(value), device=device) if takes_guidance else None
    text, pooled = text.to(device), pooled.to(device)
    tokens_of_condition = None if condition is None else pack_latents(condition).to(tokens)
    prepared = in_context.prepare(transformer, tokens_of_condition, text, pooled, embedded)
    for now, following in pairwise(levels):
        sigma = torch.full((len(noise),), float(now), device=device)
        velocity = in_context(transformer, tokens, prepared, text, pooled, sigma, embedded)
        tokens = tokens + (following - now) * velocity.to(tokens.dtype)
        if stays is not None:
            tokens = torch.where(stays, at(following).to(tokens), tokens)
    return unpack_latents(tokens, height, width)

"""Euler sampling of a planner's grid from latents and text states that are there already."""

from itertools import pairwise

import torch

from visual_planner.conditioning import LATENT_CHANNELS, pack_latents, sigmas, unpack_latents
from visual_planner.spec import PlannerSpec

from .objective import InContext


def draw_noise(spec: PlannerSpec, seeds: list[int], plans: int = 1) -> torch.Tensor:
    """Noise (B * plans, 16, H/8, W/8), so many plans a seed: what ComfyUI's samplers draw for a batch of that size."""
    height, width = (side // 8 for side in spec.grid_size)
    shape = (plans, LATENT_CHANNELS, height, width)
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
        known: (B, 16, H/8, W/8) latents of plans that are there, to be drawn again from some noise on (SDEdit).
        skip: steps that are left out then, 0 (nothing of them is kept) to all (nothing is drawn again).
    """
    device = in_context.ids.device
    height, width = noise.shape[-2:]
    levels = sigmas(steps or spec.steps, spec.mu())[skip:]
    if known is not None:
        noise = float(levels[0]) * noise + (1 - float(levels[0])) * known.to(noise)
    tokens = pack_latents(noise).to(device)
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
    return unpack_latents(tokens, height, width)

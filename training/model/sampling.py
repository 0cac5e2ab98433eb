"""Euler sampling of a planner's grid from given latents and text embeddings."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch

from visual_planner.planner.conditioning import pack_latents, sigmas, unpack_latents
from visual_planner.planner.spec import PlannerSpec

from ..errors import TrainingError
from .in_context import InContext


def draw_noise(spec: PlannerSpec, seeds: list[int], plans: int = 1) -> torch.Tensor:
    """Noise (B * plans, C, h, w), `plans` per seed: what ComfyUI's samplers draw for a batch of that size."""
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
    pooled: torch.Tensor | None,
    steps: int | None = None,
    guidance: float | None = None,
    known: torch.Tensor | None = None,
    skip: int = 0,
    keep: torch.Tensor | None = None,
    cfg: float | None = None,
    empty: tuple[torch.Tensor, torch.Tensor | None] | None = None,
) -> torch.Tensor:
    """Normalised latents (B, C, h, w) of plans.

    Args:
        transformer: a transformer of the spec's family.
        in_context: the spec's token and id arrangement.
        spec: schedule and guidance.
        noise: (B, C, h, w).
        condition: (B, C, h', w') normalised condition latents, or None.
        text: (B, T, D) text embeddings.
        pooled: (B, P) pooled text, None in families without one.
        steps: Euler steps; None takes the spec's.
        guidance: embedded guidance; None takes the spec's.
        known: (B, C, h, w) latents of existing plans, to be denoised again from some noise level on (SDEdit), or to be
            kept in part.
        skip: how many steps to skip with `known`, from 0 (nothing is kept) to all (nothing is denoised again).
        keep: (1, h, w) mask of the known latents, 1 = generate, 0 = keep: there the model sees them at each step's
            noise level, as in ComfyUI's samplers for a latent with a noise mask.
        cfg: classifier-free guidance; None takes the spec's, 1 is without.
        empty: text embeddings (1, T, D) and pooled text (1, P) of the empty prompt, for `cfg`.

    Raises:
        TrainingError: classifier-free guidance without the empty prompt.
    """
    device = in_context.ids.device
    height, width = noise.shape[-2:]
    pack = partial(pack_latents, family=in_context.family)
    levels = sigmas(steps or spec.steps, spec.mu())[skip:]

    def at(level: torch.Tensor) -> torch.Tensor:
        """The known latents at a noise level."""
        return pack(float(level) * noise + (1 - float(level)) * known.to(noise)).to(device)

    tokens = pack(noise).to(device) if known is None else at(levels[0])
    stays = None if keep is None else pack(keep.expand_as(noise).contiguous()).to(device) < 0.5
    value = spec.guidance if guidance is None else guidance
    takes_guidance = transformer.config.guidance_embeds
    embedded = torch.full((len(noise),), float(value), device=device) if takes_guidance else None
    text, pooled = text.to(device), None if pooled is None else pooled.to(device)
    tokens_of_condition = None if condition is None else pack(condition).to(tokens)
    strength = spec.cfg if cfg is None else cfg
    call = guided_velocity(transformer, in_context, tokens_of_condition, text, pooled, embedded, strength, empty)
    for now, following in pairwise(levels):
        velocity = call(tokens, torch.full((len(tokens),), float(now), device=device))
        tokens = tokens + (following - now) * velocity.to(tokens.dtype)
        if stays is not None:
            tokens = torch.where(stays, at(following).to(tokens), tokens)
    return unpack_latents(tokens, height, width, in_context.family)


def guided_velocity(
    transformer: torch.nn.Module,
    in_context: InContext,
    condition: torch.Tensor | None,
    text: torch.Tensor,
    pooled: torch.Tensor | None,
    guidance: torch.Tensor | None,
    cfg: float = 1.0,
    empty: tuple[torch.Tensor, torch.Tensor | None] | None = None,
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """A function (noisy tokens (B, N, C), noise levels (B,)) -> velocity (B, N, C) that prepares the condition once.

    Args:
        transformer: a transformer of the spec's family.
        in_context: the spec's token and id arrangement.
        condition: (B, M, C) packed condition latents, or None.
        text: (B, T, D) text embeddings.
        pooled: (B, P) pooled text, None in families without one.
        guidance: (B,) guidance to embed, or None.
        cfg: classifier-free guidance; 1 is without.
        empty: text embeddings (1, T, D) and pooled text (1, P) of the empty prompt, for `cfg`.

    Raises:
        TrainingError: classifier-free guidance without the empty prompt.
    """
    if cfg != 1:
        text, pooled, guidance, condition = _doubled(text, pooled, guidance, condition, empty)
    prepared = in_context.prepare(transformer, condition, text, pooled, guidance)

    def call(tokens: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        if cfg == 1:
            return in_context(transformer, tokens, prepared, text, pooled, sigma, guidance)
        twice = torch.cat([tokens, tokens]), torch.cat([sigma, sigma])
        wanted, without = in_context(transformer, twice[0], prepared, text, pooled, twice[1], guidance).chunk(2)
        return without + cfg * (wanted - without)

    return call


def _doubled(
    text: torch.Tensor,
    pooled: torch.Tensor | None,
    guidance: torch.Tensor | None,
    condition: torch.Tensor | None,
    empty: tuple[torch.Tensor, torch.Tensor | None] | None,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """A batch with its prompts, followed by the same batch with the empty prompt."""
    if empty is None:
        raise TrainingError("a plan with cfg above 1 needs the text embeddings of the empty prompt, got none")
    count = len(text)
    text = torch.cat([text, empty[0].to(text).expand(count, -1, -1)])
    if pooled is not None:
        pooled = torch.cat([pooled, empty[1].to(pooled).expand(count, -1)])
    return text, pooled, *(None if part is None else torch.cat([part, part]) for part in (guidance, condition))

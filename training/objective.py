"""The objective: a batch of latents → the flow-matching loss of in-context tokens.

`x_s = (1 - s) x_0 + s e`; the model predicts the velocity `e - x_0` of the noise tokens; the condition's tokens
come after them (or, cached, pass through the model apart), stay clean, and their output is not used (arXiv 2512.00532).
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

from .cached_condition import ConditionKeys, condition_keys
from .run_config import ObjectiveSection


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
    """Runs a diffusers FLUX transformer on noise tokens under a condition, the way that the spec asks for.

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
        self.cached = spec.condition_is_cached

    def prepare(
        self,
        transformer: torch.nn.Module,
        condition: torch.Tensor | None,
        text: torch.Tensor,
        pooled: torch.Tensor,
        guidance: torch.Tensor | None,
    ) -> torch.Tensor | ConditionKeys | None:
        """Prepare the condition once for all steps of a plan; arguments as of a call.

        Returns:
            The condition's keys and values where the spec says that they are cached, else its tokens as they are.
        """
        if condition is None or not self.cached:
            return condition
        return condition_keys(transformer, condition, self.ids[len(self.target_ids) :], text, pooled, guidance)

    def __call__(
        self,
        transformer: torch.nn.Module,
        tokens: torch.Tensor,
        condition: torch.Tensor | ConditionKeys | None,
        text: torch.Tensor,
        pooled: torch.Tensor,
        sigma: torch.Tensor,
        guidance: torch.Tensor | None,
    ) -> torch.Tensor:
        """Velocity of the noise tokens.

        Args:
            transformer: FluxTransformer2DModel.
            tokens: (B, N, 64) packed noisy latents.
            condition: (B, M, 64) packed condition latents, what `prepare` made of them, or None.
            text: (B, T, D) T5 states.
            pooled: (B, P) pooled CLIP state.
            sigma: (B,) noise level in [0, 1].
            guidance: (B,) guidance to embed, None for a model without that input.

        Returns:
            (B, N, 64).
        """
        hidden, ids, extra = tokens, self.target_ids, {}
        if isinstance(condition, torch.Tensor):
            condition = self.prepare(transformer, condition.to(tokens.dtype), text, pooled, guidance)
        if isinstance(condition, ConditionKeys):
            extra["joint_attention_kwargs"] = {"condition": condition}
        elif condition is not None:
            hidden, ids = torch.cat([tokens, condition], dim=1), self.ids
        output = transformer(
            hidden_states=hidden,
            encoder_hidden_states=text,
            pooled_projections=pooled,
            timestep=sigma,
            guidance=guidance,
            img_ids=ids,
            txt_ids=torch.zeros(text.shape[1], 3, device=tokens.device),
            return_dict=False,
            **extra,
        )[0]
        return output[:, : tokens.shape[1]]


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
        transformer: FluxTransformer2DModel with its adapter.
        in_context: the spec's token and id arrangement.
        batch: latents and text states, on the model's device.
        section: noise levels and weights.
        generator: CPU generator of noise levels, noise and guidance.
        guidance_embedded: whether the transformer takes a guidance value.
        share: number of this process and count of processes.
    """
    clean = pack_latents(batch.target)
    device, total = clean.device, len(clean) * share[1]
    own = slice(len(clean) * share[0], len(clean) * (share[0] + 1))
    sigma = draw_sigma(total, section, generator)[own].to(device)
    noise = torch.randn(total, *clean.shape[1:], generator=generator)[own].to(device, clean.dtype)
    guidance = None
    if guidance_embedded:
        low, high = section.guidance
        guidance = (low + (high - low) * torch.rand(total, generator=generator))[own].to(device)
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

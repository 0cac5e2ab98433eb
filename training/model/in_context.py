"""How a diffusers FLUX transformer runs on noise tokens under a condition (arXiv 2512.00532)."""

import torch

from visual_planner.planner.conditioning import condition_ids, condition_token_index, image_ids, target_ids
from visual_planner.planner.spec import PlannerSpec

from .bases.registry import base_of


class InContext:
    """Runs a diffusers FLUX transformer on noise tokens under a condition, as the spec requires.

    Args:
        spec: layout, condition tokens and ids.
        device: device of the ids.
    """

    def __init__(self, spec: PlannerSpec, device: torch.device | str = "cpu") -> None:
        self.layout, self.base = spec.layout, base_of(spec)
        self.family = self.base.family
        plain = image_ids(*spec.grid_tokens, family=self.family)
        target = target_ids(plain, spec.layout, spec.cell_tokens, spec.position_ids)
        index = condition_token_index(spec.layout, spec.cell_tokens, spec.condition_tokens, spec.has_goal)
        self.target_ids = target.to(device)
        self.ids = torch.cat([target, condition_ids(target, index, spec.position_ids, self.family)]).to(device)
        self.cached = spec.condition_is_cached

    def prepare(
        self,
        transformer: torch.nn.Module,
        condition: torch.Tensor | None,
        text: torch.Tensor,
        pooled: torch.Tensor | None,
        guidance: torch.Tensor | None,
    ) -> object:
        """Prepare the condition once for all steps of a plan; arguments as in `__call__`.

        Returns:
            The condition's keys and values if the spec says that they are cached, otherwise its tokens unchanged.
        """
        if condition is None or not self.cached:
            return condition
        own = self.ids[len(self.target_ids) :]
        return self.base.condition_keys(transformer, condition, own, text, pooled, guidance)

    def __call__(
        self,
        transformer: torch.nn.Module,
        tokens: torch.Tensor,
        condition: object,
        text: torch.Tensor,
        pooled: torch.Tensor | None,
        sigma: torch.Tensor,
        guidance: torch.Tensor | None,
    ) -> torch.Tensor:
        """Velocity of the noise tokens.

        Args:
            transformer: a transformer of the spec's family.
            tokens: (B, N, C) packed noisy latents.
            condition: (B, M, C) packed condition latents, the result of `prepare`, or None.
            text: (B, T, D) text embeddings.
            pooled: (B, P) pooled text, None in families without one.
            sigma: (B,) noise level in [0, 1].
            guidance: (B,) guidance to embed, None for a model without that input.

        Returns:
            (B, N, C).
        """
        call = self.base.velocity
        if isinstance(condition, torch.Tensor):
            condition = condition.to(tokens.dtype)
            call = self.base.cached_velocity if self.cached else call
        return call(transformer, tokens, condition, self.ids, text, pooled, sigma, guidance)

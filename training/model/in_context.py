"""How a diffusers FLUX transformer runs on noise tokens under a condition (arXiv 2512.00532)."""

import torch

from visual_planner.planner.conditioning import condition_ids, condition_token_index, image_ids, target_ids
from visual_planner.planner.spec import PlannerSpec

from .bases.split_attention import ConditionKeys, condition_keys


class InContext:
    """Runs a diffusers FLUX transformer on noise tokens under a condition, the way that the spec asks for.

    Args:
        spec: layout, condition tokens and ids.
        device: of the ids.
    """

    def __init__(self, spec: PlannerSpec, device: torch.device | str = "cpu") -> None:
        self.layout = spec.layout
        plain = image_ids(*spec.grid_tokens)
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

"""The picture that conditions a plan: first frame, and goal where a planner knows one, as the autoencoder gets them."""

from collections.abc import Callable

import torch

from ..errors import ConditioningError
from ..grid.cells import condition_grid
from .spec import PlannerSpec


def condition_picture(first: torch.Tensor, goal: torch.Tensor | None, spec: PlannerSpec) -> torch.Tensor:
    """The condition of plans.

    Args:
        first: first frames (B, h, w, C) of the cell's size, with the path already drawn on them; any dtype.
        goal: goal pictures, as `first` but without a path; None where there is none.
        spec: the planner.

    Returns:
        (B, H, W, C) of `spec.condition_size`: the first frame's cell, to its right the goal's for a planner that knows
        goals (black without a goal), or the whole condition grid.

    Raises:
        ConditioningError: the planner knows no goals, or the pictures differ in shape.
    """
    if goal is not None:
        require_goals(spec)
        if goal.shape != first.shape:
            raise ConditioningError(
                f"goal must have the shape of the first frames, {tuple(first.shape)}, got {tuple(goal.shape)}"
            )
    if not spec.condition_is_cell:
        return condition_grid(first, spec.layout, goal)
    if not spec.has_goal:
        return first
    return torch.cat([first, torch.zeros_like(first) if goal is None else goal], dim=2)


def encode_condition(
    encode: Callable[[torch.Tensor], torch.Tensor], picture: torch.Tensor, spec: PlannerSpec
) -> torch.Tensor:
    """Latents of conditions; two cells that stand side by side are encoded apart, so that neither leaks into the other.

    Args:
        encode: pictures (B, H, W, C) -> latents (B, c, h, w).
        picture: (B, H, W, C) of `spec.condition_size`.
        spec: the planner.

    Returns:
        (B, c, h, w) of `spec.condition_latent_shape`.
    """
    cells = picture.split(spec.cell_width, dim=2) if spec.condition_is_cell else [picture]
    return torch.cat([encode(cell.contiguous()) for cell in cells], dim=-1)


def require_goals(spec: PlannerSpec) -> None:
    """Raise a ConditioningError unless a planner was trained with goal pictures."""
    if not spec.has_goal:
        raise ConditioningError(
            f"goal needs a planner that was trained with goal pictures; this one plans in modes {', '.join(spec.modes)}"
        )

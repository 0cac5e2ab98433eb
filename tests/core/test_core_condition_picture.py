"""The picture that conditions a plan, with and without a goal."""

import pytest
import torch

from visual_planner.errors import ConditioningError
from visual_planner.grid.cells import cell_of
from visual_planner.planner.condition_picture import condition_picture, encode_condition
from visual_planner.planner.conditioning import CONDITION_TOKENS
from visual_planner.planner.spec import PlannerSpec

FIRST, GOAL = torch.rand(2, 2, 32, 48, 3, generator=torch.Generator().manual_seed(1)).unbind()


def spec_of(condition_tokens: str, *modes: str) -> PlannerSpec:
    return PlannerSpec(cell_height=32, cell_width=48, condition_tokens=condition_tokens, modes=modes)


@pytest.mark.parametrize("condition_tokens", CONDITION_TOKENS)
@pytest.mark.parametrize("goal", [None, GOAL], ids=["without", "with"])
def test_it_has_the_specs_size_and_black_where_nothing_is_known(condition_tokens, goal):
    spec = spec_of(condition_tokens, "text", "text_goal")
    picture = condition_picture(FIRST, goal, spec)
    assert tuple(picture.shape) == (2, *spec.condition_size, 3)
    end = torch.zeros_like(FIRST) if goal is None else goal
    if condition_tokens == "full_grid":
        cells = [cell_of(picture, spec.layout, frame) for frame in range(9)]
        assert torch.equal(cells[0], FIRST) and torch.equal(cells[8], end)
        assert not any(cell.any() for cell in cells[1:8])
    else:
        assert torch.equal(picture, torch.cat([FIRST, end], dim=2))


def test_without_goals_it_is_what_it_was():
    assert condition_picture(FIRST, None, spec_of("first_cell", "text")) is FIRST


def test_cells_side_by_side_are_encoded_apart():
    def encode(cells: torch.Tensor) -> torch.Tensor:
        """Blurs as an autoencoder does: every value depends on the whole picture."""
        return cells[:, ::8, ::8].permute(0, 3, 1, 2) + cells.mean(dim=(1, 2, 3))[:, None, None, None]

    spec = spec_of("first_cell", "text", "goal")
    latent = encode_condition(encode, condition_picture(FIRST, GOAL, spec), spec)
    assert torch.equal(latent, torch.cat([encode(FIRST), encode(GOAL)], dim=-1))
    grid = spec_of("full_grid", "text", "goal")
    whole = condition_picture(FIRST, GOAL, grid)
    assert torch.equal(encode_condition(encode, whole, grid), encode(whole))


def test_errors():
    with pytest.raises(ConditioningError, match="goal needs a planner that was trained with goal pictures; this one "
                       "plans in modes text, both"):  # fmt: skip
        condition_picture(FIRST, GOAL, spec_of("first_cell", "both", "text"))
    with pytest.raises(ConditioningError, match=r"goal must have the shape of the first frames, \(2, 32, 48, 3\), got"):
        condition_picture(FIRST, GOAL[:, :16], spec_of("first_cell", "goal"))

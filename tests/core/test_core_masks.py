"""Masks of the two levels: polarity, agreement, sizes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visual_planner.errors import LayoutError
from visual_planner.grid.cells import condition_grid
from visual_planner.grid.layout import ORDERS, GridLayout
from visual_planner.grid.masks import latent_mask, pixel_mask
from visual_planner.planner.conditioning import condition_token_index

layouts = st.builds(GridLayout, st.integers(1, 5), st.integers(1, 5), st.sampled_from(ORDERS))
cells = st.tuples(st.sampled_from([16, 32, 48]), st.sampled_from([16, 32, 64]))


def test_one_means_generate():
    mask = pixel_mask(GridLayout(), 16, 32)
    assert mask.shape == (1, 48, 96) and mask.dtype == torch.float32
    assert mask[0, :16, :32].max() == 0.0
    assert mask.sum() == 48 * 96 - 16 * 32


@given(layouts, cells, st.data())
def test_the_two_levels_agree(layout, cell, data):
    keep = data.draw(st.sets(st.integers(0, layout.frames - 1)))
    pixels = pixel_mask(layout, *cell, keep_frames=keep)[0]
    latents = latent_mask(layout, *cell, keep_frames=keep)
    assert latents.dtype == torch.float32
    assert torch.equal(latents[0].repeat_interleave(8, 0).repeat_interleave(8, 1), pixels)
    assert pixels.sum() == (layout.frames - len(keep)) * cell[0] * cell[1]


@given(layouts, cells)
def test_the_mask_keeps_what_the_condition_shows(layout, cell):
    shown = condition_grid(torch.ones(1, *cell, 1), layout)[..., 0]
    assert torch.equal(1.0 - pixel_mask(layout, *cell), shown)


@given(layouts, cells)
def test_kept_tokens_are_the_first_cells_tokens(layout, cell):
    index = condition_token_index(layout, (cell[0] // 16, cell[1] // 16), "first_cell")
    coarse = pixel_mask(layout, *cell)[0, ::16, ::16]
    assert torch.equal((coarse == 0).flatten().nonzero().flatten(), index)


def test_a_cell_that_does_not_divide_is_refused():
    with pytest.raises(LayoutError, match="divide by 8, or a latent pixel straddles two cells, got 20 high x 24 wide"):
        latent_mask(GridLayout(), 20, 24)
    assert pixel_mask(GridLayout(), 5, 7).shape == (1, 15, 21)


def test_other_downscales():
    assert latent_mask(GridLayout(2, 2), 64, 64, downscale=32).shape == (1, 4, 4)


def test_a_frame_that_is_not_there_is_refused():
    with pytest.raises(LayoutError, match="has frames 0 to 8, got frame 9"):
        pixel_mask(GridLayout(), 8, 8, keep_frames=(0, 9))

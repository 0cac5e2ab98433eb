"""The in-context mathematics: tokens, ids, schedule."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visual_planner.errors import ConditioningError
from visual_planner.grid.cells import assemble_grid
from visual_planner.grid.layout import ORDERS, GridLayout
from visual_planner.planner.conditioning import (
    CONDITION_TOKENS,
    add_noise,
    condition_ids,
    condition_token_count,
    condition_token_index,
    image_ids,
    pack_latents,
    schedule_mu,
    sigmas,
    target_ids,
    text_ids,
    unpack_latents,
    velocity,
)
from visual_planner.planner.families import FLUX1, FLUX2

layouts = st.builds(GridLayout, st.integers(1, 5), st.integers(1, 5), st.sampled_from(ORDERS))
cells = st.tuples(st.integers(1, 5), st.integers(1, 5))


@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))
def test_unpacking_undoes_packing(batch, rows, cols):
    latents = torch.randn(batch, 16, 2 * rows, 2 * cols)
    tokens = pack_latents(latents)
    assert tokens.shape == (batch, rows * cols, 64)
    assert torch.equal(unpack_latents(tokens, 2 * rows, 2 * cols), latents)
    assert torch.equal(pack_latents(unpack_latents(tokens, 2 * rows, 2 * cols)), tokens)


def test_a_token_holds_its_patch_channel_by_channel():
    latents = torch.randn(1, 16, 6, 8)
    tokens = pack_latents(latents)
    for row, col in ((0, 0), (1, 3), (2, 1)):
        patch = latents[0, :, 2 * row : 2 * row + 2, 2 * col : 2 * col + 2]
        assert torch.equal(tokens[0, row * 4 + col], patch.flatten())


@pytest.mark.parametrize("shape", [(1, 16, 3, 4), (1, 16, 4, 5), (1, 4, 4, 4), (16, 4, 4), (0, 16, 4, 4)])
def test_latents_of_another_shape_are_refused(shape):
    with pytest.raises(ConditioningError, match=r"must have shape \(B, 16, h, w\) with even h and w, got"):
        pack_latents(torch.zeros(shape))


def test_tokens_that_do_not_fit_are_refused():
    with pytest.raises(ConditioningError, match=r"must have shape \(B, 6, 64\) for 4 x 6 latents, got \(1, 5, 64\)"):
        unpack_latents(torch.zeros(1, 5, 64), 4, 6)
    with pytest.raises(ConditioningError, match="latent height must be even, got 5"):
        unpack_latents(torch.zeros(1, 6, 64), 5, 6)


@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6))
def test_a_token_of_flux2_is_one_latent_pixel(batch, rows, cols):
    latents = torch.randn(batch, 128, rows, cols)
    tokens = pack_latents(latents, FLUX2)
    assert torch.equal(tokens, latents.flatten(2).transpose(1, 2))
    assert torch.equal(unpack_latents(tokens, rows, cols, FLUX2), latents)


def test_flux2_packs_the_patches_of_its_raw_latent_as_flux1_would():
    """32 channels at 1/8, patched to 128 at 1/16: the order (channel, row, column) that diffusers has."""
    raw = torch.randn(2, 32, 6, 8)
    patched = raw.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 1, 4, 5, 2, 3).reshape(2, 128, 3, 4)
    token = pack_latents(patched, FLUX2)[0, 1 * 4 + 2]
    assert torch.equal(token, raw[0, :, 2:4, 4:6].flatten())


def test_latents_and_tokens_of_the_other_family_are_refused():
    with pytest.raises(ConditioningError, match=r"must have shape \(B, 128, h, w\), got \(1, 16, 4, 4\)"):
        pack_latents(torch.zeros(1, 16, 4, 4), FLUX2)
    with pytest.raises(ConditioningError, match=r"\(B, 16, 128\) for 4 x 4 latents, got \(1, 4, 64\)"):
        unpack_latents(torch.zeros(1, 4, 64), 4, 4, FLUX2)


def test_ids_of_flux2_have_a_fourth_axis_in_which_text_is_counted():
    assert image_ids(1, 2, index=10, family=FLUX2).tolist() == [[10, 0, 0, 0], [10, 0, 1, 0]]
    assert text_ids(3, FLUX2).tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 2]]
    assert text_ids(2, FLUX1).tolist() == [[0, 0, 0], [0, 0, 0]]


@given(layouts, cells, st.sampled_from(("clone", "kontext", "fold")), st.sampled_from(CONDITION_TOKENS))
def test_both_families_place_alike_but_for_a_references_index(layout, cell, position_ids, tokens):
    index, placed = condition_token_index(layout, cell, tokens), []
    for family in (FLUX1, FLUX2):
        target = target_ids(image_ids(*layout.grid_size(*cell), family=family), layout, cell, position_ids)
        placed.append((target, condition_ids(target, index, position_ids, family)))
    (target, own), (other, other_own) = placed
    assert torch.equal(target, other[:, :3])
    assert torch.equal(own[:, 1:], other_own[:, 1:3])
    assert not other[:, 3].any() and not other_own[:, 3].any()
    wanted = torch.full_like(own[:, 0], 10) if position_ids == "kontext" else own[:, 0]
    assert torch.equal(other_own[:, 0], wanted)


def test_ids_count_rows_then_columns():
    assert image_ids(2, 3).tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 1], [0, 1, 2]]
    assert image_ids(1, 2, index=1).tolist() == [[1, 0, 0], [1, 0, 1]]


@given(layouts, cells)
def test_full_grid_keeps_every_token_in_its_place(layout, cell):
    rows, cols = layout.grid_size(*cell)
    index = condition_token_index(layout, cell, "full_grid")
    assert torch.equal(index, torch.arange(rows * cols))
    ids = image_ids(rows, cols)
    assert torch.equal(condition_ids(ids, index, "clone"), ids)


@given(layouts, cells)
def test_first_cell_selects_tokens_and_ids_alike(layout, cell):
    # One latent per frame; those of the first frame must be the ones the index picks out of the packed grid.
    latents = torch.randn(layout.frames, 2 * cell[0], 2 * cell[1], 16)
    grid = pack_latents(assemble_grid(latents, layout).permute(0, 3, 1, 2))
    index = condition_token_index(layout, cell, "first_cell")
    assert torch.equal(grid[:, index], pack_latents(latents[:1].permute(0, 3, 1, 2)))
    rows, cols = layout.grid_size(*cell)
    ids = condition_ids(image_ids(rows, cols), index, "clone")
    assert torch.equal(ids, image_ids(*cell))
    assert len(index) == condition_token_count(layout, cell, "first_cell") == cell[0] * cell[1]


@given(layouts, cells, st.sampled_from(("first_cell", "first_cell_cached")))
def test_a_goal_stands_beside_the_first_cell_and_takes_the_ids_of_the_last(layout, cell, condition_tokens):
    latents = torch.randn(layout.frames, 2 * cell[0], 2 * cell[1], 16)
    grid = pack_latents(assemble_grid(latents, layout).permute(0, 3, 1, 2))
    index = condition_token_index(layout, cell, condition_tokens, goal=True)
    beside = torch.cat([latents[:1], latents[-1:]], dim=2)
    assert torch.equal(grid[:, index], pack_latents(beside.permute(0, 3, 1, 2)))
    assert len(index) == condition_token_count(layout, cell, condition_tokens, True) == 2 * cell[0] * cell[1]
    target = target_ids(image_ids(*layout.grid_size(*cell)), layout, cell, "fold")
    frames = condition_ids(target, index, "fold")[:, 0].reshape(cell[0], 2, cell[1])
    assert (frames[:, 0] == -1).all() and (frames[:, 1] == -layout.frames).all()
    whole = condition_token_index(layout, cell, "full_grid", goal=True)
    assert torch.equal(whole, condition_token_index(layout, cell, "full_grid"))


@given(layouts, cells)
def test_a_cached_condition_has_the_tokens_of_the_first_cell(layout, cell):
    cached = condition_token_index(layout, cell, "first_cell_cached")
    assert torch.equal(cached, condition_token_index(layout, cell, "first_cell"))


def test_token_counts_of_the_published_grid():
    layout, cell = GridLayout(), (240 // 16, 320 // 16)
    assert condition_token_count(layout, cell, "full_grid") == 2700
    assert condition_token_count(layout, cell, "first_cell") == 300


@pytest.mark.parametrize("condition_tokens", CONDITION_TOKENS)
def test_clone_repeats_the_targets_own_ids_even_scaled(condition_tokens):
    ids = image_ids(6, 9) * 0.37 + 0.1  # a model may rescale its ids
    index = condition_token_index(GridLayout(), (2, 3), condition_tokens)
    assert torch.equal(condition_ids(ids, index, "clone"), ids[index])


def test_kontext_moves_the_reference_to_index_one():
    ids = image_ids(6, 9)
    index = condition_token_index(GridLayout(), (2, 3), "full_grid")
    moved = condition_ids(ids, index, "kontext")
    assert (moved[:, 0] == 1).all() and torch.equal(moved[:, 1:], ids[:, 1:])
    assert (ids[:, 0] == 0).all()  # the targets stay


@given(layouts, cells)
def test_folded_ids_say_frame_and_place_in_the_cell(layout, cell):
    rows, cols = layout.grid_size(*cell)
    ids = target_ids(image_ids(rows, cols), layout, cell, "fold").view(rows, cols, 3)
    for frame in range(layout.frames):
        top, left, bottom, right = layout.cell_box(frame, *cell)
        assert torch.equal(ids[top:bottom, left:right].reshape(-1, 3), image_ids(*cell, index=frame))
    index = condition_token_index(layout, cell, "first_cell")
    assert torch.equal(condition_ids(ids.view(-1, 3), index, "fold"), image_ids(*cell, index=-1))


@pytest.mark.parametrize("position_ids", ["clone", "kontext"])
def test_unfolded_targets_keep_the_ids_that_the_model_gave_them(position_ids):
    ids = image_ids(6, 9) * 0.37
    assert torch.equal(target_ids(ids, GridLayout(), (2, 3), position_ids), ids)


def test_folding_keeps_a_scale_and_refuses_another_grid():
    ids = image_ids(6, 9) * 0.5
    folded = target_ids(ids.expand(2, -1, -1), GridLayout(), (2, 3), "fold")
    assert folded.shape == (2, 54, 3) and folded[0, -1].tolist() == [8.0, 0.5, 1.0]
    with pytest.raises(ConditioningError, match="ids must be of the grid's 36 tokens, got 54"):
        target_ids(ids, GridLayout(), (2, 2), "fold")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_batches_and_types_of_ids_are_kept(dtype):
    ids = image_ids(6, 9).to(dtype).expand(4, -1, -1)
    picked = condition_ids(ids, condition_token_index(GridLayout(), (2, 3), "first_cell"))
    assert picked.shape == (4, 6, 3) and picked.dtype == dtype


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: condition_token_index(GridLayout(), (2, 2), "some"),
            "condition_tokens must be one of full_grid, first_",
        ),
        (lambda: condition_token_index(GridLayout(), (0, 2)), "cell token rows must be a whole number of at least 1"),
        (
            lambda: condition_ids(image_ids(2, 2), torch.arange(4), "offset"),
            "position_ids must be one of clone, kontext, fold",
        ),
        (lambda: condition_ids(image_ids(2, 2), torch.arange(5)), "positions below 4, the number of target tokens"),
        (lambda: condition_ids(torch.zeros(4, 5), torch.arange(4)), r"with 3 or 4 axes, got \(4, 5\)"),
        (lambda: sigmas(0, 1.0), "steps must be a whole number of at least 1, got 0"),
        (lambda: sigmas(4, math.nan), "mu must be a finite number, got nan"),
        (lambda: schedule_mu(0), "tokens must be a whole number of at least 1"),
        (lambda: add_noise(torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(2)), r"one per sample \(3\), got \(2,\)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ConditioningError, match=message):
        call()


def test_the_shift_is_a_line_through_the_published_points():
    assert schedule_mu(256) == 0.5
    assert schedule_mu(4096) == pytest.approx(1.15)
    # 960x720: 2700 tokens of noise, and as many of the condition in the released code (extrapolated).
    assert schedule_mu(2700) == pytest.approx(0.5 + 0.65 * 2444 / 3840)
    assert schedule_mu(5400) == pytest.approx(1.37073, abs=1e-5)


@pytest.mark.parametrize(("steps", "mu"), [(20, 1.3707), (8, math.log(5)), (1, 0.5), (50, 0.0)])
def test_sigmas_run_from_noise_to_nothing(steps, mu):
    levels = sigmas(steps, mu)
    assert levels.shape == (steps + 1,) and levels.dtype == torch.float32
    assert levels[0] == 1.0 and levels[-1] == 0.0
    assert (levels.diff() < 0).all()


def test_sigma_values():
    assert sigmas(4, 0.0).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    # shift 5: s = 5u / (1 + 4u)
    assert sigmas(4, math.log(5.0)).tolist() == pytest.approx([1.0, 3.75 / 4, 2.5 / 3, 1.25 / 2, 0.0])


def test_noise_and_velocity_are_the_two_ends_of_a_straight_line():
    clean, noise = torch.randn(3, 16, 4, 4), torch.randn(3, 16, 4, 4)
    level = torch.tensor([0.0, 0.3, 1.0])
    noisy = add_noise(clean, noise, level)
    assert torch.equal(noisy[0], clean[0]) and torch.equal(noisy[2], noise[2])
    back = noisy - level[:, None, None, None] * velocity(clean, noise)
    assert torch.allclose(back, clean, atol=1e-5)
    assert torch.allclose(add_noise(clean, noise, 0.25), 0.75 * clean + 0.25 * noise)

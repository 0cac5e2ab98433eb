"""Laws of the layout: where each frame stands."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visual_planner.errors import LayoutError, PlannerError
from visual_planner.grid.layout import ORDERS, GridLayout, inverse_permutation

layouts = st.builds(GridLayout, st.integers(1, 8), st.integers(1, 8), st.sampled_from(ORDERS))


def test_the_published_order():
    assert GridLayout().frame_indices == (0, 1, 2, 5, 4, 3, 6, 7, 8)


@pytest.mark.parametrize(
    ("layout", "rows"),
    [
        (GridLayout(2, 3, "serpentine"), [[0, 1, 2], [5, 4, 3]]),
        (GridLayout(3, 2, "serpentine"), [[0, 1], [3, 2], [4, 5]]),
        (GridLayout(2, 3, "raster"), [[0, 1, 2], [3, 4, 5]]),
        (GridLayout(3, 2, "column_serpentine"), [[0, 5], [1, 4], [2, 3]]),
        (GridLayout(2, 3, "column_serpentine"), [[0, 3, 4], [1, 2, 5]]),
        (GridLayout(3, 3, "shuffled"), [[0, 5, 6], [3, 1, 2], [8, 7, 4]]),
    ],
)
def test_orders_by_hand(layout, rows):
    assert [[layout.frame_at(r, c) for c in range(layout.cols)] for r in range(layout.rows)] == rows


@given(layouts)
def test_an_order_and_its_inverse_are_the_identity(layout):
    frames = range(layout.frames)
    assert sorted(layout.frame_indices) == list(frames)
    assert [layout.frame_indices[layout.cell_indices[f]] for f in frames] == list(frames)
    assert inverse_permutation(layout.cell_indices) == layout.frame_indices
    assert all(layout.frame_at(*layout.cell_of(f)) == f for f in frames)


@given(layouts)
def test_the_first_frame_is_top_left(layout):
    assert layout.cell_of(0) == (0, 0)


@given(layouts.filter(lambda layout: layout.order.endswith("serpentine")))
def test_serpentines_keep_neighbours_in_time_neighbours_in_space(layout):
    cells = [layout.cell_of(f) for f in range(layout.frames)]
    assert all(abs(r1 - r0) + abs(c1 - c0) == 1 for (r0, c0), (r1, c1) in pairwise(cells))


@given(st.integers(1, 8), st.integers(1, 8))
def test_column_serpentine_is_serpentine_mirrored_on_the_diagonal(rows, cols):
    by_columns = np.reshape(GridLayout(rows, cols, "column_serpentine").frame_indices, (rows, cols))
    by_rows = np.reshape(GridLayout(cols, rows, "serpentine").frame_indices, (cols, rows))
    assert (by_columns == by_rows.T).all()


@given(layouts, st.integers(1, 40), st.integers(1, 40))
def test_boxes_tile_the_grid(layout, height, width):
    cover = np.zeros(layout.grid_size(height, width), int)
    for frame in range(layout.frames):
        top, left, bottom, right = layout.cell_box(frame, height, width)
        cover[top:bottom, left:right] += 1
    assert (cover == 1).all()
    assert layout.cell_size(*cover.shape) == (height, width)


@given(layouts)
def test_text_form_is_read_back(layout):
    assert GridLayout.parse(str(layout)) == layout


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("3x3", GridLayout()),
        (" 2 X 4 ", GridLayout(2, 4)),
        ("2×4:raster", GridLayout(2, 4, "raster")),
        ("5x1, Column_Serpentine", GridLayout(5, 1, "column_serpentine")),
    ],
)
def test_text_forms(text, layout):
    assert GridLayout.parse(text) == layout


@pytest.mark.parametrize("text", ["", "3", "3x", "x3", "3x3x3", "-1x3", "3x3 up there", None, 9])
def test_other_text_is_refused(text):
    with pytest.raises(LayoutError, match=r'must read like "3x3"'):
        GridLayout.parse(text)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GridLayout(0, 3), "grid rows must be a whole number of at least 1, got 0"),
        (lambda: GridLayout(3, 2.0), "grid cols must be a whole number of at least 1, got 2.0"),
        (lambda: GridLayout(True, 3), "grid rows must be a whole number of at least 1, got True"),
        (
            lambda: GridLayout(order="zigzag"),
            "grid order must be one of serpentine, raster, column_serpentine, shuffled, got 'zig",
        ),
        (lambda: GridLayout.parse("3x3 zigzag"), "grid order must be one of"),
        (lambda: GridLayout(2, 3).cell_of(6), "has frames 0 to 5, got frame 6"),
        (lambda: GridLayout(2, 3).frame_at(2, 0), "2x3 grid has no cell at row 2, col 0"),
        (lambda: GridLayout().frame_at(-1, 0), "cell row must be a whole number of at least 0, got -1"),
        (lambda: GridLayout().cell_size(672, 671), "a width that divides by 3, got 672 high x 671 wide"),
        (lambda: GridLayout().grid_size(0, 8), "cell height must be a whole number of at least 1, got 0"),
        (lambda: GridLayout().require_cells_divisible(64, 72, 16, "token"), "divide by 16, or a token straddles two"),
    ],
)
def test_errors_name_the_input_and_what_it_must_be(make, message):
    with pytest.raises(LayoutError, match=message) as caught:
        make()
    assert isinstance(caught.value, PlannerError) and "\n" not in str(caught.value)


def test_numpy_integers_are_integers():
    assert GridLayout(np.int64(2), np.uint8(3)) == GridLayout(2, 3)

"""Sizes of an adapter's change by block and kind of layer, and their picture."""

import math

import numpy as np
import pytest

from visual_planner.adapters.change import Change, shown, size_of, tables
from visual_planner.adapters.heat_map import draw_heat_maps

CHANGES = [
    Change("img_in", 1.0, 10.0),
    Change("double_blocks.0.img_attn.qkv", 3.0, 30.0),
    Change("double_blocks.0.img_mlp.0", 4.0, 40.0),
    Change("double_blocks.2.img_attn.qkv", 6.0, 20.0),
    Change("single_blocks.1.linear1", 0.0, 5.0),
]


def test_sizes_add_up_as_norms_do():
    assert size_of(CHANGES[1:3]) == pytest.approx(5.0 / 50.0)
    assert size_of([Change("a", 3.0), Change("b", 4.0)]) == 5.0
    assert math.isnan(size_of([])) and size_of([Change("a", 0.0, 0.0)]) == 0


def test_tables_have_the_models_blocks():
    double, single, other = tables(CHANGES, 3, 2)
    assert double.rows == ("img_attn.qkv", "img_mlp.0") and double.columns == ("0", "1", "2")
    wanted = [
        [0.1, math.nan, 0.3, math.hypot(3, 6) / math.hypot(30, 20)],
        [0.1, math.nan, math.nan, 0.1],
        [0.1, math.nan, 0.3, math.hypot(3, 4, 6) / math.hypot(30, 40, 20)],
    ]
    np.testing.assert_allclose(double.values, wanted)
    np.testing.assert_allclose(single.values, [[math.nan, 0, 0], [math.nan, 0, 0]])
    assert other.rows == ("img_in",) and other.columns == ()
    assert [table.title for table in tables(CHANGES[:1], 3, 2)] == ["outside of the blocks"]


@pytest.mark.parametrize(
    ("size", "relative", "text"),
    [(0.01234, True, "1.23%"), (0.0, True, "0%"), (2e-6, True, "2e-04%"), (12.34, False, "12"), (math.nan, True, "")],
)
def test_a_size_is_shown_in_few_characters(size, relative, text):
    assert shown(size, relative) == text


def test_the_picture_has_a_colour_for_each_cell():
    """The largest change is yellow, none at all is the dark end, and what is not changed is grey."""
    picture = draw_heat_maps(tables(CHANGES, 3, 2), "a title", relative=True)
    assert picture.dtype == np.float32 and picture.min() >= 0 and picture.max() <= 1
    pixels = {tuple(pixel) for pixel in np.rint(picture.reshape(-1, 3) * 255).astype(int)}
    assert {(253, 231, 37), (68, 1, 84), (232, 234, 237)} <= pixels
    wider = draw_heat_maps(tables([Change("double_blocks.0.img_mod.lin", 1.0)], 19, 38), "t", relative=False)
    assert wider.shape[1] > picture.shape[1]

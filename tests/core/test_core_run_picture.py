"""The picture of a training run: its axis, its smoothed line, and what is drawn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visual_planner.checks.run_picture import WIDTH, axis, draw_run, running_means

VALUES = st.lists(st.floats(-1e9, 1e9), max_size=30)


@given(VALUES)
def test_an_axis_holds_all_values_between_few_round_numbers(values):
    low, high, ticks = axis(values)
    assert low < high and 2 <= len(ticks) <= 6
    assert ticks[0] == low and ticks[-1] == pytest.approx(high)
    for value in values:
        assert low - 1e-6 * abs(low) <= value <= high + 1e-6 * abs(high)
    spacing = ticks[1] - ticks[0]
    lead = spacing / 10 ** math.floor(math.log10(spacing * 1.000001))
    assert min(abs(lead - round_number) for round_number in (1, 2, 5, 10)) < 1e-3


def test_what_is_no_number_takes_no_part():
    assert axis([0.5, math.nan, 1.0, math.inf])[:2] == axis([0.5, 1.0])[:2]
    assert axis([])[:2] == (0.0, 1.0)


def test_means_are_those_of_the_last_twentieth():
    assert running_means([]) == []
    few = [(step, float(step)) for step in range(5)]
    assert running_means(few) == few
    many = [(step, float(step % 2)) for step in range(80)]
    means = running_means(many)
    assert [step for step, _ in means] == [step for step, _ in many]
    assert {mean for _, mean in means[4:]} == {0.5} and means[1][1] == 0.5


def colored(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return (picture == color).all(-1)


def test_loss_and_held_out_loss_are_drawn_where_they_are():
    losses, held_out = [(step, 1.0 - step / 200) for step in range(1, 101)], [(0, 0.9), (100, 0.4)]
    picture = draw_run(["name: step 100 of 200", "loss 0.5"], losses, held_out, 200, [])
    assert picture.shape[1:] == (WIDTH, 3) and picture.dtype == np.uint8
    rows, columns = np.nonzero(colored(picture, (26, 95, 180))[: picture.shape[0] - 30])
    left, right = rows[columns == columns.min()].mean(), rows[columns == columns.max()].mean()
    assert right > left + 60, "a falling loss is drawn falling"
    assert columns.max() == pytest.approx(52 + (WIDTH - 12 - 52) / 2, abs=4), "the axis ends with the run"
    assert colored(picture, (192, 86, 33)).sum() > 40
    assert not colored(draw_run([], losses, [], 200, []), (192, 86, 33)).any()


def test_three_sheets_stand_below_it_and_small_ones_in_whole_factors():
    without = draw_run(["a"], [], [], 10, [])
    small = np.full((20, 100, 3), (9, 99, 199), np.uint8)
    picture = draw_run(["a"], [(1, 0.3)], [], 10, [small] * 4)
    assert colored(picture, (9, 99, 199)).sum() == 3 * (20 * 4) * (100 * 4)
    assert picture.shape[0] == without.shape[0] + 3 * (20 * 4 + 6)
    large = draw_run(["a"], [], [], 10, [np.full((600, 1920, 3), (9, 99, 199), np.uint8)])
    assert large.shape == (without.shape[0] + round(600 * 456 / 1920) + 6, WIDTH, 3)

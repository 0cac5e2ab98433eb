"""Times of frames that are not evenly spaced."""

import numpy as np
import pytest

from visual_planner.execution.timing import LEAST_SHARE, PARTS, repeats, shares_by_change, shares_by_distance


def test_a_long_way_is_shown_longer():
    keys = np.array([[0, 0, 0, 0], [0.3, 0, 0, 0], [0.4, 0, 0, 0], [0.4, 0, 0, 1]], float)
    shares = shares_by_distance(keys)
    assert shares.sum() == pytest.approx(1) and shares[0] > shares[1]
    assert shares[0] / shares[1] == pytest.approx(3)
    assert shares[2] == pytest.approx(shares[1]), "a gripper that closes counts as 10 cm"


def test_nothing_that_moves_is_even():
    for shares in (shares_by_distance(np.zeros((5, 4))), shares_by_change(np.zeros((5, 4, 4, 3), np.uint8))):
        np.testing.assert_allclose(shares, 0.2)
        assert repeats(shares).tolist() == [PARTS] * 5


def test_a_frame_that_hardly_moves_is_still_seen():
    keys = np.zeros((9, 4))
    keys[1:, 0] = 0.5
    shares = shares_by_distance(keys)
    even = 1 / shares[-1]
    assert (shares * even).min() == pytest.approx(LEAST_SHARE)


@pytest.mark.parametrize("count", [2, 3, 9, 25])
def test_repeats_add_up(count):
    rng = np.random.default_rng(count)
    for _ in range(20):
        shares = shares_by_distance(rng.exponential(size=(count, 4)))
        counts = repeats(shares)
        assert counts.sum() == PARTS * count and counts.min() >= 1
        assert np.abs(counts - shares * PARTS * count).max() < 1 + 1e-9


def test_pictures_tell_by_their_change():
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    frames[1:, :4], frames[2:, 4:5] = 200, 200
    frames[3] = frames[2]
    shares = shares_by_change(frames)
    assert shares[0] == shares.max() and shares[2] == shares.min()

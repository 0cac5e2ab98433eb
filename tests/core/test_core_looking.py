"""Pictures to look at a plan."""

import pytest
import torch

from visual_planner.checks.display import MARKS, defect_masks, mark_defects, play_order, side_by_side, with_trajectory
from visual_planner.errors import ImageError
from visual_planner.trajectory.path import DrawnPath
from visual_planner.trajectory.trajectory import Trajectory


def plan(frames=6, size=64):
    """A red square that moves over grey; (F, h, w, 3)."""
    pictures = torch.full((frames, size, size, 3), 0.5)
    for t in range(frames):
        pictures[t, 24:40, 4 + 8 * t : 16 + 8 * t] = torch.tensor([1.0, 0.0, 0.0])
    return pictures


def test_order_of_play():
    assert play_order(4) == [0, 1, 2, 3]
    assert play_order(3, 1, 2) == [0, 0, 1, 2, 2, 2]
    assert play_order(4, ping_pong=True) == [0, 1, 2, 3, 2, 1]
    assert play_order(1, ping_pong=True) == [0]


def test_side_by_side_keeps_every_pixel():
    a, b = plan(4), plan(6)
    both = side_by_side(a, b)
    assert both.shape == (6, 64, 132, 3)
    assert torch.equal(both[:4, :, :64], a) and torch.equal(both[5, :, :64], a[3])
    assert torch.equal(both[:, :, 68:], b)
    with pytest.raises(ImageError, match="frames of the plan's size, 64 high x 64 wide, got 32 x 32"):
        side_by_side(a, plan(4, 32))


def test_a_good_plan_has_no_marks():
    assert not any(mask.any() for mask in defect_masks(plan(), plan()[:1]).values())
    assert torch.equal(mark_defects(plan()), plan())


def test_defects_are_marked_where_they_are():
    spoilt = plan()
    spoilt[3, 24:40, 40:48] = torch.tensor([0.75, 0.25, 0.25])  # half of the square, where it comes next
    spoilt[4, :, 62:] = 0.0
    spoilt[0, 50:60, 10:30] = torch.tensor([0.0, 1.0, 0.0])
    masks = defect_masks(spoilt, plan()[:1])
    ghost = masks["ghosting"][3]
    assert ghost[28:36, 42:46].all() and not ghost[:20].any() and not masks["ghosting"][1].any()
    assert masks["drift"][0, 52:58, 12:28].all() and not masks["drift"][1:].any()
    assert masks["seams"][4, :, 61].all() and not masks["seams"][:4].any() and not masks["seams"][4, :, :58].any()
    assert tuple(mark_defects(spoilt)[4, 3, 61].tolist()) == MARKS["seams"]


def test_the_path_is_drawn_on_every_frame():
    path = Trajectory(128, 128, (DrawnPath.from_array([(10, 100), (118, 100)]),))
    drawn = with_trajectory(plan(), path)
    assert (drawn[:, 50, 6:58] != plan()[:, 50, 6:58]).any(dim=-1).all()
    assert torch.equal(drawn[:, :46], plan()[:, :46])

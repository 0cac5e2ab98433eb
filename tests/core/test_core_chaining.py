"""Plans one after the other: what each is asked, and how their frames are joined."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visual_planner.errors import ChainError
from visual_planner.planner.chaining import (
    AUTO,
    JOINS,
    MAX_PLANS,
    ONE_PATH,
    PATH_EACH,
    PlanRequest,
    check_overlap,
    cut_in_time,
    frames_shown,
    join_plans,
    joined_length,
    requests_of,
    share_paths,
)
from visual_planner.planner.spec import PlannerSpec
from visual_planner.trajectory.path import DrawnPath, Point
from visual_planner.trajectory.trajectory import Trajectory

SPEC = PlannerSpec()
FRAMES = SPEC.layout.frames
ZIGZAG = DrawnPath("gripper", (Point(10, 20), Point(200, 40, 0.25), Point(100, 180, 0.5), Point(300, 220)))


def drawing(*paths: DrawnPath) -> Trajectory:
    return Trajectory(320, 240, paths)


def chain(count: int, frames: int, overlap: int) -> list[torch.Tensor]:
    """Plans of frames that hold their own moment, so that a joined sequence must count evenly."""
    starts = [number * (frames - overlap) for number in range(count)]
    return [torch.arange(start, start + frames, dtype=torch.float64).reshape(-1, 1, 1, 1) for start in starts]


@st.composite
def chains(draw) -> tuple[int, int, int]:
    frames = draw(st.integers(2, 12))
    return draw(st.integers(1, 5)), frames, draw(st.integers(1, frames - 1))


def joined(plans: list[torch.Tensor], overlap: int, join: str) -> torch.Tensor:
    result = plans[0]
    for plan in plans[1:]:
        result = join_plans(result, plan, overlap, join)
    return result


@given(chains(), st.sampled_from(JOINS))
def test_plans_that_agree_join_to_one_even_sequence(numbers, join):
    """No frame twice, none left out, whatever the overlap: where both plans show the same, the seam cannot be seen."""
    count, frames, overlap = numbers
    result = joined(chain(count, frames, overlap), overlap, join)
    assert len(result) == joined_length(count, frames, overlap)
    torch.testing.assert_close(result.flatten(), torch.arange(len(result), dtype=torch.float64))


@given(chains())
def test_which_frames_show_which_plan(numbers):
    count, frames, overlap = numbers
    plans = [torch.full((frames, 1, 1, 1), float(number)) for number in range(count)]
    result = joined(plans, overlap, "drop").flatten().tolist()
    for number in range(count):
        first, last = frames_shown(number, count, frames, overlap, "drop")
        assert result[first - 1 : last] == [number] * (last - first + 1)
        assert result.count(number) == last - first + 1
    assert frames_shown(count - 1, count, frames, overlap, "crossfade")[1] == len(result)


def test_drop_shows_the_later_plan_and_crossfade_both():
    before, after = torch.zeros(5, 2, 2, 3), torch.ones(5, 2, 2, 3)
    assert join_plans(before, after, 3, "drop")[:, 0, 0, 0].tolist() == [0, 0, 0, 1, 1, 1, 1]
    blended = join_plans(before, after, 3, "crossfade")[:, 0, 0, 0]
    torch.testing.assert_close(blended, torch.tensor([0, 0, 0, 1 / 3, 2 / 3, 1, 1]))
    assert torch.equal(join_plans(before, after, 1, "drop"), join_plans(before, after, 1, "crossfade"))


def test_the_shared_frame_is_the_earlier_plans():
    before, after = torch.rand(9, 4, 6, 3), torch.rand(9, 4, 6, 3)
    result = join_plans(before, after)
    assert torch.equal(result[:9], before) and torch.equal(result[9:], after[1:])
    assert result.dtype == before.dtype


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"after": torch.zeros(9, 4, 8, 3)}, r"frames of one size \(h x w x C\), got 4 x 6 x 3 and 4 x 8 x 3"),
        ({"overlap": 0}, "overlap must be a whole number of at least 1, got 0"),
        ({"overlap": 9}, "overlap must be 1 to 8 for plans of 9 frames, got 9"),
        ({"before": torch.zeros(3, 4, 6, 3), "overlap": 3}, "overlap must be 1 to 2 for plans of 3 frames, got 3"),
        ({"join": "melt"}, "join must be one of drop, crossfade, got 'melt'"),
    ],
)
def test_what_cannot_be_joined(change, message):
    arguments = {"before": torch.zeros(9, 4, 6, 3), "after": torch.zeros(9, 4, 6, 3), "overlap": 1, "join": "drop"}
    with pytest.raises(ChainError, match=message) as caught:
        join_plans(**arguments | change)
    assert "\n" not in str(caught.value)


def test_single_frames_do_not_follow_each_other():
    with pytest.raises(ChainError, match="plans must have at least 2 frames to be chained, got 1"):
        check_overlap(1, 1)


@given(chains().filter(lambda numbers: numbers[0] > 1))
def test_a_path_cut_in_time_is_the_path(numbers):
    """Where the cut paths are in their plans' frames is where the whole path is in the joined frames."""
    count, frames, overlap = numbers
    whole = drawing(ZIGZAG, DrawnPath("other", (Point(5, 5, 0.4), Point(50, 60, 0.6))))
    places = whole.resample(joined_length(count, frames, overlap))
    parts = share_paths(whole, count, frames, overlap, ONE_PATH)
    assert len(parts) == count
    for number, part in enumerate(parts):
        start = number * (frames - overlap)
        np.testing.assert_allclose(part.resample(frames), places[start : start + frames], atol=1e-6)
        assert [path.name for path in part.paths] == ["gripper", "other"]


def test_a_cut_keeps_the_curve_between_the_frames():
    part = cut_in_time(drawing(ZIGZAG), 0.1, 0.7)
    times = np.linspace(0.1, 0.7, 301)
    dense = drawing(ZIGZAG).resample(10_001)[np.round(times * 10_000).astype(int)]
    np.testing.assert_allclose(part.resample(301), dense, atol=0.05)
    assert part.paths[0].times()[[0, -1]].tolist() == [0.0, 1.0]


def test_paths_for_each_plan_stay_as_they_are():
    paths = ZIGZAG, DrawnPath("second", (Point(1, 2), Point(3, 4)))
    for use in (AUTO, PATH_EACH):
        assert [part.paths for part in share_paths(drawing(*paths), 2, FRAMES, 1, use)] == [(path,) for path in paths]
    alone = share_paths(drawing(ZIGZAG), 2, FRAMES, 1, AUTO)
    assert [len(part.paths) for part in alone] == [1, 1]
    assert alone[0].paths[0].points[-1].x == pytest.approx(alone[1].paths[0].points[0].x)


def asked(instructions="", trajectory=None, plans=0, use=AUTO, overlap=1, spec=SPEC):
    return requests_of(instructions, trajectory, plans, use, overlap, spec)


def test_a_plan_for_each_instruction():
    assert asked("  pick up the cube \n\n put it down\n") == (
        PlanRequest("text", "pick up the cube", None),
        PlanRequest("text", "put it down", None),
    )
    assert asked("push on", plans=3) == (PlanRequest("text", "push on", None),) * 3


def test_instructions_with_paths_and_paths_alone():
    two = drawing(ZIGZAG, DrawnPath("second", (Point(1, 2), Point(3, 4))))
    both = asked("first\nsecond", two)
    assert [(one.mode, one.instruction, one.trajectory.paths[0].name) for one in both] == [
        ("both", "first", "gripper"),
        ("both", "second", "second"),
    ]
    assert [(one.mode, one.instruction) for one in asked("", two)] == [("trajectory", "")] * 2
    assert len(asked("", two, use=ONE_PATH)) == 1
    cut = asked("", two, plans=3, use=ONE_PATH)
    assert [len(one.trajectory.paths) for one in cut] == [2, 2, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, r"instructions must have at least one line \(or a trajectory must be connected\), got none"),
        ({"instructions": " \n "}, "instructions must have at least one line"),
        ({"instructions": "a\nb", "plans": 3}, "one line, or one for each of 3 plans, got 2"),
        ({"instructions": "a", "overlap": 9}, "overlap must be 1 to 8 for plans of 9 frames, got 9"),
        ({"instructions": "a", "plans": MAX_PLANS + 1}, f"plans must be 1 to {MAX_PLANS}, got {MAX_PLANS + 1}"),
        ({"instructions": "a", "plans": -1}, f"plans must be 1 to {MAX_PLANS}, got -1"),
        (
            {"instructions": "a", "spec": PlannerSpec(modes=("trajectory",))},
            "trained for mode trajectory: it cannot take instructions alone",
        ),
        (
            {"trajectory": drawing(ZIGZAG), "spec": PlannerSpec(modes=("text",))},
            "trained for mode text: it cannot take a trajectory alone",
        ),
        (
            {"instructions": "a", "trajectory": drawing(ZIGZAG), "spec": PlannerSpec(modes=("text", "trajectory"))},
            "trained for mode text, trajectory: it cannot take instructions with a path",
        ),
        (
            {"instructions": "a\nb", "trajectory": drawing(ZIGZAG), "use": PATH_EACH},
            "a path for each of 2 plans, got 1: or cut it in time",
        ),
        (
            {"instructions": "a\nb\nc", "trajectory": drawing(ZIGZAG, ZIGZAG)},
            "1 path or one for each of 3 plans, got 2",
        ),
        ({"instructions": "a", "trajectory": drawing(ZIGZAG), "use": "all"}, "paths must be one of auto,"),
    ],
)
def test_what_cannot_be_asked(change, message):
    with pytest.raises(ChainError, match=message) as caught:
        asked(**change)
    assert "\n" not in str(caught.value)

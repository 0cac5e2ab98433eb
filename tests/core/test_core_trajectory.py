"""Laws of trajectories: curves, times, resampling, clipping, moving to other frames."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visual_planner.errors import TrajectoryError
from visual_planner.trajectory.parse import parse_trajectory
from visual_planner.trajectory.path import INTERPOLATIONS, DrawnPath, Point
from visual_planner.trajectory.trajectory import Trajectory

coordinates = st.floats(0, 64).map(lambda v: round(v, 2))
places = st.tuples(coordinates, coordinates)


@st.composite
def paths(draw, minimum=2):
    """Paths with distinct or repeated places, with and without times."""
    points = draw(st.lists(places, min_size=minimum, max_size=8))
    style = draw(st.sampled_from(["none", "all", "some"]))
    times = sorted(draw(st.lists(st.integers(1, 99), min_size=len(points), max_size=len(points), unique=True)))
    keep = [style == "all" or (style == "some" and draw(st.booleans())) for _ in points]
    return DrawnPath(
        "gripper",
        tuple(Point(x, y, t / 100 if kept else None) for (x, y), t, kept in zip(points, times, keep, strict=True)),
        draw(st.sampled_from(INTERPOLATIONS)),
    )


def path(*points: tuple, interpolation: str = "polyline") -> DrawnPath:
    return DrawnPath.from_array(points, interpolation=interpolation)


@given(paths(), st.integers(2, 40), st.sampled_from(["time", "arc"]))
def test_resampling_keeps_the_end_points(path, n, by):
    places = path.resample(n, by)
    assert places.shape == (n, 2) and places.dtype == np.float64
    assert places[0].tolist() == [path.points[0].x, path.points[0].y]
    assert places[-1].tolist() == [path.points[-1].x, path.points[-1].y]


@given(paths())
def test_times_strictly_increase_and_keep_what_was_given(path):
    times = path.times()
    assert (np.diff(times) > 0).all() and times[0] >= 0.0 and times[-1] <= 1.0
    for point, time in zip(path.points, times, strict=True):
        assert point.t is None or point.t == time
    assert path.points[0].t is not None or times[0] == 0.0
    assert path.points[-1].t is not None or times[-1] == 1.0


@given(paths())
def test_the_path_is_at_its_control_points_at_their_times(path):
    points, times = path.polyline()
    assert (np.diff(times) > 0).all()
    for point, time in zip(path.points, path.times(), strict=True):
        x, y = np.interp(time, times, points[:, 0]), np.interp(time, times, points[:, 1])
        assert (x, y) == pytest.approx((point.x, point.y), abs=1e-6)


@given(paths(), st.integers(2, 60))
def test_a_drawn_curve_is_even_along_its_length_and_forward_in_time(path, samples):
    points, times = path.curve(samples)
    assert points.shape == (samples, 2) and times.shape == (samples,)
    assert (np.diff(times) >= 0).all()
    assert times[[0, -1]].tolist() == path.times()[[0, -1]].tolist()
    steps = np.hypot(*np.diff(points, axis=0).T)
    assert (steps <= path.length / (samples - 1) + 1e-4).all()


@given(paths(minimum=3))
def test_a_spline_stays_near_its_points(path):
    control = np.array([(p.x, p.y) for p in path.points])
    curve, _ = path.curve(400)
    longest = np.hypot(*np.diff(control, axis=0).T).max(initial=0.0)
    # Centripetal: a curve leaves its points' box by less than a third of the longest step.
    assert (curve >= control.min(0) - longest / 3 - 1e-6).all()
    assert (curve <= control.max(0) + longest / 3 + 1e-6).all()


def test_a_spline_goes_around_a_corner_without_a_loop():
    # Points far apart after points close together: a uniform spline would loop here.
    curve, _ = path((0, 0), (30, 0), (31, 0), (31, 30), interpolation="spline").curve(300)
    assert curve[:, 0].max() < 33 and curve[:, 1].min() > -2
    assert (np.diff(curve[:, 1])[150:] > -1e-9).all()


def test_a_spline_is_smooth_and_a_polyline_is_straight():
    corner = [(0, 0), (30, 0), (30, 30)]
    turns = []
    for interpolation in INTERPOLATIONS:
        curve, _ = path(*corner, interpolation=interpolation).curve(200)
        heading = np.unwrap(np.arctan2(*np.diff(curve, axis=0).T[::-1]))
        turns.append(np.abs(np.diff(heading)).max())
    assert turns[0] < 0.2 < 0.7 < turns[1]


def test_two_points_make_a_straight_line_either_way():
    for interpolation in INTERPOLATIONS:
        assert path((0, 0), (8, 4), interpolation=interpolation).resample(5).tolist() == [
            [0, 0], [2, 1], [4, 2], [6, 3], [8, 4]
        ]  # fmt: skip


def test_missing_times_are_filled_by_arc_length():
    assert path((0, 0), (10, 0), (40, 0)).times().tolist() == [0.0, 0.25, 1.0]
    timed = DrawnPath("g", (Point(0, 0), Point(10, 0), Point(40, 0, 0.5), Point(40, 10), Point(40, 20)), "polyline")
    assert timed.times().tolist() == [0.0, 0.125, 0.5, 0.75, 1.0]


def test_speed_is_part_of_the_request():
    slow_then_fast = path((0, 0, 0.0), (10, 0, 0.5), (50, 0, 1.0))
    assert slow_then_fast.resample(5)[:, 0].tolist() == [0, 5, 10, 30, 50]
    assert slow_then_fast.resample(5, by="arc")[:, 0] == pytest.approx([0, 12.5, 25, 37.5, 50], abs=1e-3)


def test_holds_wait_at_their_place():
    waits = path((0, 0, 0.0), (10, 0, 0.25), (10, 0, 0.75), (20, 0, 1.0))
    assert waits.resample(9)[:, 0].tolist() == [0, 5, 10, 10, 10, 10, 10, 15, 20]
    assert path((5, 5), (5, 5)).resample(3).tolist() == [[5, 5]] * 3
    smooth = path((0, 0), (10, 0), (10, 0), (20, 5), interpolation="spline")
    assert np.isfinite(smooth.curve(99)[0]).all() and smooth.length < 25


def test_before_its_first_and_after_its_last_time_a_path_rests():
    late = path((0, 0, 0.5), (10, 0, 0.75))
    assert late.resample(5)[:, 0].tolist() == [0, 0, 0, 10, 10]


def test_one_sample_is_the_start():
    assert path((3, 4), (9, 9)).resample(1).tolist() == [[3, 4]]


def trajectory(*points: tuple, interpolation: str = "polyline") -> Trajectory:
    return Trajectory(64, 48, (path(*points, interpolation=interpolation),))


@given(paths())
def test_inside_nothing_is_clipped(inside):
    whole = Trajectory(64, 64, (inside,))
    for rule in ("error", "clamp", "cut"):
        assert whole.clipped(rule) == whole


def test_the_frames_edge_is_inside():
    edge = trajectory((0, 0), (64, 48))
    assert edge.clipped("error") == edge


def test_rule_error_names_the_point():
    message = r"path 'gripper': point 2 at \(70, 20\) must lie inside the frame of 64 x 48 px"
    with pytest.raises(TrajectoryError, match=message):
        trajectory((1, 1), (70, 20)).clipped()


def test_rule_clamp_moves_points_to_the_edge():
    clamped = trajectory((-5, 10), (70, 90, 1.0)).clipped("clamp").paths[0]
    assert clamped.points == (Point(0, 10), Point(64, 48, 1.0))


def test_rule_cut_cuts_at_the_edge_and_keeps_times():
    cut = trajectory((10, 10), (74, 10)).clipped("cut").paths
    assert len(cut) == 1
    assert cut[0].points == (Point(10, 10, 0.0), Point(64, 10, 54 / 64))


def test_rule_cut_makes_a_path_of_every_visit():
    pieces = trajectory((-10, 10), (20, 10), (20, -10), (40, -10), (40, 20)).clipped("cut").paths
    assert [piece.name for piece in pieces] == ["gripper", "gripper (2)"]
    assert [(p.x, p.y) for p in pieces[0].points] == [(0, 10), (20, 10), (20, 0)]
    assert [p.t for p in pieces[0].points] == pytest.approx([0.1, 0.3, 0.4])
    assert [(p.x, p.y) for p in pieces[1].points] == [(40, 0), (40, 20)]


@given(st.lists(st.tuples(st.integers(-40, 100), st.integers(-40, 100)), min_size=2, max_size=6))
def test_what_rule_cut_leaves_lies_on_the_path_and_in_the_frame(points):
    whole = Trajectory(64, 48, (path(*points, interpolation="spline"),))
    try:
        cut = whole.clipped("cut")
    except TrajectoryError as error:
        assert "lies outside it" in str(error)
        return
    assert cut.clipped("error") == cut
    curve, times = whole.paths[0].polyline()
    for piece in cut.paths:
        for point, time in zip(piece.points, piece.times(), strict=True):
            x, y = np.interp(time, times, curve[:, 0]), np.interp(time, times, curve[:, 1])
            assert (point.x, point.y) == pytest.approx((x, y), abs=1e-3)


def test_a_path_wholly_outside_cannot_be_cut():
    with pytest.raises(TrajectoryError, match="must cross the frame of 64 x 48 px, but lies outside it"):
        trajectory((70, 0), (90, 40)).clipped("cut")


def test_scaling_there_and_back():
    drawn = trajectory((10, 20, 0.25), (30, 8))
    scaled = drawn.scaled(128, 24)
    assert (scaled.width, scaled.height) == (128, 24)
    assert scaled.paths[0].points == (Point(20, 10, 0.25), Point(60, 4))
    assert scaled.scaled(64, 48) == drawn


def test_transformed_moves_points():
    moved = trajectory((10, 20), (30, 8)).transformed(0.5, 2.0, 3.0, -4.0, 40, 100)
    assert moved.paths[0].points == (Point(8, 36), Point(18, 12))
    assert (moved.width, moved.height) == (40, 100)


def test_all_paths_resampled_together():
    both = Trajectory(64, 48, (path((0, 0), (8, 0)), path((1, 1), (1, 9))))
    places = both.resample(5)
    assert places.shape == (5, 2, 2)
    assert places[2].tolist() == [[4, 0], [1, 5]]


@given(st.lists(paths(), min_size=1, max_size=3))
def test_json_is_read_back_as_it_was(members):
    whole = Trajectory(64, 48, tuple(members))
    assert parse_trajectory(whole.to_json()) == whole
    assert parse_trajectory(whole.to_json(indent=2)) == whole


def test_tracks_for_other_packs():
    one = trajectory((12, 40), (20, 44))
    assert one.to_track_json(3) == '[{"x":12,"y":40},{"x":16,"y":42},{"x":20,"y":44}]'
    two = Trajectory(64, 48, one.paths * 2)
    assert two.to_track_json(2) == '[[{"x":12,"y":40},{"x":20,"y":44}],[{"x":12,"y":40},{"x":20,"y":44}]]'
    back = parse_trajectory(one.to_track_json(9), 64, 48)
    assert np.abs(back.resample(9) - one.resample(9)).max() <= 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Point(math.nan, 0), "x must be a finite number, got nan"),
        (lambda: Point(0, math.inf), "y must be a finite number, got inf"),
        (lambda: Point(10**400, 0), "x must be a finite number, got inf"),
        (lambda: Point("1", 0), "x must be a number, got '1'"),
        (lambda: Point(True, 0), "x must be a number, got True"),
        (lambda: Point(0, 0, 1.5), r"t must be between 0 \(first frame\) and 1 \(last frame\), got 1.5"),
        (lambda: path(), "path 'gripper' must have at least 2 points, got 0"),
        (
            lambda: path((1, 2)),
            "must have at least 2 points, got 1 .to hold still, give the same position at two times",
        ),
        (lambda: path((1, 2), (3, 4, 5, 6)), r"each point must be \(x, y\) or \(x, y, t\)"),
        (lambda: path((0, 0), (1, 1), interpolation="bezier"), "must be one of spline, polyline, got 'bezier'"),
        (lambda: path((0, 0, 0.5), (1, 1), (2, 2, 0.5)), "got t=0.5 at point 3 after t=0.5 at point 1"),
        (lambda: path((0, 0, 0.5), (1, 1, 0.4)), "times must strictly increase, got t=0.4 at point 2 after t=0.5"),
        (lambda: path((0, 0), (1, 1, 0.0)), "point 2 has t=0, which leaves no time for the points before it"),
        (lambda: path((0, 0, 1.0), (1, 1)), "point 1 has t=1, which leaves no time for the points after it"),
        (lambda: DrawnPath(3, (Point(0, 0), Point(1, 1))), "path name must be text, got 3"),
        (lambda: Trajectory(64, 48, ()), "must have at least one path, got none"),
        (lambda: Trajectory(0, 48, (path((0, 0), (1, 1)),)), "trajectory width must be a whole number of at least 1"),
        (lambda: trajectory((0, 0), (1, 1)).clipped("wrap"), "clip rule must be one of error, clamp, cut, got 'wrap'"),
        (lambda: path((0, 0), (1, 1)).resample(0), "number of samples must be a whole number of at least 1, got 0"),
        (lambda: path((0, 0), (1, 1)).resample(3, by="speed"), "by must be one of time, arc, got 'speed'"),
        (lambda: path((0, 0), (1, 1)).curve(1), "samples must be a whole number of at least 2, got 1"),
        (lambda: trajectory((0, 0), (1, 1)).scaled(0, 5), "trajectory width must be a whole number"),
    ],
)
def test_errors(make, message):
    with pytest.raises(TrajectoryError, match=message):
        make()

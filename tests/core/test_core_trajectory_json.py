"""Reading trajectories: version 1, the forms of other packs, and what is neither."""

import json

import pytest

from visual_planner.errors import TrajectoryError
from visual_planner.trajectory.parse import parse_trajectory
from visual_planner.trajectory.path import DrawnPath, Point
from visual_planner.trajectory.trajectory import Trajectory

V1 = {
    "version": 1,
    "width": 64,
    "height": 48,
    "paths": [{"name": "gripper", "points": [{"x": 1, "y": 2, "t": 0}, {"x": 3.5, "y": 4}], "interpolation": "spline"}],
}


def v1(**changes):
    return {**V1, **changes}


def v1_path(**changes):
    return v1(paths=[{**V1["paths"][0], **changes}])


def test_version_1():
    expected = Trajectory(64, 48, (DrawnPath("gripper", (Point(1, 2, 0), Point(3.5, 4)), "spline"),))
    for source in (V1, json.dumps(V1), json.dumps(V1).encode(), expected):
        assert parse_trajectory(source) == expected


def test_the_records_own_size_wins():
    assert parse_trajectory(V1, 640, 480).width == 64
    sizeless = {key: V1[key] for key in ("version", "paths")}
    assert parse_trajectory(sizeless, 640, 480).height == 480


def test_name_and_interpolation_have_defaults():
    points = [{"x": 1, "y": 2}, {"x": 3, "y": 4}]
    read = parse_trajectory(v1(paths=[{"points": points}, {"points": points}]))
    assert [(p.name, p.interpolation) for p in read.paths] == [("gripper", "spline"), ("path 2", "spline")]


@pytest.mark.parametrize(
    "track",
    [
        [{"x": 12, "y": 30}, {"x": 20, "y": 30}, {"x": 60, "y": 30}],
        [[12, 30], [20, 30], [60, 30]],
        [[[12, 30], [20, 30], [60, 30]]],
        [[{"x": 12, "y": 30, "visible": True}, {"x": 20, "y": 30}, {"x": 60, "y": 30}]],
    ],
)
def test_a_track_of_another_pack_is_one_place_per_step_of_time(track):
    for source in (track, json.dumps(track)):
        read = parse_trajectory(source, 64, 48)
        assert (read.width, read.height, len(read.paths)) == (64, 48, 1)
        assert read.paths[0].interpolation == "polyline"
        assert read.resample(3)[:, 0].tolist() == [[12, 30], [20, 30], [60, 30]]


def test_several_tracks():
    read = parse_trajectory([[{"x": 1, "y": 1}, {"x": 2, "y": 2}], [{"x": 3, "y": 3}, {"x": 4, "y": 4}]], 64, 48)
    assert [path.name for path in read.paths] == ["gripper", "path 2"]


def test_tracks_with_times():
    read = parse_trajectory([[5, 5, 0.0], [9, 5, 0.2], [9, 9, 1.0]], 64, 48)
    assert read.paths[0].times().tolist() == [0.0, 0.2, 1.0]


def test_kjnodes_editor_state():
    handles = {"h1x": 0, "h1y": 1, "h2x": 2, "h2y": 3}
    store = [
        {
            "points": [{"x": 0, "y": 40}, {"x": 20, "y": 5, **handles}, {"x": 60, "y": 0}],
            "color": "#1f77b4",
            "name": "S 1",
        },
        {"points": [{"x": 7, "y": 8}], "color": "#ff7f0e", "isSinglePoint": True},
    ]
    read = parse_trajectory(json.dumps(store), 64, 48)
    assert [(path.name, path.interpolation) for path in read.paths] == [("S 1", "spline"), ("path 2", "spline")]
    assert [point.t for point in read.paths[0].points] == [None] * 3
    assert read.paths[1].resample(3).tolist() == [[7, 8]] * 3


@pytest.mark.parametrize("text", ["", "  \n ", b""])
def test_empty_text(text):
    with pytest.raises(TrajectoryError, match="must be trajectory JSON v1 .* or a list of .* got empty text"):
        parse_trajectory(text, 64, 48)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[{"x": 1, "y": 2}', "line 1 column 18"),
        ('{"version": 1,\n "width": 64,\n "height": }', "line 3 column 12"),
        ("trajectory", "line 1 column 1"),
        ("[] []", "line 1 column 4"),
    ],
)
def test_malformed_json_says_where(text, where):
    with pytest.raises(TrajectoryError, match=f"must be JSON, but {where} cannot be read: .") as caught:
        parse_trajectory(text, 64, 48)
    assert "\n" not in str(caught.value)


def test_hostile_text():
    with pytest.raises(TrajectoryError, match="must be nested at most 64 deep, got more"):
        parse_trajectory("[" * 100_000)
    with pytest.raises(TrajectoryError, match="must be UTF-8 text, got byte 0xff at 1"):
        parse_trajectory(b"[\xff]")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (v1(version=2), '"version" must be 1, got 2'),
        (v1(version=True), '"version" must be 1, got True'),
        ({"paths": V1["paths"]}, '"version" must be 1, got None'),
        (v1(paths=[]), '"paths" must be a list of at least one path, got \\[\\]'),
        (v1(paths=None), '"paths" must be a list of at least one path, got None'),
        (v1(paths=[3]), 'path 1 must be an object with "points", got 3'),
        (v1(fps=8), "trajectory has unknown keys: fps; known are version, width, height, paths"),
        (v1(width=None), '"width" and a "height", the size of its frame in pixels'),
        (v1(width=64.5), "trajectory width must be a whole number of at least 1, got 64.5"),
        (v1_path(interpolatoin="spline"), "trajectory path 1 has unknown keys: interpolatoin; known are name, points"),
        (v1_path(interpolation="curve"), "interpolation must be one of spline, polyline, got 'curve'"),
        (v1_path(points=[]), "path 'gripper' must have at least 2 points, got 0"),
        (v1_path(points=[{"x": 1, "y": 2}]), "path 'gripper' must have at least 2 points, got 1"),
        (v1_path(points="1,2"), "path 'gripper': \"points\" must be a list of points, got '1,2'"),
        (v1_path(points=[{"x": 1, "y": 2}, {"x": 1}]), "path 'gripper', point 2: .* got one without y"),
        (v1_path(points=[{"x": 1, "y": 2, "time": 0}]), "path 'gripper', point 1: a point has unknown keys: time"),
        (v1_path(points=[[1, 2], [3, 4]]), "path 'gripper', point 1: a point must be .* got \\[1, 2\\]"),
        (v1_path(points=[{"x": float("nan"), "y": 2}]), "path 'gripper', point 1: x must be a finite number, got nan"),
        (v1_path(points=[{"x": 1, "y": None}]), "path 'gripper', point 1: y must be a number, got None"),
        (v1_path(points=[{"x": 1, "y": 2, "t": -1}]), "path 'gripper', point 1: t must be between 0"),
        ({"positive": [], "negative": []}, "got the positive and negative points of a points editor"),
        ([], "at least one path, got an empty list"),
        ([[]], "path 'gripper' must have at least 2 points, got 0"),
        ([{"x": 1, "y": 2}], "path 'gripper' must have at least 2 points, got 1"),
        ([{"x": 1, "y": 2}, 5], "path 'gripper', point 2: a point must be .* got 5"),
        ([{"x": "1", "y": 2}, {"x": 1, "y": 2}], "path 'gripper', point 1: x must be a number, got '1'"),
        ([[1, 2, 3, 4], [1, 2]], r"path 'gripper', point 1: a point must be .* got \[1, 2, 3, 4\]"),
        ([1, 2, 3], "got a list that starts with 1"),
        ([[[1, 2], [3, 4]], 5], r"got a list that starts with \[\[1, 2\], \[3, 4\]\]"),
        (7, "must be trajectory JSON v1 .* got int"),
        (None, "must be trajectory JSON v1 .* got NoneType"),
        ("null", "must be trajectory JSON v1 .* got NoneType"),
    ],
)
def test_what_is_no_trajectory_is_refused(source, message):
    with pytest.raises(TrajectoryError, match=message) as caught:
        parse_trajectory(source, *() if isinstance(source, dict) and "width" in source else (64, 48))
    assert "\n" not in str(caught.value)


def test_nan_in_text_is_named():
    with pytest.raises(TrajectoryError, match="path 'gripper', point 2: x must be a finite number, got nan"):
        parse_trajectory('[{"x": 1, "y": 2}, {"x": NaN, "y": 2}]', 64, 48)


def test_a_form_without_a_size_needs_one():
    with pytest.raises(TrajectoryError, match="does not define its frame size: width and height must be given"):
        parse_trajectory([[1, 2], [3, 4]])

"""What other packs and tools write, read to the points that went in; see fixtures/peers/README.md for its origin.

The points that went in are stated here; the files were written by the peers' own code when these points were drawn
or given to it.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from visual_planner.errors import TrajectoryError
from visual_planner.trajectory.interchange import read_cvat, read_text, write_points_store
from visual_planner.trajectory.path import DrawnPath
from visual_planner.trajectory.trajectory import Trajectory

PEERS = Path(__file__).resolve().parents[1] / "fixtures" / "peers"
SIZE = (640, 480)
FIRST = [(40, 400), (200, 120), (560, 80), (600, 300)]
SECOND = [(100, 100), (150, 300), (325, 360), (500, 420)]
STILL = (420, 200)
DRAWN = 1e-3  # a mouse that stands on a place, in the spline editor's floats [px]
SAMPLED = 1.0  # SVG's own measure of a path's length, which the browser rounds [px]
ROUNDED = 0.5 + SAMPLED


def text(name: str) -> str:
    return (PEERS / name).read_text(encoding="utf-8")


def read(name: str, width: int = SIZE[0], height: int = SIZE[1]) -> Trajectory:
    return read_text(text(name), width, height)


def places(path: DrawnPath) -> np.ndarray:
    return np.array([(point.x, point.y) for point in path.points])


def assert_near(path: DrawnPath, expected, tolerance: float) -> None:
    assert places(path).shape == np.shape(expected)
    assert np.abs(places(path) - np.array(expected)).max() <= tolerance


def along(points, count: int) -> np.ndarray:
    """Places evenly along straight lines through points, computed apart from the code under test."""
    points = np.array(points, float)
    way = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    wanted = np.linspace(0, way[-1], count)
    return np.stack([np.interp(wanted, way, points[:, axis]) for axis in (0, 1)], axis=1)


def test_every_file_is_read_here():
    source = Path(__file__).read_text(encoding="utf-8")
    names = sorted(file.name for file in PEERS.iterdir() if file.name != "README.md")
    assert len(names) >= 16
    assert [name for name in names if f'"{name}"' not in source or f"`{name}`" not in text("README.md")] == []


def test_spline_editors_state():
    (path,) = read("kjnodes_spline_points_store.json").paths
    assert_near(path, FIRST, DRAWN)
    assert (path.name, path.interpolation) == ("Spline 1", "spline")
    three = read("kjnodes_splines_points_store.json").paths
    assert [path.name for path in three] == ["Spline 1", "Spline 2", "Spline 3"]
    for path, points in zip(three, (FIRST, SECOND, [STILL, STILL]), strict=True):
        assert_near(path, points, DRAWN)


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("kjnodes_spline_coordinates.json", SAMPLED), ("kjnodes_spline_coord_str.json", ROUNDED)],
)
def test_spline_editors_samples_of_one_path(name, tolerance):
    (path,) = read(name).paths
    assert_near(path, along(FIRST, 9), tolerance)
    assert path.times().tolist() == pytest.approx(np.linspace(0, 1, 9).tolist())


def test_spline_editors_samples_of_several_paths():
    paths = read("kjnodes_splines_coord_str.json").paths
    for path, points in zip(paths, (FIRST, SECOND, [STILL, STILL]), strict=True):
        assert_near(path, along(points, 9), ROUNDED)
    curves = read("kjnodes_splines_coordinates.json").paths  # of its Bezier curves, which go through the points' ends
    for path, points in zip(curves, (FIRST, SECOND, [STILL, STILL]), strict=True):
        assert len(path.points) == 9
        assert np.abs(places(path)[[0, -1]] - np.array([points[0], points[-1]])).max() <= SAMPLED


def test_spline_editors_control_points_as_samples():
    paths = read("kjnodes_splines_controlpoints.json").paths
    for path, points in zip(paths, (FIRST, SECOND, [STILL, STILL]), strict=True):
        assert_near(path, points, DRAWN)


def test_pythons_quotes():
    (path,) = read("kjnodes_interpolated.txt").paths
    assert_near(path, along([(40, 400), (200, 120), (560, 80)], 5), 0.5)


def test_normalised_coordinates_with_sizes():
    source = text("kjnodes_points_normalised.json")
    expected = np.array([(256, 256), (64, 448), (256, 128), (480, 96)])
    (path,) = read_text(source, 512, 512, normalised=True).paths
    assert_near(path, expected, 0.5)
    (wide,) = read_text(source, 1024, 256, normalised=True).paths
    assert_near(wide, expected * (2, 0.5), 1.0)
    with pytest.raises(TrajectoryError, match="need the size of the frame"):
        read_text(source, normalised=True)


def test_a_schedules_values_are_no_places():
    """KJNodes' `normalized_str` is 1 - x / height, 1 - y / height: not a share of the frame."""
    with pytest.raises(TrajectoryError, match=r"between 0 and 1, got \(-0.160417, 0.833333\)"):
        read_text(text("kjnodes_splines_normalized_str.json"), *SIZE, normalised=True)


def test_points_of_a_points_editor_are_no_path():
    with pytest.raises(TrajectoryError, match="positive and negative points of a points editor"):
        read("kjnodes_points_store.json")


def test_trajectory_editor_of_ati():
    drawn, still = read("ati_editor_tracks.json", 1280, 960).paths
    edge = 2.0  # its canvas counts its own border: one of 800 pixels for 1280 of the picture
    assert_near(drawn, [*along([(80, 800), (400, 240)], 11), *along([(400, 240), (1120, 160)], 11)[1:]], edge)
    assert_near(still, [(840, 400)] * 9, edge)
    assert still.length == 0


def test_path_animator():
    paths = read("fill_nodes_coordinates.json").paths
    for path, points in zip(paths, ([(40, 400), (200, 120), (560, 80)], [STILL, STILL]), strict=True):
        assert_near(path, along(points, 121), 0.5)


FOLLOWED = [[(600 - 50 * t, 60 + 10 * t) for t in range(9)], [(40 + 30 * t, 400 - 20 * t) for t in range(9)]]


def test_tracks_as_a_list_of_texts():
    first, second = read("cotracker_tracks.json").paths
    stays = FOLLOWED[0][:5] + FOLLOWED[0][4:5] + FOLLOWED[0][6:]  # not seen at 5: it writes the place before
    assert_near(first, stays, 0)
    assert_near(second, [(40, 400), (40, 400), *FOLLOWED[1][2:]], 0)


def test_a_point_that_is_not_seen_is_left_out_at_its_time():
    first, second = read("cotracker_tracks_backward.json").paths
    assert_near(first, FOLLOWED[0][:5] + FOLLOWED[0][6:], 0)
    assert_near(second, FOLLOWED[1][2:], 0)
    assert first.times().tolist() == [t / 8 for t in range(9) if t != 5]
    assert second.times().tolist() == [t / 8 for t in range(2, 9)]
    with pytest.raises(TrajectoryError, match=r"path 'gripper' must have a visible point"):
        read_text('["[{\\"x\\": -100, \\"y\\": -100}, {\\"x\\": -100, \\"y\\": -100}]"]', *SIZE)


GRIPPER, CUBE = [(40, 400), (200.25, 120.5), (560, 80.12)], [(100, 100), (150, 300)]


@pytest.mark.parametrize("name", ["cvat_images.xml", "cvat_video.xml"])
def test_cvat(name):
    found = read_cvat(text(name))
    assert (found.width, found.height) == SIZE
    assert [path.name for path in found.paths] == ["gripper", "cube"]
    for path, points in zip(found.paths, (GRIPPER, CUBE), strict=True):
        assert_near(path, points, 0)
    assert read_text(text(name)) == found


NO_PATHS = ("kjnodes_points_store.json", "kjnodes_points_normalised.json", "kjnodes_splines_normalized_str.json")
JSON_FILES = sorted(file.name for file in PEERS.glob("*.json") if file.name not in NO_PATHS)


def test_truncated_files_say_where():
    assert len(JSON_FILES) >= 9
    for name in JSON_FILES:
        source = text(name)
        for cut in (1, len(source) // 2, len(source) - 1):
            with pytest.raises(TrajectoryError, match=r"must be JSON, but line 1 column \d+ cannot be read") as caught:
                read_text(source[:cut], *SIZE)
            assert "\n" not in str(caught.value), name
    for name in ("cvat_images.xml", "cvat_video.xml"):
        with pytest.raises(TrajectoryError, match=r"must be XML, but line \d+ column \d+ cannot be read"):
            read_text(text(name)[:-30])


def broken(record: object, value: object) -> object:
    """The record with the last number called x in it replaced."""
    if isinstance(record, str):
        return json.dumps(broken(json.loads(record), value))
    if isinstance(record, dict) and "x" in record:
        return record | {"x": value}
    if isinstance(record, dict):
        key = "points" if "points" in record else "tracks"
        return record | {key: broken(record[key], value)}
    return [*record[:-1], broken(record[-1], value)]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("12", r"x must be a number, got '12'"),
        (None, "x must be a number, got None"),
        (True, "x must be a number, got True"),
        ({"a": 1}, "x must be a number, got {'a': 1}"),
        (float("nan"), "x must be a finite number, got nan"),
        (float("inf"), "x must be a finite number, got inf"),
    ],
)
def test_a_wrong_value_is_named_with_its_path_and_point(value, message):
    for name in JSON_FILES:
        with pytest.raises(TrajectoryError, match=rf"^path '.+', point \d+: {message}") as caught:
            read_text(json.dumps(broken(json.loads(text(name)), value)), *SIZE)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "got empty text"),
        ("[]", "at least one path, got an empty list"),
        ("[[]]", "at least 2 points, got 0"),
        ('[{"points": []}]', "at least 2 points, got 0"),
        ('{"tracks": [], "circle_trajectories": []}', "at least one path, got an empty list"),
        ('{"tracks": [], "circle_trajectories": {}}', '"circle_trajectories" must be a list of tracks, got {}'),
        ('{"tracks": 5}', "trajectory has unknown keys: tracks"),
        ('["[[1, 2], [3, 4]]", "[[1, 2], [3,"]', "track 2 must be JSON, but line 1 column 13 cannot be read"),
        ('["[[1, 2], [3, 4]]", "7"]', "trajectory must be .* got a list that starts with"),
    ],
)
def test_empty_and_odd_variants(source, message):
    with pytest.raises(TrajectoryError, match=message) as caught:
        read_text(source, *SIZE)
    assert "\n" not in str(caught.value)


OURS = Trajectory(
    *SIZE,
    (DrawnPath.from_array(FIRST, "gripper", "spline"), DrawnPath.from_array([(*STILL, 0), (*STILL, 1)], "cube")),
)


def test_the_exported_forms_are_those_that_the_peers_have_read():
    """The peers' own readers were given texts of these forms (see the README there)."""
    assert write_points_store(OURS) == (
        '[{"points":[{"x":40.0,"y":400.0},{"x":200.0,"y":120.0},{"x":560.0,"y":80.0},{"x":600.0,"y":300.0}],'
        '"color":"#1f77b4","name":"gripper"},'
        '{"points":[{"x":420.0,"y":200.0}],"color":"#ff7f0e","name":"cube","isSinglePoint":true}]'
    )
    assert OURS.to_track_json(3) == (
        '[[{"x":40,"y":400},{"x":329,"y":71},{"x":600,"y":300}],'
        '[{"x":420,"y":200},{"x":420,"y":200},{"x":420,"y":200}]]'
    )
    one = Trajectory(*SIZE, OURS.paths[:1]).to_track_json(2)
    assert one == '[{"x":40,"y":400},{"x":600,"y":300}]'

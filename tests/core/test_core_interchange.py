"""Trajectories from and for other tools: laws, and texts in the tools' own forms."""

import json

import cv2
import numpy as np
import pytest
import torch

from visual_planner.errors import ImageError, TrajectoryError
from visual_planner.trajectory.interchange import (
    read_cvat,
    read_text,
    read_track_tensors,
    write_points_store,
    write_track_tensors,
)
from visual_planner.trajectory.overlay import draw_overlay
from visual_planner.trajectory.path import DrawnPath, Point
from visual_planner.trajectory.stroke import STROKE_STARTS, read_stroke
from visual_planner.trajectory.tracking import track_points
from visual_planner.trajectory.trajectory import Trajectory

PATHS = Trajectory(
    640,
    480,
    (
        DrawnPath.from_array([(10, 20, 0), (300, 200, 0.3), (600, 400, 1)], "gripper", "spline"),
        DrawnPath.from_array([(50, 50, 0), (50, 50, 1)], "cube"),
    ),
)


def test_tensors_there_and_back():
    tensors = write_track_tensors(PATHS, 31)
    assert tensors["track_path"].shape == (31, 2, 2) and tensors["track_path"].dtype == torch.float32
    assert tensors["track_visibility"].all()
    back = read_track_tensors(tensors, 640, 480)
    assert np.allclose(back.resample(31), PATHS.resample(31), atol=1e-3)


def test_what_is_not_visible_is_left_out():
    places = np.stack([np.arange(5.0), np.zeros(5)], axis=1)[:, None].repeat(2, axis=1)
    seen = np.ones((5, 2), bool)
    seen[2, 0], seen[1:, 1] = False, False
    read = read_track_tensors({"track_path": torch.tensor(places), "track_visibility": torch.tensor(seen)}, 10, 10)
    assert [path.name for path in read.paths] == ["gripper"]
    assert read.paths[0].times().tolist() == [0, 0.25, 0.75, 1]


@pytest.mark.parametrize(
    ("tracks", "message"),
    [
        (np.zeros((5, 2)), r"must have shape \(frames, points, 2\)"),
        (np.zeros((1, 1, 2)), "at least 2 frames"),
        ({"points": 1}, 'must have a "track_path", got points'),
        ({"track_path": np.zeros((3, 1, 2)), "track_visibility": np.ones((2, 1))}, r"must have shape \(3, 1\)"),
        ({"track_path": np.zeros((3, 1, 2)), "track_visibility": np.zeros((3, 1))}, "visible in at least 2 frames"),
        (np.full((3, 1, 2), np.nan), "finite"),
    ],
)
def test_bad_tensors_are_refused(tracks, message):
    with pytest.raises(TrajectoryError, match=message):
        read_track_tensors(tracks, 10, 10)


def test_normalised_coordinates():
    read = read_text('[{"x": 0, "y": 0.5}, {"x": 1, "y": 0.25}]', 640, 480, normalised=True)
    assert [(p.x, p.y) for p in read.paths[0].points] == [(0, 240), (640, 120)]
    with pytest.raises(TrajectoryError, match=r"between 0 and 1, got \(12, 340\): are these pixels"):
        read_text('[{"x": 12, "y": 340}, {"x": 1, "y": 1}]', 640, 480, normalised=True)
    with pytest.raises(TrajectoryError, match="need the size of the frame"):
        read_text("[[0, 0], [1, 1]]", normalised=True)


def test_tracks_with_pythons_quotes():
    assert read_text("[{'x': 1, 'y': 2}, {'x': 3, 'y': 4}]", 64, 64).paths[0].points[1] == Point(3, 4, 1.0)
    with pytest.raises(TrajectoryError, match="line 1 column 10"):
        read_text("[{'x': 1 'y': 2}]", 64, 64)


def test_points_store_keeps_the_control_points():
    store = json.loads(write_points_store(PATHS))
    assert [spline["name"] for spline in store] == ["gripper", "cube"]
    assert store[1]["isSinglePoint"] is True and len(store[1]["points"]) == 1
    back = read_text(json.dumps(store), 640, 480)
    assert [(p.x, p.y) for p in back.paths[0].points] == [(10, 20), (300, 200), (600, 400)]
    assert back.paths[1].length == 0


CVAT_IMAGES = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><size>2</size></task></meta>
  <image id="0" name="a.png" width="640" height="480">
    <polyline label="gripper" source="manual" occluded="0" points="100.5,120.00;200,240.25;300,60" z_order="0"/>
    <polyline label="cube" points="10,20;30,40"/>
  </image>
  <image id="1" name="b.png" width="100" height="100"><polyline label="later" points="1,2;3,4"/></image>
</annotations>"""
CVAT_VIDEO = """<annotations>
  <meta><task><original_size><width>320</width><height>200</height></original_size></task></meta>
  <track id="0" label="gripper"><polyline frame="0" points="1,2;3,4"/><polyline frame="1" points="5,6;7,8"/></track>
  <track id="1" label="cube"><polyline frame="3" points="9,9;8,8"/></track></annotations>"""


def test_cvat():
    images = read_cvat(CVAT_IMAGES)
    assert (images.width, images.height) == (640, 480)
    assert {path.name: [(p.x, p.y) for p in path.points] for path in images.paths} == {
        "gripper": [(100.5, 120), (200, 240.25), (300, 60)],
        "cube": [(10, 20), (30, 40)],
    }
    assert read_text(CVAT_IMAGES) == images
    video = read_cvat(CVAT_VIDEO)
    assert (video.width, video.height) == (320, 200)
    assert [(path.name, path.points[0].x) for path in video.paths] == [("gripper", 1), ("cube", 9)]


BOMB = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><annotations>&b;</annotations>'


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (BOMB, "must not have a document type or entities"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "must not have a document type"),
        ("<annotations><image", "line 1 column"),
        ("<annotations/>", "must say the size"),
        ('<a><image width="5" height="5"/></a>', "must hold a polyline"),
        ('<a><image width="5" height="x"/></a>', "image height must be a positive whole number of pixels, got 'x'"),
        ('<a><image width="5" height="5"><polyline label="g" points="1,2;3"/></image></a>', "point 2 must be x,y"),
        ('<a><image width="5" height="5"><polyline label="g" points="1,2"/></image></a>', "at least 2 points"),
    ],
)
def test_bad_cvat_says_what_and_where(xml, message):
    with pytest.raises(TrajectoryError, match=message):
        read_cvat(xml)


def stroke(points, size=(120, 160), thickness=9):
    mask = np.zeros(size, np.float32)
    cv2.polylines(mask, [np.array(points, np.int32)], False, 1.0, thickness)
    return mask


@pytest.mark.parametrize("start", STROKE_STARTS)
def test_a_stroke_becomes_its_middle_line(start):
    drawn = [(20, 20), (60, 90), (140, 100)]
    path = read_stroke(torch.from_numpy(stroke(drawn))[None], start).paths[0]
    places = path.resample(200, "arc")
    true = DrawnPath.from_array(drawn).resample(200, "arc") + 0.5
    if start in ("right", "bottom"):
        true = true[::-1]
    distance = np.hypot(*(places[:, None] - true[None]).transpose(2, 0, 1)).min(axis=1)
    assert distance.mean() < 1.0 and distance.max() < 4.0
    assert np.hypot(*(places[0] - true[0])) < 8.0, "it begins at the end that was asked for"


def test_a_spot_and_a_blot_do_not_count():
    mask = stroke([(20, 20), (140, 100)])
    mask[100, 10] = 1.0
    assert read_stroke(mask).paths[0].length > 100
    for empty in (np.zeros((20, 20)), np.eye(1)):
        with pytest.raises(TrajectoryError, match="longer than one pixel"):
            read_stroke(empty)
    with pytest.raises(TrajectoryError, match="one stroke at a time"):
        read_stroke(np.zeros((2, 20, 20)))


def moving_video(shift=(3.0, 1.5), frames=8, size=(96, 128)):
    """A textured patch that moves over a smooth background; (T, h, w, 3)."""
    random = np.random.default_rng(2)
    texture = cv2.GaussianBlur(random.random(size).astype(np.float32), (0, 0), 2)
    texture = (texture - texture.min()) / (texture.max() - texture.min())
    video = []
    for t in range(frames):
        matrix = np.float32([[1, 0, shift[0] * t], [0, 1, shift[1] * t]])
        video.append(cv2.warpAffine(texture, matrix, size[::-1], borderMode=cv2.BORDER_REFLECT))
    return torch.from_numpy(np.stack(video))[..., None].repeat(1, 1, 1, 3)


def at(x, y, size=(128, 96)):
    return Trajectory(*size, (DrawnPath.from_array([(x, y), (x + 1, y)], "gripper"),))


def test_points_are_followed():
    tracked, found = track_points(moving_video(), at(50, 40))
    assert found.all()
    expected = np.array([[50 + 3 * t, 40 + 1.5 * t] for t in range(8)])
    assert np.abs(tracked.resample(8)[:, 0] - expected).max() < 0.3


def test_a_lost_point_ends_its_path():
    video = moving_video()
    video[4:] = torch.rand(video[4:].shape, generator=torch.Generator().manual_seed(0))
    tracked, found = track_points(video, at(50, 40))
    assert found[:, 0].tolist() == [True] * 4 + [False] * 4
    assert tracked.paths[0].times()[-1] == pytest.approx(3 / 7)
    with pytest.raises(TrajectoryError, match=r"'gripper': its point at \(50, 40\) is lost immediately; start on"):
        track_points(video[3:], at(50, 40))
    with pytest.raises(ImageError, match="at least 2 pictures"):
        track_points(video[:1], at(50, 40))
    with pytest.raises(TrajectoryError, match="more than 0 px"):
        track_points(video, at(50, 40), 0.0)


def test_a_drawn_path_can_be_traced_back():
    """Overlay -> mask of what was drawn -> stroke: the same curve."""
    path = Trajectory(200, 150, (DrawnPath.from_array([(20, 30), (90, 120), (180, 60)], "gripper", "spline"),))
    drawn = draw_overlay(np.zeros((150, 200, 3), np.float32), path, thickness=5.0)
    traced = read_stroke(drawn.max(axis=2), "left", 0.5).paths[0]
    true = path.paths[0].resample(100, "arc")
    distance = np.hypot(*(traced.resample(100, "arc")[:, None] - true[None]).transpose(2, 0, 1)).min(axis=1)
    assert distance.mean() < 1.0


PROJECT = """<annotations><meta><project><tasks>
  <task><id>4</id><original_size><width>64</width><height>48</height></original_size></task>
  <task><id>5</id></task></tasks></project></meta>{shapes}</annotations>"""
TRACK = '<track id="{0}" label="a"{1}><polyline frame="0" points="1,2;3,4"/></track>'
IMAGE = '<image id="{0}" width="64" height="48"{1}><polyline label="a" points="1,2;3,4"/></image>'


@pytest.mark.parametrize("shape", [TRACK, IMAGE])
@pytest.mark.parametrize(
    ("tasks", "message"), [((4, 5), "tasks 4, 5"), ((4, 5, 4), "tasks 4, 5"), ((4, None), "tasks 4, None")]
)
def test_the_export_of_a_project_is_not_mixed_up(shape, tasks, message):
    """Shapes of other tasks belong to other videos, and nothing says which one is meant."""
    shapes = [shape.format(n, f' task_id="{task}"' if task else "") for n, task in enumerate(tasks)]
    with pytest.raises(TrajectoryError, match=f"must be the export of one task, got shapes of {message}"):
        read_cvat(PROJECT.format(shapes="".join(shapes)))
    one = read_cvat(PROJECT.format(shapes=shapes[0] + shapes[0]))
    assert (one.width, one.height) == (64, 48) and [(p.x, p.y) for p in one.paths[0].points] == [(1, 2), (3, 4)]

"""Nothing small costs much: bounds on trajectories, strokes, annotations and crops; else results are as before."""

import json
import tracemalloc

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visual_planner.errors import TrajectoryError
from visual_planner.grid.frame import fit_frame
from visual_planner.trajectory import stroke
from visual_planner.trajectory.curves import cut_to_frame
from visual_planner.trajectory.interchange import read_cvat
from visual_planner.trajectory.parse import parse_trajectory
from visual_planner.trajectory.path import MAX_POINTS, DrawnPath
from visual_planner.trajectory.trajectory import Trajectory


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 10**400}, "trajectory width must be at most 1048576, got"),
        ({"height": 2**63}, "trajectory height must be at most 1048576, got 9223372036854775808"),
        ({"paths": [{"points": [{"x": 1e308, "y": 0}, {"x": 0, "y": 0}]}]}, "x and y must be at most 1e\\+12 px"),
        ({"paths": [{"points": [{"x": 10**400, "y": 0}, {"x": 0, "y": 0}]}]}, "x must be a finite number"),
        ({"paths": [{"points": [{"x": 1, "y": 0}] * (MAX_POINTS + 1)}]}, "must have at most 100000 points, got 100001"),
        ({"paths": [{"points": [{"x": 1, "y": 0}, {"x": 2, "y": 0}]}] * 5000}, "at most 4096 paths and 100000 points"),
    ],
)  # fmt: skip
def test_a_trajectory_has_bounds(change, message):
    record = {"version": 1, "width": 64, "height": 48, "paths": [{"points": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}]}
    with pytest.raises(TrajectoryError, match=message) as caught:
        parse_trajectory(json.dumps({**record, **change}))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("rule", ["cut", "clamp"])
@pytest.mark.parametrize("smooth", ["spline", "polyline"])
def test_many_points_outside_the_frame_are_cut_at_once(rule, smooth):
    x, y = np.random.default_rng(0).uniform(-3, 4, (2, 60_000)) * 64
    path = DrawnPath.from_array(np.column_stack([x, y]).tolist(), "gripper", smooth)
    if rule == "clamp":
        assert len(Trajectory(64, 64, (path,)).clipped(rule).paths[0].points) == 60_000
        return
    with pytest.raises(TrajectoryError, match="must leave the frame at most 4096 times"):
        Trajectory(64, 64, (path,)).clipped(rule)


def _cut_one_by_one(points, times, width, height):
    """Liang-Barsky piece by piece, as the formula is written."""
    pieces, connected = [], False
    for start, end, t0, t1 in zip(points[:-1], points[1:], times[:-1], times[1:], strict=True):
        enter, leave = 0.0, 1.0
        for value, step, limit in ((start[0], end[0] - start[0], width), (start[1], end[1] - start[1], height)):
            if step == 0.0:
                if not 0.0 <= value <= limit:
                    leave = -1.0
                continue
            first, last = sorted(((0.0 - value) / step, (limit - value) / step))
            enter, leave = max(enter, first), min(leave, last)
        if not enter < leave:
            connected = False
            continue
        if not (connected and enter == 0.0):
            pieces.append(([start + enter * (end - start)], [t0 + enter * (t1 - t0)]))
        pieces[-1][0].append(end if leave == 1.0 else start + leave * (end - start))
        pieces[-1][1].append(t0 + leave * (t1 - t0))
        connected = leave == 1.0
    return [(np.clip(np.array(place), 0.0, [width, height]), np.array(moment)) for place, moment in pieces]


coordinate = st.floats(-40, 80) | st.sampled_from([0.0, -0.0, 30.0, 20.0, 10.0])


@given(st.lists(st.tuples(coordinate, coordinate), min_size=2, max_size=30))
def test_cutting_is_exact(places):
    points, times = np.array(places), np.linspace(0, 1, len(places))
    cut = cut_to_frame(points, times, 30, 20)
    with np.errstate(over="ignore"):
        wanted = _cut_one_by_one(points, times, 30, 20)
    assert len(cut) == len(wanted)
    for (place, moment), (wanted_place, wanted_moment) in zip(cut, wanted, strict=True):
        assert np.array_equal(place, wanted_place) and np.array_equal(moment, wanted_moment)


def _thinned_by_neighbours(mask):
    """Zhang and Suen's rules on eight shifted masks."""
    kept = np.pad(mask, 1)
    while True:
        before = kept.sum()
        for first in (True, False):
            shifts = ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))
            around = [np.roll(kept, shift, axis=(0, 1)) for shift in shifts]
            count = np.sum(around, axis=0)
            turns = np.sum([~a & b for a, b in zip(around, around[1:] + around[:1], strict=True)], axis=0)
            up, right, down, left = around[0], around[2], around[4], around[6]
            free = (
                ~(up & right & down) & ~(right & down & left) if first else ~(up & right & left) & ~(up & down & left)
            )
            kept = kept & ~((count >= 2) & (count <= 6) & (turns == 1) & free)
        if kept.sum() == before:
            return kept[1:-1, 1:-1]


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(1, 60), st.integers(0, 12))
def test_thinning_follows_the_rules(seed, height, width, thickness):
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    if thickness:
        cv2.polylines(mask, [rng.integers(-5, 65, (4, 2)).astype(np.int32)], False, 1, thickness)
    else:
        mask[:] = rng.random(mask.shape) < 0.5
    assert np.array_equal(stroke._thinned(mask.astype(bool)), _thinned_by_neighbours(mask.astype(bool)))


def test_a_wholly_painted_mask_and_noise_end():
    with pytest.raises(TrajectoryError, match="a stroke longer than one pixel"):
        stroke.read_stroke(np.ones((3000, 3000), np.uint8))
    sparse = np.random.default_rng(0).random((400, 400)) < 0.25  # thousands of specks
    assert len(stroke.read_stroke(sparse).paths[0].points) >= 2
    noise = np.random.default_rng(0).random((1500, 1500)) < 0.5
    with pytest.raises(TrajectoryError, match="mask must hold one stroke, got"):
        stroke.read_stroke(noise)
    with pytest.raises(TrajectoryError, match="sides of at most 16384 px"):
        stroke.read_stroke(np.zeros((1, 20_000), np.uint8))


def test_a_thick_stroke_of_a_large_mask_is_found():
    mask = np.zeros((3000, 3000), np.uint8)
    cv2.line(mask, (500, 500), (2500, 500), 1, 300)
    path = stroke.read_stroke(mask).paths[0].points
    assert abs(path[0].x - 500) < 200 and abs(path[-1].x - 2500) < 200
    assert all(abs(point.y - 500) < 20 for point in path)


CVAT = "<annotations><meta><original_size><width>{}</width><height>48</height></original_size></meta>{}</annotations>"
LINE = '<track label="gripper"><polyline frame="0" points="1,2;3,4"/></track>'


@pytest.mark.parametrize("filler", ["\n" * 10**6, "<![CDATA[" + "x" * 10**6 + "]]>", "<a>\n</a>" * 10**5])
def test_text_between_annotations_costs_nothing(filler):
    assert read_cvat(CVAT.format("64", filler + LINE)).width == 64


@pytest.mark.parametrize("width", ["x", "", "-3", "1e3", "9" * 5000, " " * 10**6, "6\n4"])
def test_a_size_that_is_no_number_is_refused(width):
    with pytest.raises(TrajectoryError, match="original_size width|trajectory width") as caught:
        read_cvat(CVAT.format(width, LINE))
    assert len(str(caught.value)) < 200


def test_half_a_surrogate_pair_is_no_xml():
    with pytest.raises(TrajectoryError, match="half a surrogate pair"):
        read_cvat(CVAT.format("64", "\ud800"))


@pytest.mark.parametrize("size", [(1, 16384), (16384, 1), (1, 5000), (3, 16384)])
def test_a_crop_of_a_narrow_picture_is_cut_before_it_is_resampled(size):
    picture = torch.full((*size, 3), 0.25)
    tracemalloc.start()
    cell = fit_frame(picture, 240, 320, "crop")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert cell.shape == (1, 240, 320, 3) and torch.allclose(cell, torch.tensor(0.25)) and peak < 2**24


def test_the_middle_of_a_narrow_picture_is_what_a_crop_shows():
    picture = torch.zeros(2, 9999, 3)
    picture[:, 4990:5010] = 1.0
    assert fit_frame(picture, 64, 64, "crop").min() > 0.99
    assert fit_frame(picture.permute(1, 0, 2), 64, 64, "crop").min() > 0.99


@pytest.mark.parametrize("size", [(48, 480), (480, 48), (90, 33)])
def test_an_ordinary_crop_is_resampled_whole(size):
    picture = torch.from_numpy(np.random.default_rng(0).random((*size, 3), np.float32))
    height, width = 32, 32
    scale = max(height / size[0], width / size[1])
    whole = (max(height, round(size[0] * scale)), max(width, round(size[1] * scale)))
    resampled = torch.nn.functional.interpolate(
        picture.permute(2, 0, 1)[None], size=whole, mode="bicubic", align_corners=False, antialias=True
    )[0].permute(1, 2, 0).clamp(0, 1)  # fmt: skip
    top, left = -((height - whole[0]) // 2), -((width - whole[1]) // 2)
    wanted = resampled[top : top + height, left : left + width]
    assert torch.equal(fit_frame(picture, height, width, "crop")[0], wanted)

"""Diagnostics: a sound plan passes, and each spoilt one fails the check that is meant for it."""

import numpy as np
import pytest
import torch

from visual_planner.checks.diagnostics import RULES, Report, diagnose, draw_report, judge
from visual_planner.errors import ImageError, TrajectoryError
from visual_planner.grid.cells import assemble_grid, slice_grid
from visual_planner.grid.layout import GridLayout

COUNT = 9


def hand_places(height: int = 64, width: int = 64) -> np.ndarray:
    """Where the hand is in each frame, (9, 2) [px]."""
    return np.stack([np.linspace(0.15, 0.8, COUNT) * width, np.linspace(0.2, 0.7, COUNT) * height], axis=1)


def plan(height: int = 64, width: int = 64) -> np.ndarray:
    """A still table with two things on it, and a hand on an arm that crosses it: (9, h, w, 3)."""
    ys, xs = np.mgrid[:height, :width] + 0.5
    unit = min(height, width)
    frames = np.empty((COUNT, height, width, 3), np.float32)
    for t, (x, y) in enumerate(hand_places(height, width)):
        frame = np.broadcast_to(np.array([0.85, 0.8, 0.7]), (height, width, 3)).copy()
        frame[np.hypot(xs - 0.3 * width, ys - 0.8 * height) < 0.08 * unit] = (0.8, 0.1, 0.1)
        frame[np.abs(xs - 0.7 * width) + np.abs(ys - 0.25 * height) < 0.1 * unit] = (0.1, 0.2, 0.8)
        frame[(np.abs(xs - x) < 0.05 * unit) & (ys < y)] = (0.15, 0.15, 0.18)
        frame[np.hypot(xs - x, ys - y) < 0.1 * unit] = (0.95, 0.5, 0.1)
        frames[t] = frame
    return frames


def failed(report: Report) -> set[str]:
    return {check.name for check in report.checks if not check.ok}


def in_grid(frames: np.ndarray, spoil) -> np.ndarray:
    """Frames after something was done to their grid."""
    grid = assemble_grid(torch.from_numpy(frames), GridLayout()).numpy().copy()
    spoil(grid[0])
    return slice_grid(torch.from_numpy(grid), GridLayout()).numpy()


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 64), (240, 320)])
def test_a_sound_plan_passes_every_check(height, width):
    frames = plan(height, width)
    report = diagnose(frames, frames[0], hand_places(height, width))
    assert report.ok, report.text()
    assert [check.name for check in report.checks] == ["static", "motion", "seams", "drift", "ghosting", "path"]


def test_noise_and_blur_of_a_codec_do_not_matter():
    rng = np.random.default_rng(0)
    frames = plan(64, 64)
    soft = (frames + np.roll(frames, 1, 1) + np.roll(frames, 1, 2) + np.roll(frames, -1, 1)) / 4
    soft[:, 0], soft[:, -1] = frames[:, 0], frames[:, -1]
    noisy = np.clip(soft + rng.normal(0, 0.02, frames.shape), 0, 1).astype(np.float32)
    assert not failed(diagnose(noisy, frames[0], hand_places()))


def test_a_static_grid_is_found_even_under_noise():
    rng = np.random.default_rng(0)
    frames = np.repeat(plan()[:1], COUNT, axis=0)
    noisy = np.clip(frames + rng.normal(0, 0.03, frames.shape), 0, 1).astype(np.float32)
    for still in (frames, noisy):
        report = diagnose(still, frames[0], hand_places())
        assert failed(report) == {"static", "motion", "path"}
    assert "the plan is static" in report.text()


@pytest.mark.parametrize("size", [(64, 64), (240, 320)])
def test_double_exposures_are_ghosts(size):
    frames = plan(*size)
    frames[4] = 0.5 * frames[3] + 0.5 * frames[5]
    assert failed(diagnose(frames, frames[0])) == {"ghosting"}


def test_a_faint_second_arm_is_a_ghost():
    frames = plan()
    other = plan()[7]
    arm = np.abs(other - np.median(plan(), axis=0)).max(-1, keepdims=True) > 0.15
    frames[6] = np.where(arm, 0.55 * frames[6] + 0.45 * other, frames[6])
    report = diagnose(frames)
    assert failed(report) == {"ghosting"}
    assert "of a frame's moving parts are half-transparent (at most 0.06)" in report.text()


def line_between_cells(grid):
    grid[:, 64] = 0.0


def band_under_a_cell(grid):
    grid[125:128] = grid[125:128] * 0.7


def line_in_the_first_cell(grid):
    grid[:64, 62] = 0.0


def strip_of_the_neighbour(grid):
    grid[64:67, :64] = np.random.default_rng(0).random((3, 64, 3))


@pytest.mark.parametrize("spoil", [line_between_cells, band_under_a_cell, strip_of_the_neighbour])
def test_seams_along_cells_are_found(spoil):
    assert "seams" in failed(diagnose(in_grid(plan(), spoil)))


def test_the_given_first_frame_tells_a_seam_in_the_first_cell():
    assert "seams" in failed(diagnose(in_grid(plan(), line_in_the_first_cell), plan()[0]))


def test_a_border_that_the_scene_has_itself_is_no_seam():
    frames = plan()
    frames[:, :2] = 0.1  # a dark edge in the first frame too
    frames[:, :, -1] = 0.3
    assert not failed(diagnose(frames, frames[0]))


def test_drift_of_the_first_cell():
    frames = plan()
    shifted = np.roll(frames, 4, axis=2)
    assert failed(diagnose(frames, shifted[0])) == {"drift"}
    assert failed(diagnose(frames, np.clip(frames[0] + 0.1, 0, 1))) == {"drift"}
    assert not failed(diagnose(frames, np.clip(frames[0] + 0.02, 0, 1)))


def test_leaving_the_asked_path():
    mirrored = hand_places() * [-1, 1] + [64, 0]
    assert failed(diagnose(plan(), None, mirrored)) == {"path"}
    assert not failed(diagnose(plan(), None, np.repeat(hand_places()[:1], COUNT, axis=0)))  # a hold asks for nothing
    two = np.stack([hand_places(), hand_places()], axis=1)
    assert not failed(diagnose(plan(), None, two))


def test_forms_of_frames():
    frames = plan()
    as_floats = diagnose(frames, frames[0]).as_dict()
    assert diagnose(torch.from_numpy(frames), torch.from_numpy(frames[:1])).as_dict() == as_floats
    as_bytes = diagnose(np.round(frames * 255).astype(np.uint8))
    assert as_bytes.ok and "drift" not in as_bytes.as_dict()["checks"]


def test_a_report_says_everything_in_numbers_and_words():
    report = diagnose(plan(), plan()[0], hand_places())
    record = report.as_dict()
    assert record["ok"] is True and set(record["checks"]) == set(RULES)
    for name, check in record["checks"].items():
        assert check["threshold"] == RULES[name].threshold and np.isfinite(check["value"])
        assert type(check["value"]) is float and type(check["ok"]) is bool
    lines = report.text().splitlines()
    assert len(lines) == 6 and all(line.startswith("ok   ") for line in lines)


@pytest.mark.parametrize("name", RULES)
def test_thresholds_belong_to_the_good_side(name):
    rule = RULES[name]
    beyond = rule.threshold * (0.99 if rule.bound == "at least" else 1.01)
    assert judge(name, rule.threshold).ok and not judge(name, beyond).ok
    assert f"({rule.bound} {rule.threshold:g})" in judge(name, beyond).message


@pytest.mark.parametrize(("count", "size"), [(9, (64, 64)), (4, (240, 320)), (25, (48, 32))])
def test_the_picture_shows_frames_in_order_and_verdicts(count, size):
    frames = np.stack([np.full((*size, 3), (k + 1) / (count + 2), np.float32) for k in range(count)])
    picture = draw_report(frames, diagnose(frames))
    assert picture.dtype == np.float32 and picture.ndim == 3 and picture.min() >= 0.0 and picture.max() == 1.0
    # Reading the sheet row by row meets the frames' grey levels in the order of time.
    levels = [round((k + 1) / (count + 2) * 255) for k in range(count)]
    shown = np.rint(picture * 255).astype(int)[..., 0]
    first = {level: np.argwhere(shown == level) for level in levels}
    areas = [len(first[level]) for level in levels]
    assert min(areas) >= size[0] * size[1]
    # The line that holds most pixels of a level runs through its frame, whatever the lettering's soft edges add.
    corners = [tuple(int(np.bincount(axis).argmax()) for axis in first[level].T) for level in levels]
    assert corners == sorted(corners)
    green, red = (picture[..., 1] - picture[..., 0]).max(), (picture[..., 0] - picture[..., 1]).max()
    assert red > 0.3 and green > 0.2  # some checks fail on grey cards, some pass


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((1, 64, 64, 3), np.float32),), ImageError, r"at least 2 pictures of at least 8 x 8 px, got shape"),
        ((np.zeros((9, 4, 64, 3), np.float32),), ImageError, r"at least 8 x 8 px, got shape \(9, 4, 64, 3\)"),
        ((plan(), plan(32, 32)[0]), ImageError, "frames' size, 64 high x 64 wide, got shape .32, 32, 3."),
        ((plan(), plan()), ImageError, "first_frame must be one picture of the frames' size"),
        ((plan(), None, np.zeros((8, 2))), TrajectoryError, r"of shape \(9, 2\) or \(9, paths, 2\), got \(8, 2\)"),
        ((plan(), None, np.full((9, 2), np.nan)), TrajectoryError, "trajectory_points must be finite"),
    ],
)
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        diagnose(*arguments)

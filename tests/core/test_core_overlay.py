"""Overlays: colours, place, smoothness, and the published arrows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visual_planner.errors import ImageError, TrajectoryError
from visual_planner.trajectory.overlay import ARROW_STYLES, OVERLAY_STYLES, arrow_ends, draw_overlay
from visual_planner.trajectory.path import DrawnPath
from visual_planner.trajectory.trajectory import Trajectory

RED, BLUE = [255, 0, 0], [0, 0, 255]


def trajectory(*points: tuple, size: tuple[int, int] = (64, 64), interpolation: str = "polyline") -> Trajectory:
    return Trajectory(size[1], size[0], (DrawnPath.from_array(points, interpolation=interpolation),))


def grey(height: int = 64, width: int = 64, value: int = 128) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def inked(image: np.ndarray, style: str = "gradient", value: int = 128) -> np.ndarray:
    return (image != value).any(axis=-1)


def cover(drawn: np.ndarray) -> np.ndarray:
    """Cover of each pixel by a gradient line on black: red and blue add up to it."""
    return drawn.sum(axis=-1)


def test_red_at_the_start_blue_at_the_end():
    drawn = draw_overlay(grey(), trajectory((10.5, 32.5), (53.5, 32.5)), thickness=3.0)
    assert drawn[32, 10].tolist() == RED and drawn[32, 53].tolist() == BLUE
    row = drawn[32, 11:53].astype(int)
    assert (np.diff(row[:, 0]) <= 0).all() and (np.diff(row[:, 2]) >= 0).all() and (row[:, 1] == 0).all()


def test_colour_by_time_shows_speed_and_by_arc_does_not():
    points = (8.5, 32.5, 0.0), (32.5, 32.5, 0.8), (56.5, 32.5, 1.0)
    by_time = draw_overlay(grey(), trajectory(*points), color_by="time", thickness=3.0)[32, 32]
    by_arc = draw_overlay(grey(), trajectory(*points), color_by="arc", thickness=3.0)[32, 32]
    assert by_time.tolist() == pytest.approx([51, 0, 204], abs=4)
    assert by_arc.tolist() == pytest.approx([127, 0, 127], abs=4)


def test_colours_are_absolute_times():
    # A path that starts late does not start red: the colour tells the frame.
    drawn = draw_overlay(grey(), trajectory((10.5, 32.5, 0.5), (53.5, 32.5, 1.0)), thickness=3.0)
    assert drawn[32, 10].tolist() == pytest.approx([127, 0, 127], abs=2)


@given(st.floats(24, 40), st.floats(24, 40), st.floats(0, np.pi), st.floats(1.0, 6.0))
def test_lines_keep_fractions_of_a_pixel(x, y, angle, thickness):
    reach = np.array([np.cos(angle), np.sin(angle)]) * 18
    middle = np.array([x, y])
    black = np.zeros((64, 64, 3), np.float32)
    drawn = cover(draw_overlay(black, trajectory(middle - reach, middle + reach), thickness=thickness)).astype(float)
    centres = np.arange(64) + 0.5
    found = np.array([(drawn.sum(0) * centres).sum(), (drawn.sum(1) * centres).sum()]) / drawn.sum()
    sideways = (found - middle) @ np.array([-np.sin(angle), np.cos(angle)])
    assert sideways == pytest.approx(0.0, abs=0.1)  # what square pixels allow a thin line
    assert found == pytest.approx(middle, abs=0.25)
    area = 36 * thickness + np.pi * thickness**2 / 4
    assert drawn.sum() == pytest.approx(area, rel=0.12)


def test_lines_are_anti_aliased():
    drawn = draw_overlay(np.zeros((64, 64, 3), np.float32), trajectory((8, 10), (56, 31)))
    levels = np.unique(np.round(cover(drawn), 2))
    assert len(levels) > 20 and drawn.max() <= 1.0 and drawn.min() >= 0.0


@pytest.mark.parametrize(("height", "width"), [(64, 64), (240, 320), (256, 320), (720, 480)])
def test_the_line_grows_with_the_frame(height, width):
    line = trajectory((0.2 * width, height / 2), (0.8 * width, height / 2), size=(height, width))
    drawn = cover(draw_overlay(np.zeros((height, width, 3), np.float32), line))
    assert drawn[:, width // 2].sum() == pytest.approx(1.5 * min(height, width) / 64, rel=0.02)


@pytest.mark.parametrize("style", OVERLAY_STYLES)
def test_number_types_agree_and_the_input_stays(style):
    line = trajectory((10, 20), (30, 50), (50, 12), interpolation="spline")
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    before = image.copy()
    as_bytes = draw_overlay(image, line, style)
    as_floats = draw_overlay(image.astype(np.float32) / 255, line, style)
    assert as_bytes.dtype == np.uint8 and as_floats.dtype == np.float32
    assert np.abs(as_bytes / 255 - as_floats).max() < 1.1 / 255  # bytes are rounded once per arrow
    assert (image == before).all() and (as_bytes != before).any()
    view = image[::-1].transpose(1, 0, 2)
    assert (draw_overlay(view, line, style) == draw_overlay(np.ascontiguousarray(view), line, style)).all()


@pytest.mark.parametrize("style", OVERLAY_STYLES)
def test_only_the_paths_surroundings_change(style):
    drawn = inked(draw_overlay(grey(240, 320), trajectory((40, 40), (120, 90), size=(240, 320)), style))
    ys, xs = np.nonzero(drawn)
    assert xs.min() > 30 and xs.max() < 130 and ys.min() > 30 and ys.max() < 100


@pytest.mark.parametrize("style", OVERLAY_STYLES)
def test_a_path_over_the_edge_or_outside_is_drawn_as_far_as_it_is_seen(style):
    assert inked(draw_overlay(grey(), trajectory((-20, 32), (84, 32)), style))[32].all()
    assert not inked(draw_overlay(grey(), trajectory((-200, -50), (-90, -60)), style)).any()


@pytest.mark.parametrize("style", OVERLAY_STYLES)
def test_points_far_away_cost_nothing(style):
    through = trajectory((-1e7, 32.5), (1e7, 32.5))
    drawn = inked(draw_overlay(grey(), through, style, thickness=2.0))
    assert drawn[31:34].sum() == drawn.sum() and drawn[32].all()
    wandering = trajectory((5, 5), (-1e7, 32.5), (1e7, 32.5), (1e7, 1e6), (30, 1e8), (30.5, 50), interpolation="spline")
    assert 0 < inked(draw_overlay(grey(), wandering, style)).mean() < 0.2


def test_where_a_path_crosses_itself_the_later_part_is_on_top():
    cross = trajectory((12.5, 12.5), (52.5, 52.5), (52.5, 12.5), (12.5, 52.5))
    assert draw_overlay(grey(), cross, thickness=4.0)[32, 32, 2] > 180


def test_a_hold_is_a_dot():
    drawn = draw_overlay(grey(), trajectory((32.5, 32.5), (32.5, 32.5)), thickness=3.0)
    assert 4 <= inked(drawn).sum() <= 16


def test_several_paths_are_all_drawn():
    two = Trajectory(64, 64, tuple(DrawnPath.from_array([(8, y), (56, y)]) for y in (16.5, 48.5)))
    drawn = inked(draw_overlay(grey(), two))
    assert drawn[16, 30] and drawn[48, 30] and not drawn[32].any()


def hues(drawn: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((drawn == np.array(color, np.uint8)).all(axis=-1).sum())


@pytest.mark.parametrize(
    ("style", "blue", "red"),
    [("arrows_bridge", (135, 206, 235), (255, 0, 0)), ("arrows_rt1", (74, 161, 241), (254, 0, 0))],
)
def test_arrows_are_first_blue_then_red(style, blue, red):
    straight = draw_overlay(grey(480, 640), trajectory((100, 100), (400, 110), size=(480, 640)), style)
    assert hues(straight, blue) > 200 and hues(straight, red) == 0
    bent = trajectory((100, 100), (400, 110), (300, 400), size=(480, 640))
    assert hues(draw_overlay(grey(480, 640), bent, style), blue) > 200
    assert hues(draw_overlay(grey(480, 640), bent, style), red) > 200
    three = Trajectory(640, 480, tuple(DrawnPath.from_array([(100, y), (400, y)]) for y in (100, 200, 300)))
    drawn = draw_overlay(grey(480, 640), three, style)
    assert [hues(drawn[y - 10 : y + 10], blue) > 0 for y in (100, 200, 300)] == [True, False, False]
    assert [hues(drawn[y - 10 : y + 10], red) > 0 for y in (100, 200, 300)] == [False, True, True]


def test_a_lone_bent_path_turns_where_it_is_farthest_from_its_line():
    (start, corner), (again, end) = arrow_ends(trajectory((10, 50), (30, 10), (56, 50)))
    assert (start.tolist(), end.tolist()) == ([10, 50], [56, 50])
    assert corner.tolist() == again.tolist() == pytest.approx([30, 10], abs=0.5)
    there_and_back = arrow_ends(trajectory((10, 50), (50, 10), (10, 50)))
    assert len(there_and_back) == 2 and there_and_back[0][1].tolist() == pytest.approx([50, 10], abs=0.5)
    assert len(arrow_ends(trajectory((10, 50), (30, 49), (56, 50)))) == 1


def test_published_sizes_of_the_arrows():
    # On the frame they were drawn on: a shaft of 3 px, a diamond widest (2 x 6 px) 13 px behind the tip.
    drawn = inked(
        draw_overlay(grey(480, 640), trajectory((100, 240.5), (400, 240.5), size=(480, 640)), "arrows_bridge")
    )
    assert drawn[:, 200].sum() == 3 and drawn[:, 387].sum() == pytest.approx(12, abs=1)
    assert drawn[:, 387].sum() == drawn[:, 360:405].sum(axis=0).max()
    # RT-1: 2 px, and a fork of 8 px at 30 degrees reaches 4 px to each side.
    fork = inked(draw_overlay(grey(256, 320), trajectory((100, 128), (200, 128), size=(256, 320)), "arrows_rt1"))
    assert fork[:, 150].sum() == 2
    ys = np.nonzero(fork[:, 185:205].any(axis=1))[0]
    assert ys.max() - ys.min() + 1 == pytest.approx(8 + 2, abs=1)


def test_arrows_shrink_with_the_frame():
    for style, arrow in ARROW_STYLES.items():
        height, width = arrow.drawn_on
        areas = []
        for scale in (1, 2):
            size = height // scale, width // scale
            line = trajectory((0.2 * size[1], 0.5 * size[0]), (0.8 * size[1], 0.5 * size[0]), size=size)
            drawn = draw_overlay(np.zeros((*size, 3), np.float32), line, style)
            areas.append(drawn[..., 2].sum())
        assert areas[0] / areas[1] == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"image": np.zeros((64, 64), np.uint8)}, ImageError, r"shape \(H, W, 3\), got \(64, 64\)"),
        ({"image": np.zeros((64, 64, 4), np.uint8)}, ImageError, r"shape \(H, W, 3\), got \(64, 64, 4\)"),
        ({"image": np.zeros((64, 64, 3))}, ImageError, "must be uint8 or float32, got float64"),
        ({"image": [[0]]}, ImageError, r"shape \(H, W, 3\), got list"),
        ({"image": np.zeros((48, 64, 3), np.uint8)}, TrajectoryError, "size of 64 x 48 px, got one for 64 x 64 px"),
        ({"style": "line"}, TrajectoryError, "must be one of gradient, arrows_bridge, arrows_rt1, got 'line'"),
        ({"color_by": "speed"}, TrajectoryError, "must go by one of time, arc, got 'speed'"),
        ({"thickness": 0.0}, ImageError, "thickness must be more than 0 px, got 0.0"),
        ({"thickness": float("nan")}, ImageError, "thickness must be more than 0 px, got nan"),
    ],
)
def test_errors(change, error, message):
    with pytest.raises(error, match=message):
        draw_overlay(**{"image": grey(), "trajectory": trajectory((1, 1), (9, 9)), **change})

"""Every node run in the real ComfyUI: what it gives, and the one line that it says to bad input."""

import json

import pytest
import torch

from support.small_spec import SMALL_SPEC

pytestmark = pytest.mark.comfyui


def picture(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def layout(comfy):
    return lambda *args: comfy.call("VisualPlannerGridLayout", rows=args[0], cols=args[1], order=args[2])[0]


@pytest.fixture
def tiny_spec(module):
    return module("visual_planner.planner.spec").PlannerSpec(**SMALL_SPEC)


def refuses(comfy, node_id, message, **inputs):
    with pytest.raises(ValueError, match=message) as caught:
        comfy.call(node_id, **inputs)
    assert "\n" not in str(caught.value)
    assert type(caught.value).__module__.startswith(comfy.plugin.__name__)


# ---- grids


def test_grid_layout(comfy):
    grid_layout, frames = comfy.call("VisualPlannerGridLayout", rows=2, cols=3, order="raster")
    assert str(grid_layout) == "2x3 raster"
    assert frames == 6


@pytest.mark.parametrize("order", ["serpentine", "raster", "column_serpentine"])
@pytest.mark.parametrize(("rows", "cols"), [(3, 3), (3, 2), (1, 4), (2, 5)])
def test_slicing_undoes_assembling(comfy, layout, rows, cols, order):
    wire = layout(rows, cols, order)
    frames = picture(2 * rows * cols, 6, 10, 3)
    (grid,) = comfy.call("VisualPlannerAssembleGrid", frames=frames, layout=wire)
    assert grid.shape == (2, rows * 6, cols * 10, 3)
    back, _ = comfy.call("VisualPlannerSliceGrid", grid=grid, fps=4.0, layout=wire)
    assert torch.equal(back, frames)


def test_grid_nodes_take_a_spec_or_nothing(comfy, tiny_spec):
    frames = picture(9, 8, 8, 3)
    with_spec = comfy.call("VisualPlannerAssembleGrid", frames=frames, layout=tiny_spec)[0]
    assert torch.equal(with_spec, comfy.call("VisualPlannerAssembleGrid", frames=frames)[0])
    # Serpentine: the second row runs backwards.
    assert torch.equal(with_spec[0, 8:16, :8], frames[5])


def test_the_video_holds_the_frames(comfy, tmp_path):
    grid = picture(1, 96, 96, 3)
    frames, video = comfy.call("VisualPlannerSliceGrid", grid=grid, fps=2.5)
    parts = video.get_components()
    assert torch.equal(parts.images, frames)
    assert float(parts.frame_rate) == 2.5
    video.save_to(str(tmp_path / "plan.mp4"))
    from comfy_api.latest import InputImpl

    assert InputImpl.VideoFromFile(str(tmp_path / "plan.mp4")).get_components().images.shape == (9, 32, 32, 3)


def test_a_transparent_grid_still_makes_a_video(comfy):
    frames, video = comfy.call("VisualPlannerSliceGrid", grid=picture(1, 48, 48, 4), fps=4.0)
    assert frames.shape[-1] == 4
    assert video.get_components().images.shape[-1] == 3


@pytest.mark.parametrize("size", [(97, 96), (96, 100)])
def test_a_grid_that_does_not_divide_is_refused(comfy, size):
    refuses(comfy, "VisualPlannerSliceGrid", "needs a height that divides by 3", grid=picture(1, *size, 3), fps=4.0)


def test_a_wrong_number_of_frames_is_refused(comfy):
    refuses(comfy, "VisualPlannerAssembleGrid", r"frames must have shape \(9, h, w, C\)", frames=picture(8, 8, 8, 3))


def test_mask_first_frame(comfy, layout, tiny_spec):
    frame = picture(2, 64, 64, 3)
    inputs = {"first_frame": frame, "cell_width": 32, "cell_height": 16, "fit": "stretch"}
    grid, mask, width, height = comfy.call("VisualPlannerMaskFirstFrame", **inputs, layout=layout(2, 3, "raster"))
    assert grid.shape == (2, 32, 96, 3)
    assert mask.shape == (2, 32, 96)
    assert (width, height) == (96, 32)
    assert not grid[:, 16:].any() and not grid[:, :, 32:].any() and grid[:, :16, :32].any()
    assert not mask[:, :16, :32].any() and mask[:, 16:].all() and mask[:, :, 32:].all()
    # A spec knows the cell's size itself.
    grid, _, width, height = comfy.call("VisualPlannerMaskFirstFrame", **inputs, layout=tiny_spec)
    assert (width, height) == (192, 192)
    assert torch.equal(grid[:, :64, :64], frame)


# ---- trajectory

PATH = {
    "version": 1,
    "width": 64,
    "height": 64,
    "paths": [{"name": "gripper", "points": [{"x": 10, "y": 12, "t": 0.0}, {"x": 50, "y": 44, "t": 0.8}]}],
}


def read(comfy, source=None, **inputs):
    text = json.dumps(PATH if source is None else source)
    return comfy.call("VisualPlannerTrajectory", trajectory_json=text, **{"outside": "error", **inputs})


def test_trajectory(comfy):
    trajectory, text = read(comfy)
    assert trajectory.paths[0].points[1].x == 50
    assert json.loads(text)["paths"][0]["points"] == PATH["paths"][0]["points"]


def test_a_track_of_another_pack_takes_its_size_from_the_picture(comfy):
    points = [{"x": 4, "y": 5}, {"x": 40, "y": 30}]
    trajectory, _ = read(comfy, points, first_frame=picture(1, 48, 80, 3))
    assert (trajectory.width, trajectory.height) == (80, 48)
    refuses_text(comfy, json.dumps(points), "width and height must be given")


def refuses_text(comfy, text, message, **inputs):
    refuses(comfy, "VisualPlannerTrajectory", message, trajectory_json=text, **{"outside": "error", **inputs})


def changed(**changes):
    return json.dumps(PATH | changes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got empty text"),
        ('{"version": 1,', "line 1 column"),
        ("{}", '"version" must be 1'),
        ("[]", "at least one path"),
        (changed(paths=[]), "at least one path"),
        (changed(paths=[{"points": [{"x": 1, "y": 1}]}]), "at least 2 points, got 1"),
        (changed(paths=[{"points": []}]), "at least 2 points|must be"),
        (changed(paths=[{"points": [{"x": 1, "y": 1}, {"x": float("nan"), "y": 1}]}]), "NaN|finite"),
        (
            changed(paths=[{"points": [{"x": 1, "y": 1}, {"x": 99, "y": 1}]}]),
            r"must lie inside the frame of 64 x 64 px \(or set outside to clamp or cut\)$",
        ),
        (changed(paths=[{"points": [{"x": 1, "y": 1, "t": 0.5}, {"x": 9, "y": 1, "t": 0.2}]}]), "strictly increase"),
    ],
)
def test_a_broken_trajectory_is_refused(comfy, text, message):
    refuses_text(comfy, text, message)


@pytest.mark.parametrize("rule", ["clamp", "cut"])
def test_points_outside_can_be_brought_in(comfy, rule):
    outside = PATH | {"paths": [{"points": [{"x": 1, "y": 1}, {"x": 99, "y": 1}]}]}
    trajectory, _ = read(comfy, outside, outside=rule)
    assert max(point.x for point in trajectory.paths[0].points) <= 64


def overlay(comfy, frame, trajectory, **inputs):
    settings = {"style": "from the spec", "color_by": "from the spec", "thickness": 0.0, "fit": "letterbox"}
    inputs = {"first_frame": frame, "trajectory": trajectory, **settings, **inputs}
    return comfy.call("VisualPlannerTrajectoryOverlay", **inputs)


def test_overlay_draws_from_red_to_blue_on_the_cell(comfy, tiny_spec):
    trajectory, _ = read(comfy)
    image, fitted = overlay(comfy, torch.zeros(2, 128, 128, 3), trajectory, spec=tiny_spec)
    assert image.shape == (2, 64, 64, 3)
    assert (fitted.width, fitted.height) == (64, 64)
    assert image[0, 12, 10, 0] > 0.5 > image[0, 12, 10, 2]
    assert image[0, 44, 50, 2] > 0.3 > image[0, 44, 50, 0]
    assert torch.equal(image[0], image[1])


def test_overlay_is_what_training_draws(comfy, tiny_spec, module):
    """Frame at the cell's size, path in its pixels, the spec's style: no other step in between."""
    trajectory, _ = read(comfy)
    frame = picture(1, 64, 64, 3)
    image, _ = overlay(comfy, frame, trajectory, spec=tiny_spec)
    draw = module("visual_planner.trajectory.overlay").draw_overlay
    wanted = draw(frame[0].numpy(), trajectory, tiny_spec.overlay, color_by=tiny_spec.overlay_color_by)
    assert torch.equal(image[0], torch.from_numpy(wanted))


def test_overlay_follows_the_fit(comfy, tiny_spec):
    wide = PATH | {"width": 128, "paths": [{"points": [{"x": 64, "y": 32}, {"x": 100, "y": 32}]}]}
    trajectory, _ = read(comfy, wide)
    frame = torch.zeros(1, 64, 128, 3)
    places = {"letterbox": (32.0, 32.0), "crop": (32.0, 32.0), "stretch": (32.0, 32.0)}
    ends = {"letterbox": (50.0, 32.0), "crop": (68.0, 32.0), "stretch": (50.0, 32.0)}
    for fit, (x, y) in places.items():
        _, fitted = overlay(comfy, frame, trajectory, spec=tiny_spec, fit=fit)
        start, end = fitted.paths[0].points
        assert (start.x, start.y) == (x, y)
        assert (end.x, end.y) == ends[fit]


def test_overlay_without_a_spec_keeps_the_size(comfy):
    trajectory, _ = read(comfy)
    image, fitted = overlay(comfy, torch.zeros(1, 48, 96, 3), trajectory)
    assert image.shape == (1, 48, 96, 3)
    assert (fitted.width, fitted.height) == (96, 48)


@pytest.mark.parametrize("style", ["gradient", "arrows_bridge", "arrows_rt1"])
def test_overlay_styles_differ_and_warn(comfy, tiny_spec, style, caplog):
    trajectory, _ = read(comfy)
    image, _ = overlay(comfy, torch.zeros(1, 64, 64, 3), trajectory, spec=tiny_spec, style=style)
    assert image.any()
    assert ("trained with overlay gradient" in caplog.text) == (style != "gradient")


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_overlay_takes_grey_and_transparent_frames(comfy, tiny_spec, channels):
    trajectory, _ = read(comfy)
    assert overlay(comfy, picture(1, 20, 30, channels), trajectory, spec=tiny_spec)[0].shape == (1, 64, 64, 3)


def test_the_default_trajectory_can_be_read(comfy):
    default = comfy.node("VisualPlannerTrajectory").INPUT_TYPES()["required"]["trajectory_json"][1]["default"]
    trajectory, _ = comfy.call("VisualPlannerTrajectory", trajectory_json=default, outside="error")
    assert len(trajectory.paths) == 1


# ---- prompt


def prompt(comfy, mode, instruction="Push the red cube.", **inputs):
    return comfy.call("VisualPlannerPrompt", mode=mode, instruction=instruction, **inputs)[0]


def test_prompt_comes_from_the_spec(comfy, tiny_spec):
    assert prompt(comfy, "text", spec=tiny_spec) == tiny_spec.text_prompt.replace("{instruction}", "push the red cube")
    assert prompt(comfy, "trajectory", "", spec=tiny_spec) == tiny_spec.trajectory_prompt
    assert prompt(comfy, "both", spec=tiny_spec) == tiny_spec.both_prompt.replace("{instruction}", "push the red cube")


def test_prompt_template_can_be_replaced_with_a_warning(comfy, tiny_spec, caplog):
    assert prompt(comfy, "text", template="go and {instruction}") == "go and push the red cube"
    assert not caplog.records
    prompt(comfy, "text", template="go and {instruction}", spec=tiny_spec)
    assert "differs from the one that the planner was trained with" in caplog.text


def test_prompt_warns_of_a_mode_without_training(comfy, module, caplog):
    prompt(comfy, "both", spec=module("visual_planner.planner.presets").PRESETS["bridge_text"])
    assert "trained for text plans, not for mode both" in caplog.text


@pytest.mark.parametrize("mode", ["text", "both"])
def test_an_empty_instruction_is_refused(comfy, mode):
    for text in ("", "  \n ", "."):
        refuses(comfy, "VisualPlannerPrompt", "instruction must say", mode=mode, instruction=text)


def test_a_template_without_slot_is_refused(comfy):
    inputs = {"mode": "text", "instruction": "reach", "template": "nine frames"}
    refuses(comfy, "VisualPlannerPrompt", "must contain {instruction} exactly once", **inputs)


# ---- check


def moving_square(frames=9, side=64):
    video = torch.zeros(frames, side, side, 3)
    for number in range(frames):
        video[number, 20:32, 4 + 5 * number : 16 + 5 * number] = 1.0
    return video


def test_check_tells_motion_from_standing_still(comfy):
    moving = moving_square()
    report, sheet, sound = comfy.call("VisualPlannerCheck", frames=moving, fit="letterbox", first_frame=moving[:1])
    assert sound, report
    assert sheet.ndim == 4 and sheet.shape[-1] == 3
    report, _, sound = comfy.call("VisualPlannerCheck", frames=moving[:1].repeat(9, 1, 1, 1), fit="letterbox")
    assert not sound
    assert "static" in report


def test_check_measures_the_way_along_the_path(comfy):
    centre = [{"x": 10, "y": 26}, {"x": 50, "y": 26}]
    trajectory, _ = read(comfy, PATH | {"paths": [{"points": centre, "interpolation": "polyline"}]})
    report, _, _ = comfy.call("VisualPlannerCheck", frames=moving_square(), fit="letterbox", trajectory=trajectory)
    assert "ok   path" in report
    wrong, _ = read(comfy, PATH | {"paths": [{"points": [{"x": 60, "y": 60}, {"x": 2, "y": 60}]}]})
    report, _, sound = comfy.call("VisualPlannerCheck", frames=moving_square(), fit="letterbox", trajectory=wrong)
    assert "FAIL path" in report and not sound


def test_check_fits_a_first_frame_of_another_size(comfy):
    big = moving_square(side=64)[:1].repeat_interleave(4, 1).repeat_interleave(4, 2)
    report, _, _ = comfy.call("VisualPlannerCheck", frames=moving_square(), fit="letterbox", first_frame=big)
    assert "ok   drift" in report


def test_check_refuses_a_single_frame(comfy):
    refuses(comfy, "VisualPlannerCheck", "at least 2 pictures", frames=picture(1, 64, 64, 3), fit="letterbox")


# ---- previews


def test_looking_nodes_show_what_they_made(comfy, tiny_spec):
    trajectory, _ = read(comfy)
    frame = picture(1, 64, 64, 3)
    shown = {
        "VisualPlannerAssembleGrid": {"frames": picture(9, 8, 8, 3)},
        "VisualPlannerSliceGrid": {"grid": picture(1, 24, 24, 3), "fps": 4.0},
        "VisualPlannerMaskFirstFrame": {
            "first_frame": frame, "cell_width": 32, "cell_height": 32, "fit": "crop", "layout": tiny_spec,
        },
        "VisualPlannerTrajectory": {"trajectory_json": json.dumps(PATH), "outside": "error", "first_frame": frame},
        "VisualPlannerTrajectoryOverlay": {
            "first_frame": frame, "trajectory": trajectory, "style": "gradient", "color_by": "arc",
            "thickness": 2.0, "fit": "crop",
        },
        "VisualPlannerCheck": {"frames": moving_square(), "fit": "letterbox"},
    }  # fmt: skip
    for node_id, inputs in shown.items():
        ui = comfy.execute(node_id, **inputs).ui
        pictures = ui["first_frame" if node_id == "VisualPlannerTrajectory" else "images"]
        assert pictures, node_id
        assert all((comfy_temp() / image["filename"]).is_file() for image in pictures)
        assert comfy.node(node_id).OUTPUT_NODE, f"{node_id}: its preview would be lost when nothing changed"
    ui = comfy.execute("VisualPlannerPrompt", mode="text", instruction="reach", spec=tiny_spec).ui
    assert "reach" in ui["text"][0]


def comfy_temp():
    from pathlib import Path

    import folder_paths

    return Path(folder_paths.get_temp_directory())

"""The nodes between trajectories and other packs, against ComfyUI's own reader of tracks; and the node to look."""

import json

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.comfyui

PATH = {
    "version": 1,
    "width": 64,
    "height": 48,
    "paths": [{"name": "gripper", "points": [{"x": 8, "y": 10}, {"x": 40, "y": 30}, {"x": 60, "y": 12}]}],
}
IMPORT = {"text": "", "units": "pixels", "width": 0, "height": 0, "stroke_start": "left", "outside": "error"}
EXPORT = {"samples": 121, "width": 0, "height": 0}
LOOK = {"fps": 4.0, "hold_first": 0, "hold_last": 2, "ping_pong": False, "defects": True, "fit": "letterbox"}


@pytest.fixture
def trajectory(comfy):
    return comfy.call("VisualPlannerTrajectory", trajectory_json=json.dumps(PATH), outside="error")[0]


def test_wans_own_reader_takes_what_is_exported(comfy, trajectory):
    comfy.node("WanTrackToVideo")  # loads ComfyUI's extra nodes
    from comfy_extras import nodes_wan

    coordinates, _, _ = comfy.call("VisualPlannerExportTrajectory", trajectory=trajectory, **EXPORT)
    (track,) = nodes_wan.parse_json_tracks(coordinates)
    padded = nodes_wan.pad_pts(track)
    assert len(track) == 121 and (padded[..., 2] == 1).all(), "every place counts as visible"
    assert np.abs(padded[:, 0, :2] - trajectory.resample(121)[:, 0]).max() <= 0.5


@pytest.mark.parametrize("output", [0, 2])
def test_what_is_exported_can_be_imported(comfy, trajectory, output):
    exported = comfy.call("VisualPlannerExportTrajectory", trajectory=trajectory, **EXPORT)[output]
    source = {"text": exported} if output == 0 else {"tracks": exported}
    back, text = comfy.call("VisualPlannerImportTrajectory", **IMPORT | {"width": 64, "height": 48} | source)
    assert np.abs(back.resample(121) - trajectory.resample(121)).max() <= 0.5
    assert json.loads(text)["width"] == 64


def test_export_scales(comfy, trajectory):
    scaled = {"samples": 2, "width": 640, "height": 480}
    coordinates, store, tracks = comfy.call("VisualPlannerExportTrajectory", trajectory=trajectory, **scaled)
    assert json.loads(coordinates) == [{"x": 80, "y": 100}, {"x": 600, "y": 120}]
    assert json.loads(store)[0]["points"][1] == {"x": 400, "y": 300}
    assert tracks["track_path"].shape == (2, 1, 2)


def test_a_stroke_and_the_size_of_the_first_frame(comfy):
    mask = torch.zeros(1, 48, 64)
    mask[:, 20:25, 5:60] = 1
    path, _ = comfy.call("VisualPlannerImportTrajectory", **IMPORT | {"stroke": mask, "stroke_start": "right"})
    ends = path.resample(2, "arc")[:, 0]
    assert ends[0, 0] > 50 > 12 > ends[1, 0]
    assert np.abs(ends[:, 1] - 22.5).max() < 2.5
    frame = torch.zeros(1, 48, 64, 3)
    inputs = IMPORT | {"text": "[[0, 0], [1, 0.5]]", "units": "normalised", "first_frame": frame}
    path, _ = comfy.call("VisualPlannerImportTrajectory", **inputs)
    assert (path.paths[0].points[1].x, path.paths[0].points[1].y) == (64, 24)


def test_one_source_is_needed(comfy):
    with pytest.raises(ValueError, match="exactly one of text, tracks, stroke is required, got none"):
        comfy.call("VisualPlannerImportTrajectory", **IMPORT)
    both = IMPORT | {"text": "[[1, 1], [2, 2]]", "stroke": torch.ones(1, 4, 4)}
    with pytest.raises(ValueError, match="got text, stroke"):
        comfy.call("VisualPlannerImportTrajectory", **both)


def test_track_points(comfy):
    frames = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    for _ in range(2):  # a smooth texture, as of a thing and not of noise
        frames = torch.nn.functional.avg_pool2d(frames.permute(0, 3, 1, 2), 7, 1, 3).permute(0, 2, 3, 1)
    frames = (frames - frames.min()) / (frames.max() - frames.min())
    frames = torch.cat([frames.roll(2 * t, dims=2) for t in range(5)])
    (start, _) = comfy.call("VisualPlannerImportTrajectory", **IMPORT | {
        "text": "[[20, 30], [21, 30]]", "width": 64, "height": 64,
    })  # fmt: skip
    path, _, complete = comfy.call("VisualPlannerTrackPoints", frames=frames, start=start, max_error=1.0)
    assert complete is True
    assert np.abs(path.resample(5)[:, 0] - [[20 + 2 * t, 30] for t in range(5)]).max() < 0.3


def test_look(comfy, trajectory):
    frames = torch.full((9, 48, 64, 3), 0.5)
    sheet, video, shown = comfy.call(
        "VisualPlannerLook", frames=frames, truth=frames[:4], trajectory=trajectory, first_frame=frames[:1], **LOOK
    )
    assert shown.shape == (11, 48, 132, 3)
    assert sheet.shape[0] == 1 and sheet.shape[2] > 132
    parts = video.get_components()
    assert len(parts.images) == 11 and float(parts.frame_rate) == 4.0

"""The read-out: views, records and weights that must fit, training that goes on after a stop, and what it learns."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from simulation.camera import FRONT, Camera
from support.small_world import config_for, write_episodes
from training.__main__ import main
from training.errors import TrainingError
from training.files import read_json
from training.model.readout import open_readout
from training.planner.export import export
from training.planner.train import train
from training.readout.data import load_frames, split
from training.readout.degrade import UNTOUCHED, degrade, shift
from training.readout.planned import planned_pictures
from training.readout.train import Batches, readout_loss, spec_for, start, train_readout
from training.sections.config import Config
from visual_planner.errors import PlannerError, ReadoutError
from visual_planner.execution.camera import View
from visual_planner.execution.keyframes import gripper_states, keyframes, on_path, smooth_places
from visual_planner.execution.readout import READOUT_KEY, Reading, ReadoutNet, ReadoutSpec, load_net, read_frames

ALONG = Camera(eye=(1.2, 0.0, 0.1), lookat=(0.4, 0.0, 0.1))
"""Looks straight ahead, a little above the table."""

RECORDS = Path(__file__).parents[1] / "fixtures" / "records"


def view_of(camera=FRONT, size=32):
    return View(camera.eye, camera.rays(size, size))


def write_states(folder, count=8):
    """Drawn episodes whose end effector is where the square is, at one distance from the camera."""
    write_episodes(folder, count=count)
    view = view_of()
    lines = []
    for line in (folder / "episodes.jsonl").read_text().splitlines():
        record = json.loads(line)
        seen = np.array([(x / 32, y / 32, 1.1) for x, y in record["end_effector_px"]])
        record["end_effector_m"] = view.place(seen).tolist()
        record["gripper"] = [0.0] * 5 + [1.0] * 4
        record["camera"] = FRONT.to_json()
        lines.append(json.dumps(record))
    (folder / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def config_of(folder, **changes):
    return Config.model_validate(
        {
            "readout": {
                "source": [folder / "states"], "out": folder / "run", "model": folder / "model", "held_out": 2,
                "size": (32, 32), "channels": (8, 8), "points": 4, "batch_size": 4, "max_steps": 4, "save_every": 2,
                "log_every": 1, "ema_decay": 0.9, **changes,
            }
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readout")
    write_states(folder / "states")
    return folder


def test_a_view_is_the_simulators_camera():
    rng = np.random.default_rng(0)
    for _ in range(5):
        camera = FRONT.jittered(rng, 0.05)
        points = rng.uniform((0.2, -0.2, 0.0), (0.6, 0.2, 0.3), (20, 3))
        view = View(camera.eye, camera.rays(48, 64))
        seen = view.see(points)
        np.testing.assert_allclose(seen[:, :2] * (64, 48), camera.project(points, 48, 64), atol=1e-9)
        np.testing.assert_allclose(view.place(seen), points, atol=1e-12)
        seen = view.see(points, "height")
        np.testing.assert_array_equal(seen[:, 2], points[:, 2])
        np.testing.assert_allclose(view.place(seen, "height"), points, atol=1e-12)


def test_a_moved_camera_and_a_named_height_need_no_other_network():
    """What a network says of a hand's height is true from every side; of its distance it is not."""
    net = ReadoutNet(ReadoutSpec(height=32, width=32, view=view_of(), third="height", mean=(0.5, 0.5, 0.1)))
    frames, moved = torch.rand(2, 32, 32, 3), FRONT.turned(30)
    view = View(moved.eye, moved.rays(32, 32))
    here, there = read_frames(net.eval(), frames), read_frames(net, frames, view)
    np.testing.assert_allclose(there.positions_m[:, 2], here.positions_m[:, 2], atol=1e-12)
    np.testing.assert_allclose(view.see(there.positions_m)[:, :2], here.picture_norm, atol=1e-12)
    with pytest.raises(ReadoutError, match=r"looks down on all of its picture by at least 6 degrees, here -13"):
        read_frames(net, frames, view_of(ALONG))


def test_a_camera_that_looks_along_the_table_needs_distances(states, tmp_path):
    shutil.copytree(states / "states", tmp_path / "states")
    file = tmp_path / "states" / "episodes.jsonl"
    lines = [json.dumps(json.loads(line) | {"camera": ALONG.to_json()}) for line in file.read_text().splitlines()]
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(TrainingError, match="readout.third must be depth for this camera: heights can be read only"):
        load_frames(config_of(tmp_path).readout)
    assert load_frames(config_of(tmp_path, third="depth").readout).seen.shape[1] == 3


def test_another_third_is_learned_from_weights_that_named_the_distance(states):
    """Sizes and the places' scales are kept; the height has its own."""
    before = config_of(states, out=states / "d", model=states / "d_model", third="depth", max_steps=1)
    train_readout(before)
    section = config_of(states, out=states / "h", init=states / "d_model").readout
    frames = load_frames(section)
    old, new = open_readout(states / "d_model"), start(section, frames)
    assert (old.spec.third, new.spec.third) == ("depth", "height")
    assert new.spec.mean[:2] == old.spec.mean[:2] and new.spec.mean[2] == pytest.approx(frames.places_m[:, 2].mean())
    assert torch.equal(new.place.weight, old.place.weight)


def test_a_moved_picture_is_one_of_a_turned_camera():
    view, seen = view_of(), np.array([[0.3, 0.6, 0.2], [0.7, 0.2, 0.1]])
    there = view.shifted(0.1, -0.05).place(seen + np.array((0.1, -0.05, 0)), "height")
    np.testing.assert_allclose(there, view.place(seen, "height"), atol=1e-12)


def test_a_network_is_told_where_each_episodes_camera_stands(states, tmp_path):
    shutil.copytree(states / "states", tmp_path / "states")
    file = tmp_path / "states" / "episodes.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    cameras = [FRONT.jittered(np.random.default_rng(number), 0.02) for number in range(len(lines))]
    file.write_text("".join(
        json.dumps(line | {"camera": camera.to_json()}) + "\n" for line, camera in zip(lines, cameras, strict=True)
    ))  # fmt: skip
    section = config_of(tmp_path, sees_camera=True, shift_px=0.0, init=None).readout
    frames = load_frames(section)
    net = start(section, frames)
    draw = Batches(frames, section, net.spec)
    pixels, told, _, _ = draw(torch.Generator().manual_seed(0))
    known = net.spec.camera_features([view_of(camera) for camera in cameras])
    assert all(any(torch.equal(one, other) for other in known) for one in told)
    torch.testing.assert_close(net(pixels, told)[0], net(pixels)[0])  # nothing is known of cameras at first
    torch.nn.init.normal_(net.camera.weight)
    assert not torch.allclose(net(pixels, told)[0], net(pixels)[0], atol=1e-3)
    here, there = (read_frames(net.eval(), frames.pictures[:3], view_of(camera)) for camera in cameras[:2])
    assert np.abs(here.picture_norm - there.picture_norm).max() > 1e-3
    first = read_frames(net, frames.pictures[:3], net.spec.view)
    np.testing.assert_array_equal(first.positions_m, read_frames(net, frames.pictures[:3]).positions_m)
    with pytest.raises(TrainingError, match=r"readout\.sees_camera must be false: the sources do not state"):
        start(section, replace(frames, views=()))


@pytest.mark.parametrize("rays", [((1, 0, 0),) * 3, ((1, 0), (0, 1)), "no", ((float("nan"),) * 3,) * 3])
def test_a_view_that_is_none_is_refused(rays):
    with pytest.raises(ReadoutError, match="a view must have eye_m of 3 and invertible rays"):
        View((0, 0, 0), rays)


def test_the_record_comes_back_and_weights_must_fit_it():
    spec = ReadoutSpec(height=32, width=48, channels=(8, 16), points=4, view=view_of(), mean=(1, 2, 3))
    assert ReadoutSpec.from_metadata(spec.to_metadata()) == spec
    net = ReadoutNet(spec)
    tensors = net.state_dict()
    frames = torch.rand(3, 40, 56, 3)
    again = read_frames(load_net(tensors, spec.to_metadata()), frames)
    np.testing.assert_allclose(again.positions_m, read_frames(net.eval(), frames).positions_m, atol=1e-6)
    with pytest.raises(ReadoutError, match=r"do not fit their record: 1 tensors differ \(sharpness\)"):
        load_net({name: value for name, value in tensors.items() if name != "sharpness"}, spec.to_metadata())
    with pytest.raises(ReadoutError, match="must have a record"):
        load_net(tensors, {"other": "x"})
    with pytest.raises(ReadoutError, match="version must be at most 1, got 2: this file needs a newer plugin"):
        load_net(tensors, {READOUT_KEY: '{"version": 2}'})
    with pytest.raises(ReadoutError, match="version must be a whole number from 1 to 1, got None"):
        load_net(tensors, {READOUT_KEY: '{"versoin": 1}'})
    with pytest.raises(ReadoutError, match="record cannot be read"):
        load_net(tensors, {READOUT_KEY: '{"version": 1, "hieght": 64}'})


@pytest.mark.parametrize("file", sorted(RECORDS.glob("readout_spec_v*.json")), ids=lambda file: file.stem)
def test_a_record_of_every_version_ever_written_reads(file):
    spec = ReadoutSpec.from_metadata({READOUT_KEY: file.read_text()})
    assert spec.view is not None and (spec.height, spec.width) == (64, 64)
    assert ReadoutSpec.from_metadata(spec.to_metadata()) == spec


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("height", 60, "height must be a multiple of 16"),
        ("channels", (8,), "channels must be 2 numbers"),
        ("channels", (12, 8), "channels must divide by 8"),
        ("spread", (0, 1, 1), "spread must be 3 numbers"),
        ("points", 0, "points must be a whole number"),
        ("context", -1, "context must be a whole number"),
    ],
)
def test_a_wrong_field_is_named(field, value, message):
    with pytest.raises(ReadoutError, match=message):
        ReadoutSpec(**{field: value})


def test_another_camera_moves_the_answer_and_needs_a_view():
    torch.manual_seed(0)
    net = ReadoutNet(ReadoutSpec(height=32, width=32, view=view_of(), mean=(0.5, 0.5, 1.1)))
    frames = torch.rand(2, 32, 32, 3)
    moved = Camera(eye=(1.26, 0.0, 0.86), lookat=(0.5, 0.0, 0.095))
    here, there = read_frames(net, frames), read_frames(net, frames, view_of(moved))
    np.testing.assert_allclose(there.positions_m - here.positions_m, [[0.1, 0.0, 0.0]] * 2, atol=2e-3)
    np.testing.assert_array_equal(there.picture_norm, here.picture_norm)
    blind = ReadoutNet(ReadoutSpec(height=32, width=32))
    assert np.isnan(read_frames(blind, frames).picture_norm).all()
    with pytest.raises(ReadoutError, match="trained without a camera view"):
        read_frames(blind, frames, view_of())


def test_degrading_keeps_some_frames_and_the_shape_of_all():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
    made = [degrade(frame, frame[::-1], rng) for _ in range(200)]
    assert all(one.shape == frame.shape and one.dtype == np.uint8 for one in made)
    same = np.mean([np.array_equal(one, frame) for one in made])
    assert abs(same - UNTOUCHED) < 0.15
    np.testing.assert_array_equal(shift(frame, 2, 1)[3:, 4:], frame[2:-1, 2:-2])


def test_a_moved_picture_moves_its_target(states):
    section = config_of(states, shift_px=4.0, batch_size=64 * 9, third="depth").readout
    frames = load_frames(section)
    draw = Batches(frames, section, spec_for(section, frames))
    _, _, places, gripper = draw(torch.Generator().manual_seed(3))
    places, gripper = places.flatten(0, 1), gripper.flatten(0, 1)
    seen = places.numpy() * draw.spec.spread + draw.spec.mean
    distance = np.abs(seen[:, None, :2] * 32 - frames.seen[None, :, :2] * 32).max(axis=-1).min(axis=1)
    assert 0.3 < (distance < 1e-3).mean() < 0.7 and distance.max() <= 4.0
    np.testing.assert_allclose(seen[:, 2], 1.1, atol=1e-3)
    assert set(gripper.tolist()) <= {0.0, 1.0}


def test_held_out_episodes_are_whole_and_apart(states):
    frames = load_frames(config_of(states).readout)
    assert len(frames.gripper) == 8 * 9
    train, held_out = split(frames, 2, 0)
    assert not set(train.episode) & set(held_out.episode)
    assert len(held_out.gripper) == 18 and len(train.gripper) == 54
    with pytest.raises(TrainingError, match="held_out is 8, but there are only 8 episodes"):
        split(frames, 8, 0)


def test_training_stops_goes_on_and_gives_the_same(states):
    whole = config_of(states, out=states / "a", model=states / "a_model")
    train_readout(whole)
    for steps in (2, 4):
        changes = {"out": states / "b", "model": states / "b_model", "max_steps": steps}
        train_readout(config_of(states, **changes))
    from safetensors.torch import load_file

    first, second = (load_file(states / name / "readout.safetensors") for name in ("a_model", "b_model"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    card = (states / "a_model" / "README.md").read_text()
    assert "4 steps of 4 on 54 frames" in card and "| degraded |" in card
    held_out = json.loads((states / "a_model" / "metrics.json").read_text())["held_out"]
    low, high = held_out["clean"]["error_mm"]["interval_of_median"]
    assert held_out["clean"]["frames"] == 18 and low <= high


def test_training_starts_from_other_weights(states):
    """With no step to speak of, the answer is that of the weights it started from."""
    from training.model.readout import open_readout

    train_readout(config_of(states, out=states / "d_first", model=states / "d_model"))
    slow = {"optimizer": {"learning_rate": 1e-12}, "max_steps": 1}
    config = config_of(states, out=states / "e", model=states / "e_model", init=states / "d_model", **slow)
    first = read_json(states / "d_model" / "metrics.json", "figures")["training"]
    for _ in range(2):  # a finished run writes the same again
        train_readout(config)
        training = read_json(states / "e_model" / "metrics.json", "figures")["training"]
        assert first.pop("before", []) == [] and training["before"] == [first]
    before, after = (open_readout(states / name) for name in ("d_model", "e_model"))
    frames = torch.rand(2, 32, 32, 3)
    np.testing.assert_allclose(
        read_frames(before, frames).positions_m, read_frames(after, frames).positions_m, atol=1e-5
    )
    card = " ".join((states / "e_model" / "README.md").read_text().split())
    assert "weights that had been trained before for 1 steps" in card
    assert f"Before that, steps of frames: {first['steps']} of {first['batch_size']} with 0%" in card


def test_blocks_in_time_start_as_if_they_were_not_there_and_then_look_at_neighbours(states):
    """Weights without them go on with them; what a frame says then depends on the frame beside it."""
    from training.model.readout import open_readout

    train_readout(config_of(states, out=states / "f", model=states / "f_model", context=0))
    before = open_readout(states / "f_model")
    assert before.spec.context == 0
    section = config_of(states, init=states / "f_model", context=2).readout
    after = start(section, load_frames(section)).eval()
    assert after.spec.context == 2
    frames = torch.rand(5, 32, 32, 3)
    one, two = (read_frames(net, frames).positions_m for net in (before, after))
    np.testing.assert_allclose(one, two, atol=1e-6)
    with torch.no_grad():
        for block in after.neighbours:
            torch.nn.init.normal_(block.add.weight)
    changed = frames.clone()
    changed[4] = 0
    moved = [np.abs(read_frames(net, frames).positions_m - read_frames(net, changed).positions_m).max(axis=1)
             for net in (before, after)]  # fmt: skip
    assert (moved[0][:4] < 1e-6).all() and moved[1][3] > 1e-4 and (moved[1][:2] < 1e-6).all()


def test_frames_of_a_batch_follow_each_other(states):
    section = config_of(states, batch_size=36, shift_px=0.0).readout
    frames = load_frames(section)
    draw = Batches(frames, section, spec_for(section, frames))
    lengths = set()
    for seed in range(12):
        pixels, _, places, gripper = draw(torch.Generator().manual_seed(seed))
        assert pixels.shape[:2] == places.shape[:2] == gripper.shape
        lengths.add(pixels.shape[1])
        for row in places.numpy():
            distance = np.abs(draw.targets[:, None] - row[None]).max(axis=-1)  # (frames, L)
            first = np.flatnonzero(distance[:, 0] < 1e-6)
            assert any(
                all(distance[start + k, k] < 1e-6 for k in range(len(row)))
                and frames.episode[start] == frames.episode[start + len(row) - 1]
                for start in first
                if start + len(row) <= len(distance)
            )
    assert 9 in lengths and len(lengths) > 2


def test_rare_places_are_drawn_more_often(states):
    section = config_of(states, batch_size=400, shift_px=0.0, rare_share=0.5, context=0).readout
    frames = load_frames(section)
    draw = Batches(frames, section, spec_for(section, frames))
    places = draw(torch.Generator().manual_seed(1))[2].flatten(0, 1)
    far = np.abs(draw.targets).max(axis=1)
    share = (np.abs(places.numpy()).max(axis=1) >= np.quantile(far, 0.9) - 1e-6).mean()
    assert share > 0.5 and len(draw.rare) < 0.3 * len(far)


def test_it_learns_where_the_square_is(states):
    """A few seconds of training bring the error well below that of always answering the mean."""
    changes = {"max_steps": 120, "batch_size": 24, "channels": (16, 16), "points": 8, "shift_px": 0.0,
               "optimizer": {"learning_rate": 5e-3}, "save_every": 1000, "ema_decay": 0.9}  # fmt: skip
    config = config_of(states, out=states / "c", model=states / "c_model", **changes)
    train_readout(config)
    clean = json.loads((states / "c_model" / "metrics.json").read_text())["held_out"]["clean"]
    places = load_frames(config.readout).places_m
    mean_mm = 1000 * np.median(np.linalg.norm(places - places.mean(axis=0), axis=1))
    assert clean["error_mm"]["median"] < 0.35 * mean_mm
    assert clean["gripper"]["rate"] > 0.8


def test_a_path_says_where_the_hand_is_in_the_picture_and_nothing_else():
    rng, view = np.random.default_rng(0), view_of()
    seen = np.concatenate([rng.uniform(0.2, 0.8, (9, 2)), rng.uniform(0.9, 1.2, (9, 1))], axis=1)
    reading = Reading(view.place(seen), np.zeros(9), np.full(9, 0.01), np.ones(9), seen[:, :2])
    path = rng.uniform(0.2, 0.8, (9, 2))
    followed = on_path(reading, path, view)
    again = view.see(followed.positions_m)
    np.testing.assert_allclose(again[1:, :2], path[1:], atol=1e-12)
    np.testing.assert_allclose(followed.positions_m[:, 2], reading.positions_m[:, 2], atol=1e-12)
    np.testing.assert_allclose(again[0], seen[0], atol=1e-12)
    level = view_of(ALONG)
    along = on_path(replace(reading, positions_m=level.place(seen)), path, level)
    np.testing.assert_allclose(level.see(along.positions_m)[:, 2], seen[:, 2], atol=1e-12)
    np.testing.assert_array_equal(followed.picture_norm[1:], path[1:])
    np.testing.assert_allclose(view.see(reading.positions_m), seen, atol=1e-12)
    with pytest.raises(PlannerError, match=r"must give \(9, 2\) finite places, got \(8, 2\)"):
        on_path(reading, path[:8], view)


def test_frames_that_a_planner_draws_again_keep_their_truth(world, tmp_path):
    """All steps kept: only the autoencoder; fewer: more and more the planner's own, and always the same for a seed."""
    config = config_for(world, max_steps=1, out=world / "planned_run")
    config.export.out = tmp_path / "planner.safetensors"
    train(config)
    export(config)
    write_states(tmp_path / "states", count=3)
    section = config_of(
        tmp_path, planner={"folder": world / "base", "lora": tmp_path / "planner.safetensors", "episodes": 2}
    ).readout
    frames = load_frames(section)
    frames = replace(frames, instructions=("push", "", "pick"))
    kept = {share: planned_pictures(frames, section.planner, 0, share) for share in (1.0, 0.5, 0.0)}
    assert sorted(kept[1.0]) == [*range(9), *range(18, 27)], "the episode without an instruction is left out"
    assert {key: value.tolist() for key, value in planned_pictures(frames, section.planner, 0, 0.5).items()} == {
        key: value.tolist() for key, value in kept[0.5].items()
    }
    first = section.planner.model_copy(update={"sources": 1})
    assert sorted(planned_pictures(replace(frames, source=(0, 1, 1)), first, 0)) == list(range(9))
    changed = [np.mean([np.abs(kept[1.0][n].astype(int) - made[n]).mean() for n in made]) for made in kept.values()]
    assert changed[0] == 0 < changed[1] < changed[2]
    fewer = planned_pictures(frames, section.planner.model_copy(update={"steps": 1}), 0, 0.0)
    assert sorted(fewer) == sorted(kept[0.0]) and any((fewer[n] != kept[0.0][n]).any() for n in fewer)
    draw = Batches(frames, section.model_copy(update={"batch_size": 8}), spec_for(section, frames))
    assert len(draw.made) == 1 and torch.isfinite(draw(torch.Generator().manual_seed(0))[0]).all()
    with pytest.raises(TrainingError, match="no episode has an instruction and 9 frames"):
        planned_pictures(replace(frames, instructions=("", "", "")), section.planner, 0)
    with pytest.raises(TrainingError, match="readout.size must be the planner's 32x32"):
        planned_pictures(replace(frames, pictures=frames.pictures[:, :16]), section.planner, 0)


def test_the_named_scale_does_not_excuse_the_place():
    place = torch.zeros(1, 3, requires_grad=True)
    scale = torch.full((1, 3), 2.0, requires_grad=True)
    readout_loss(place, scale, torch.zeros(1), torch.ones(1, 3), torch.ones(1)).backward()
    wide = place.grad.clone()
    place.grad = None
    readout_loss(place, scale.detach() - 4, torch.zeros(1), torch.ones(1, 3), torch.ones(1)).backward()
    assert torch.equal(wide, place.grad) and scale.grad.abs().sum() > 0


def test_states_of_another_format(tmp_path):
    """A LeRobot data set's states: robot coordinates, gripper by its column and range."""
    pytest.importorskip("pyarrow")
    pytest.importorskip("av")
    from simulation.joint_trajectory import JointTrajectory
    from simulation.lerobot_episode import write_lerobot

    steps = 101
    joints = np.linspace((0.3, 0.0, 0.1, 0, 0, 0), (0.5, 0.2, 0.3, 0, 0, 0), steps)
    actions = JointTrajectory(joints, np.linspace(0, 0.8, steps), joints[:, :3], tuple(range(0, 101, 25)), 1.0)
    write_lerobot(tmp_path / "data", actions, np.zeros((5, 32, 32, 3), np.uint8), "x")
    info = tmp_path / "data" / "meta" / "info.json"  # the simulator's episodes have joints; here they stand for places
    text = info.read_text()
    for number, axis in enumerate("xyz", 1):
        text = text.replace(f"joint_{number}", axis)
    info.write_text(text)
    section = config_of(
        tmp_path, source=[tmp_path / "data"], frames_per_episode=5, gripper_column=6, gripper_range=(0.0, 0.8)
    ).readout
    frames = load_frames(section)
    assert frames.views == () and len(frames.gripper) == 5
    np.testing.assert_array_equal(frames.seen, frames.places_m)
    np.testing.assert_allclose(frames.places_m[0], (0.3, 0.0, 0.1), atol=1e-6)
    assert frames.gripper[0] == 0.0 and frames.gripper[-1] > 0.95
    with pytest.raises(TrainingError, match="a column 9 with the gripper"):
        load_frames(section.model_copy(update={"gripper_column": 9}))


def test_the_command_names_what_is_missing(tmp_path, capsys):
    file = tmp_path / "c.yaml"
    file.write_text(f"readout: {{source: [{tmp_path / 'none'}], out: {tmp_path / 'o'}, model: {tmp_path / 'm'}}}")
    assert main(["readout", "--config", str(file)]) == 2
    assert f"source {tmp_path / 'none'} does not exist" in capsys.readouterr().err


def reading(places, errors, gripper):
    count = len(places)
    return Reading(np.asarray(places), np.asarray(gripper), np.asarray(errors), np.ones(count), np.zeros((count, 2)))


def test_sure_places_stay_and_a_doubtful_one_gives_way():
    places = np.linspace((0.3, 0.0, 0.2), (0.4, 0.08, 0.12), 9)
    straight = smooth_places(reading(places, np.full(9, 0.004), np.zeros(9)))
    np.testing.assert_allclose(straight, places, atol=1e-9)
    spoilt, errors = places.copy(), np.full(9, 0.004)
    spoilt[4] += (0.0, 0.1, 0.1)
    errors[4] = 0.08
    mended = smooth_places(reading(spoilt, errors, np.zeros(9)))
    assert np.linalg.norm(mended[4] - places[4]) < 0.5 * np.linalg.norm(spoilt[4] - places[4])
    assert np.linalg.norm(mended[[0, 1, 7, 8]] - places[[0, 1, 7, 8]], axis=1).max() < 0.004


def test_a_gripper_state_seen_once_in_doubt_is_not_believed():
    seen = np.array([0.02, 0.03, 0.02, 0.6, 0.02, 0.97, 0.98, 0.97, 0.03])
    assert gripper_states(seen).tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 0]
    sure = np.array([0.01, 0.99, 0.01, 0.99])
    assert gripper_states(sure).tolist() == [0, 1, 0, 1]
    keys = keyframes(reading(np.zeros((9, 3)), np.full(9, 0.004), seen))
    assert keys.shape == (9, 4) and keys[:, 3].tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 0]

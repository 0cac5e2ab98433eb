"""Commands of worlds: a scene, plans of a file, and the bounds of Meta-World that look at pictures."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from visual_planner.execution.camera import View
from visual_planner.execution.readout import ReadoutNet, ReadoutSpec
from worlds.__main__ import main
from worlds.metaworld.__main__ import main as metaworld
from worlds.metaworld.camera import CAMERAS
from worlds.metaworld.seen import measure_seen
from worlds.protocol import Viewpoint
from worlds.registry import WORLDS, open_world


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setitem(WORLDS, "toy", "support.toy_world:ToyWorld")


@pytest.mark.parametrize(
    ("world", "task", "camera"), [("metaworld", "faucet-open", "corner2"), ("toy", "left", "mirror")]
)
def test_the_first_frame_of_a_scene_is_written(world, task, camera, tmp_path, capsys):
    file = tmp_path / "new" / "first.png"
    how = [
        "scene",
        "--world",
        world,
        "--seed",
        "4",
        "--task",
        task,
        "--camera",
        camera,
        "--size",
        "32",
        "--out",
        str(file),
    ]
    assert main(how) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["seed"], told["task"], told["camera"]) == (4, task, camera)
    with open_world(world, 32) as opened:
        request = opened.draw(4, task, viewpoint=Viewpoint(camera))
        assert View(told["eye_m"], told["rays"]) == request.view
        with Image.open(file) as picture:
            assert np.array_equal(np.array(picture), opened.first_frame(request))


@pytest.mark.parametrize(("world", "task"), [("metaworld", "faucet-open"), ("toy", "left")])
def test_plans_of_a_file_are_executed(world, task, tmp_path, capsys):
    with open_world(world, 32) as opened:
        keys = opened.demonstrate(opened.draw(4, task)).keyframes
    true = {
        "id": "true",
        "seed": 4,
        "task": task,
        "end_effector_m": keys[:, :3].tolist(),
        "gripper": keys[:, 3].tolist(),
    }
    still = true | {"id": "still", "end_effector_m": [keys[0, :3].tolist()] * 9, "gripper": [0] * 9}
    file = tmp_path / "plans.jsonl"
    file.write_text(json.dumps(true) + "\n" + json.dumps(still) + "\n")
    out, frames = tmp_path / "results.jsonl", tmp_path / "frames"
    how = ["execute", "--world", world, str(file), "--out", str(out), "--frames", str(frames), "--size", "32"]
    assert main(how) == 0
    results = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(line["plan"], line["success"]) for line in results] == [("plan true", True), ("plan still", False)]
    with Image.open(results[0]["frames"]) as strip:
        assert strip.size == (9 * 32, 32)
    assert capsys.readouterr().out.endswith(f"{task}: 1 of 2 succeeded\n")
    assert main(["execute", "--world", world, str(file), "--limit", "1"]) == 0
    assert "1 of 1 succeeded" in capsys.readouterr().out


PLAN = {"seed": 1, "task": "left", "end_effector_m": [[0.5, 0.5, 0.1]] * 2, "gripper": [0, 0]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the plan file .* is not JSON|must be JSON"),
        ("[]", "holds no plan"),
        ("[1]", "plan 0 must be a JSON object with seed, task, end_effector_m, gripper, got int"),
        (json.dumps({"id": "a", "seed": 1}), "plan a lacks task, end_effector_m, gripper"),
        (json.dumps(PLAN | {"seed": -1}), "plan 0: seed must be a whole number from 0, got -1"),
        (json.dumps(PLAN | {"task": 3}), "plan 0: task must be a task's name, got 3"),
        (json.dumps(PLAN | {"task": "up"}), "task must be one of left, right in world toy, got 'up'"),
        (json.dumps(PLAN | {"begins": 0.5}), "starts in the middle of its task"),
        (json.dumps(PLAN | {"gripper": [0, None]}), "gripper a finite number for each"),
        (json.dumps(PLAN | {"gripper": [0]}), "for each of two or more frames"),
        (json.dumps(PLAN | {"camera": "behind"}), "camera must be one of above, mirror in world toy, got 'behind'"),
    ],
)
def test_a_plan_that_is_none_is_named(text, message, tmp_path, capsys):
    file = tmp_path / "plans.json"
    file.write_text(text)
    assert main(["execute", "--world", "toy", str(file), "--out", str(tmp_path / "never.jsonl")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and not (tmp_path / "never.jsonl").exists()
    assert re.search(message, error), error


def test_an_arm_that_cannot_get_there_is_a_failure_with_its_reason(tmp_path, capsys):
    file = tmp_path / "plans.json"
    file.write_text(json.dumps(PLAN | {"end_effector_m": [[0.5, 0.5, 0.1], [0.5, 0.5, 3.0]]}))
    assert main(["execute", "--world", "toy", str(file)]) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[0])
    assert line["success"] is False and "cannot get 3.0 m high" in line["reason"]


# ---- bounds that look at pictures


def test_true_frames_that_are_read_right_do_the_task_from_every_camera():
    known = {}
    with open_world("metaworld", 32) as world:
        for seed in range(2):
            for camera in CAMERAS:
                shown = world.demonstrate(world.draw(seed, "faucet-open", viewpoint=Viewpoint(camera)))
                known[shown.frames.tobytes()] = shown.keyframes
    changed = []

    def read(frames, view):
        return known[frames.tobytes()]

    def through(frames):
        changed.append(frames.shape)
        return frames

    result = measure_seen(range(2), read, through, ("faucet-open",), size=32, progress=False)
    assert result == {row: {"faucet-open": dict.fromkeys(CAMERAS, 2)} for row in ("true_frames", "autoencoder")}
    assert changed == [(9, 32, 32, 3)] * 6


def test_bounds_with_a_readout_are_written(tmp_path, capsys):
    torch.manual_seed(0)
    with open_world("metaworld", 32) as world:
        view = world.draw(0, "door-close").view
    spec = ReadoutSpec(
        height=32, width=32, channels=(8, 8), points=4, view=view, sees_camera=True, mean=(0.5, 0.5, 1.5)
    )
    save_file(ReadoutNet(spec).state_dict(), tmp_path / "readout.safetensors", metadata=spec.to_metadata())
    how = ["bounds", "--seeds", "0", "2", "--tasks", "door-close", "--quiet", "--out", str(tmp_path / "x.json")]
    assert metaworld([*how, "--readout", str(tmp_path), "--look", "shadows"]) == 0
    result = json.loads((tmp_path / "x.json").read_text())
    assert set(result["successes_of_camera"]["true_frames"]["door-close"]) == set(CAMERAS)
    assert result["look"] == "shadows" and "true_frames" in result["rows"] and "autoencoder" not in result["rows"]
    assert result["successes"]["true_keyframes"] == {"door-close": 2}
    assert "(three cameras)" in capsys.readouterr().out
    assert metaworld([*how, "--planner", str(tmp_path)]) == 2
    assert "--planner needs --readout" in capsys.readouterr().err
    assert metaworld([*how, "--readout", str(tmp_path / "none")]) == 2
    assert "python -m training readout" in capsys.readouterr().err


def test_the_two_looks_differ_and_show_the_same_scene():
    pictures = {}
    for look in ("plain", "shadows"):
        with open_world("metaworld", 64, look) as world:
            pictures[look] = world.first_frame(world.draw(2, "hammer")).astype(int)
    away = np.abs(pictures["plain"] - pictures["shadows"])
    assert 0.5 < away.mean() < 40

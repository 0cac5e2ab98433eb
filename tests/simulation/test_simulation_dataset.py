"""The data set writer and the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from simulation.camera import FRONT
from simulation.dataset import DatasetOptions, write_dataset
from simulation.errors import SimulationError
from simulation.execution import execute
from simulation.plans import read_plans
from support.groups import at_work, kill_head


def _tree(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _picture(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def dataset(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "one"
    write_dataset(folder, DatasetOptions(episodes=6, seed=3), processes=1, progress=False)
    return folder


def test_two_processes_write_what_one_writes(dataset, tmp_path):
    write_dataset(tmp_path / "two", DatasetOptions(episodes=6, seed=3), processes=2, progress=False)
    one, two = _tree(dataset), _tree(tmp_path / "two")
    assert len(one) == 6 + 2 and one == two
    assert list(tmp_path.iterdir()) == [tmp_path / "two"]


def test_a_data_set_is_what_its_head_says(dataset):
    head = json.loads((dataset / "dataset.json").read_text())
    expected = {"format": "visual_planner.episodes", "version": 1, "frames": 9, "height": 64, "width": 64}
    assert expected.items() <= head.items()
    assert head["kind"] == "demonstrations" and head["episodes"] == 6 and head["seed"] == 3
    records = [json.loads(line) for line in (dataset / "episodes.jsonl").read_text().splitlines()]
    assert [record["id"] for record in records] == [f"{n:06d}" for n in range(6)]
    assert sum(head["episodes_of_task"].values()) == 6 and all(record["success"] for record in records)
    for record in records:
        picture = _picture(dataset / "frames" / f"{record['id']}.png")
        assert picture.shape == (64, 9 * 64, 3) and picture.dtype == np.uint8


def test_the_lines_of_a_data_set_can_be_executed(dataset, blind_world):
    plans = read_plans(dataset / "episodes.jsonl")
    assert len(plans) == 6
    assert all(execute(plan.keyframes, plan.scene, plan.task, blind_world).success for plan in plans)


def test_more_frames_show_the_same_motions_and_can_be_executed(dataset, blind_world, tmp_path):
    head = write_dataset(tmp_path / "17", DatasetOptions(episodes=3, seed=3, frames=17), progress=False)
    assert head["frames"] == 17 and head["seconds_per_frame"] == 0.25
    few = [json.loads(line) for line in (dataset / "episodes.jsonl").read_text().splitlines()[:3]]
    many = [json.loads(line) for line in (tmp_path / "17" / "episodes.jsonl").read_text().splitlines()]
    for nine, seventeen in zip(few, many, strict=True):
        assert seventeen["end_effector_m"][::2] == nine["end_effector_m"]
        assert seventeen["path_px"] == nine["path_px"]
        pictures = [_picture(folder / "frames" / f"{nine['id']}.png") for folder in (dataset, tmp_path / "17")]
        split = [picture.reshape(64, -1, 64, 3).swapaxes(0, 1) for picture in pictures]
        assert np.array_equal(split[1][::2], split[0])
    plans = read_plans(tmp_path / "17" / "episodes.jsonl")
    assert all(execute(p.keyframes, p.scene, p.task, blind_world, plan_frames=17).success for p in plans)


def test_play_and_held_out_wordings_are_recorded(world, tmp_path):
    head = write_dataset(tmp_path / "p", DatasetOptions(episodes=2, policy="play", size=32), progress=False)
    assert head["kind"] == "play" and head["height"] == 32
    head = write_dataset(
        tmp_path / "h", DatasetOptions(episodes=2, tasks=("reach",), wordings="held_out"), progress=False
    )
    assert head["wordings"] == "held_out" and head["episodes_of_task"]["reach"] == 2


def test_a_share_of_the_episodes_begins_later(blind_world, tmp_path):
    options = DatasetOptions(episodes=12, seed=3, tasks=("reach",), size=16, later_share=0.5, camera_turn_deg=40)
    head = write_dataset(tmp_path / "later", options, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "later" / "episodes.jsonl").read_text().splitlines()]
    later = [line["begins"] for line in lines if line["begins"]]
    assert head["later_share"] == 0.5 and 2 <= len(later) <= 10 and all(0 < begins <= 0.75 for begins in later)
    assert len(set(later)) == len(later)
    assert all(line["camera"] == FRONT.turned(40).to_json() for line in lines)
    with pytest.raises(SimulationError, match="plan \\d+ starts in the middle of its task,"):
        read_plans(tmp_path / "later" / "episodes.jsonl")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episodes": 1, "later_share": 1.5}, "later_share must be 0 to 1, got 1.5"),
        ({"episodes": 1, "policy": "play", "later_share": 0.5}, "play, which has no task to start in the middle of"),
        ({"episodes": 0}, "episodes must be at least 1, got 0"),
        ({"episodes": 1, "seed": -1}, "seed must not be negative"),
        ({"episodes": 1, "size": 7}, "size must be 16 to 512 px, got 7"),
        ({"episodes": 1, "policy": "dance"}, "policy must be one of demonstration, play"),
        ({"episodes": 1, "tasks": ("dig",)}, "tasks must be some of"),
        ({"episodes": 1, "wordings": "rude"}, "`wordings` must be one of"),
        ({"episodes": 1, "camera_turn_deg": 120.0}, "camera_turn must be -90 to 90 degrees, got 120.0"),
        ({"episodes": 1, "camera_jitter_m": 3.0}, "camera_jitter must be 0 to 0.2"),
        ({"episodes": 1, "frames": 1}, "frames must be 2 to 64, got 1"),
        ({"episodes": 1, "policy": "play", "frames": 16}, "frames must be 9 for play, got 16:"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(SimulationError, match=message):
        DatasetOptions(**options)


def test_a_folder_in_the_way_is_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(SimulationError, match="exists already"):
        write_dataset(tmp_path, DatasetOptions(episodes=1), progress=False)
    assert (tmp_path / "mine.txt").read_text() == "keep"
    with pytest.raises(SimulationError, match="processes must be at least 1"):
        write_dataset(tmp_path / "x", DatasetOptions(episodes=1), processes=0)


def test_a_data_set_that_cannot_be_written_leaves_nothing(world, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SimulationError, match="cannot be written"):
        write_dataset(tmp_path / "file" / "data", DatasetOptions(episodes=1), progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_opengl_there_is_one_clear_line_and_no_folder(command, tmp_path):
    done = command("demonstrate", "--episodes", 1, "--out", tmp_path / "d", MUJOCO_GL="disable")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ") and "libegl1" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_commands_write_a_first_frame_and_an_execution(world, command, dataset, tmp_path):
    done = command("scene", "--seed", 9, "--task", "push", "--out", tmp_path / "first.png")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["task"] == "push" and answer["target"] in answer["instruction"]
    assert _picture(tmp_path / "first.png").shape == (64, 64, 3)
    done = command("execute", dataset / "episodes.jsonl", "--limit", 1, "--frames", tmp_path / "out")
    assert done.returncode == 0 and "1 of 1 succeeded" in done.stderr
    assert _picture(json.loads(done.stdout)["frames"]).shape == (64, 9 * 64, 3)


def test_a_bad_argument_gets_one_line(command, tmp_path):
    for arguments in (("execute", tmp_path / "none.json"), ("scene", "--seed", -1, "--out", tmp_path / "x.png")):
        done = command(*arguments)
        assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


@pytest.fixture
def writer(tmp_path):
    """A data set writer with two workers, at work."""
    arguments = ["demonstrate", "--episodes", "5000", "--processes", "2", "--out", str(tmp_path / "d"), "--quiet"]
    begun = lambda: bool(list(tmp_path.rglob("*.png")))  # noqa: E731
    with at_work(["simulation", *arguments], begun, stderr=subprocess.PIPE, text=True) as process:
        yield process


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize(("send", "number"), [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)])
def test_a_stopped_writer_leaves_nothing(writer, tmp_path, send, number):
    send(writer.pid, number)  # a terminal's Ctrl-C goes to the whole group, a service's end to the one process
    _, errors = writer.communicate(timeout=60)
    assert writer.returncode == 128 + number and errors == "stopped; no data set was written\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups")
def test_no_worker_outlives_a_killed_writer(writer):
    kill_head(writer)

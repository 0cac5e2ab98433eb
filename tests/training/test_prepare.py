"""Prepare: options, overlays, splits, and going on after a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from support.small_world import SPEC, write_episodes
from training.__main__ import main
from training.data import pairs as pairs_module
from training.data.choice.rules import choose_frames, path_of_states, plan_time
from training.data.overlays import cvat, drawn, open_overlay, projected, tracked
from training.data.prepare import prepare
from training.data.sources import Entry, Source, open_source
from training.data.splits import find_leaks, ranks, split_episodes
from training.errors import TrainingError
from training.sections.config import Config

DATA = Path(__file__).parent / "data"
ROOT = Path(__file__).resolve().parents[2]


def config(folder, source, spec=None, **settings):
    section = {"source": source, "out": folder / "pairs", "processes": 1, "validation_episodes": 1, **settings}
    return Config.model_validate({"spec": {**SPEC, "modes": ["text"], **(spec or {})}, "prepare": section})


def lines_of(folder):
    return [json.loads(line) for line in (folder / "pairs" / "pairs.jsonl").read_text().splitlines()]


def read(file):
    with Image.open(file) as image:
        return np.array(image)


@pytest.mark.parametrize("name", ["lerobot/v30_video", "lerobot/v30_image", "lerobot/v21", "rlds/bridge_dataset"])
def test_each_cell_holds_its_frame(tmp_path, name):
    prepare(config(tmp_path, DATA / name))
    pairs = lines_of(tmp_path)
    assert [pair["split"] for pair in pairs] == ["train", "train", "validation"]
    source = open_source(DATA / name)
    for pair, entry in zip(pairs, source.entries, strict=True):
        chosen = np.linspace(0, entry.length - 1, 9).round().astype(int)
        shades = source.frames(entry, chosen.tolist())[:, 0, 0, 0].astype(int)
        grid = read(tmp_path / "pairs" / pair["target"]).astype(int)
        for cell, frame in enumerate((0, 1, 2, 5, 4, 3, 6, 7, 8)):
            top, left = cell // 3 * 32, cell % 3 * 32
            # a frame of 4:3 in a square cell: a bar above and below, the frame between
            assert abs(grid[top + 16, left + 16, 0] - shades[frame]) <= 2
            assert not grid[top, left : left + 32].any()
        assert pair["text"] == f"nine frames: {entry.instruction}"
    info = json.loads((tmp_path / "pairs" / "dataset.json").read_text())
    assert info["statistics"]["length_frames"] == {"min": 10, "median": 13.0, "max": 16}
    with Image.open(tmp_path / "pairs" / "contact_sheet.jpg") as sheet:
        assert min(sheet.size) > 100


def test_crop_fills_the_cell(tmp_path):
    prepare(config(tmp_path, DATA / "lerobot" / "v21", fit="crop"))
    assert read(tmp_path / "pairs" / "targets" / "000000.png").min() > 20


def test_the_choice_of_frames():
    assert choose_frames(17, 9).tolist() == list(range(0, 17, 2))
    assert choose_frames(3, 5).tolist() == [0, 1, 2, 2, 2]
    motion = np.zeros(101)
    motion[41:61] = 10.0
    trimmed = choose_frames(101, 9, "trim", motion)
    assert 38 <= trimmed[0] <= 41 and 60 <= trimmed[-1] <= 63
    lively = choose_frames(101, 9, "motion", motion)
    assert (lively[0], lively[-1]) == (0, 100) and np.sum((lively >= 40) & (lively <= 61)) >= 7
    for rule in ("uniform", "motion", "trim"):
        for seed in range(30):
            noise = np.random.default_rng(seed).random(12) ** 8
            chosen = choose_frames(12, 9, rule, noise)
            assert len(chosen) == 9 and (np.diff(chosen) > 0).all() and chosen[0] >= 0 and chosen[-1] < 12
    assert plan_time(np.array([0, 5, 10, 15, 20]), np.array([0, 10, 20])).tolist() == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize(("rule", "episodes"), [("drop", 1), ("repeat", 3)])
def test_short_episodes(tmp_path, rule, episodes):
    layout = {"rows": 4, "cols": 4}
    prepare(config(tmp_path, DATA / "lerobot" / "v21", layout, short=rule, validation_episodes=0))
    assert len(lines_of(tmp_path)) == episodes
    left_out = json.loads((tmp_path / "pairs" / "dataset.json").read_text())["left_out"]
    assert len(left_out) == 3 - episodes
    with pytest.raises(
        TrainingError, match=r"2 of 3 episodes cannot be used: episode 000000 .* has 10 frames, the grid"
    ):
        prepare(config(tmp_path / "other", DATA / "lerobot" / "v21", layout))


def test_all_problems_come_at_once_and_can_be_skipped(tmp_path):
    write_episodes(tmp_path / "episodes")
    file = tmp_path / "episodes" / "episodes.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[1]["instruction"] = "  "
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    strip = tmp_path / "episodes" / "frames" / "000004.png"
    strip.write_bytes(strip.read_bytes()[:200])
    with pytest.raises(TrainingError) as caught:
        prepare(config(tmp_path, tmp_path / "episodes"))
    assert "2 of 6 episodes cannot be used" in str(caught.value)
    assert "episode 000001" in str(caught.value) and "empty instruction" in str(caught.value)
    assert str(strip) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "pairs").exists()
    prepare(config(tmp_path, tmp_path / "episodes", broken="skip"))
    assert {pair["episode"] for pair in lines_of(tmp_path)} == {"000000", "000002", "000003", "000005"}


def test_two_episodes_of_one_name_are_refused(tmp_path):
    write_episodes(tmp_path / "episodes")
    file = tmp_path / "episodes" / "episodes.jsonl"
    file.write_text(file.read_text().replace('"id": "000002"', '"id": "000001"'))
    with pytest.raises(TrainingError, match="names 1 episodes more than once: 000001"):
        prepare(config(tmp_path, tmp_path / "episodes"))


def test_ready_grids_with_either_word_for_the_caption(tmp_path):
    folder = tmp_path / "grids"
    folder.mkdir()
    rows = []
    for number, key in enumerate(("text", "caption", "text")):
        for name in ("source", "target"):
            Image.new("RGB", (96, 96), (number + 10, 0, 0)).save(folder / f"{name}{number}.png")
        rows.append({"source": f"source{number}.png", "target": f"target{number}.png", key: f"Prompt {number}."})
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    prepare(config(tmp_path, folder))
    pairs = lines_of(tmp_path)
    assert [pair["text"] for pair in pairs] == ["Prompt 0.", "Prompt 1.", "Prompt 2."]
    assert read(tmp_path / "pairs" / pairs[1]["target"])[5, 5, 0] == 11
    Image.new("RGB", (96, 80)).save(folder / "target1.png")
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(TrainingError, match=r"grid .*source1\.png is \(96, 96\) .*target1\.png is \(80, 96\)"):
        prepare(config(tmp_path / "other", folder))


def test_varied_prompts_and_a_file_of_them(tmp_path):
    write_episodes(tmp_path / "episodes")
    prepare(config(tmp_path, tmp_path / "episodes", prompts="varied"))
    texts = {pair["text"].replace(f"number {int(pair['episode'])}", "") for pair in lines_of(tmp_path)}
    assert len(texts) > 2
    (tmp_path / "sentences.txt").write_text("do {instruction}\nplease {instruction} now\nno slot\n")
    with pytest.raises(
        TrainingError.__mro__[1], match=r"sentences\.txt line 3 must contain \{instruction\} exactly once"
    ):
        prepare(config(tmp_path / "b", tmp_path / "episodes", prompts=str(tmp_path / "sentences.txt")))


def test_splits_do_not_leak_and_subsets_are_nested():
    firsts = {f"{n:03d}": str(n // 2 if n < 20 else n) for n in range(60)}  # pairs of twins among the first twenty
    for rule in ("last", "random"):
        for count in (1, 7, 25, 45):
            kept = split_episodes(firsts, count, rule, seed=count)
            assert 0 < len(kept) <= count
            pairs = [{"episode": name, "split": "validation" if name in kept else "train"} for name in firsts]
            assert find_leaks(pairs, firsts) == []
    assert split_episodes(firsts, 3) == {"057", "058", "059"}
    grown = split_episodes({**firsts, "new": "new"}, 20, "random") ^ split_episodes(firsts, 20, "random")
    assert len(grown) <= 4  # one episode more does not shuffle the others
    with pytest.raises(TrainingError, match="identical first frames come in groups larger than 2"):
        split_episodes(dict.fromkeys("abcd", "same"), 2)
    leaks = find_leaks(
        [{"episode": "a", "split": "train"}, {"episode": "b", "split": "validation"}], {"a": "x", "b": "x"}
    )
    assert leaks == ["episode b (validation) has the first frame of episode a (training)"]
    order = ranks(list("abcdefgh"), 0)
    assert sorted(order.values()) == list(range(8))


def test_subsets_are_in_the_folder(tmp_path):
    write_episodes(tmp_path / "episodes")
    prepare(config(tmp_path, tmp_path / "episodes", subsets=[2, 4], validation_episodes=2))
    subsets = json.loads((tmp_path / "pairs" / "dataset.json").read_text())["subsets"]
    assert len(subsets["2"]) == 2 and len(subsets["4"]) == 4 and subsets["4"][:2] == subsets["2"]
    first = {pair["episode"] for pair in lines_of(tmp_path) if pair.get("rank", 9) < 2}
    assert first == set(subsets["2"])


class Still(Source):
    """Episodes in memory: textured square that moves over a still ground."""

    format = "test"

    def __init__(self, states=None, size=(96, 128)):
        super().__init__(Path("memory"), [Entry("a", "push", 12, "memory")], "front", ("front",))
        rng = np.random.default_rng(0)
        self.ground = cv2.GaussianBlur(rng.integers(0, 255, (*size, 3), dtype=np.uint8), (5, 5), 2)
        self.patch, self.states = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8), states

    def frames(self, entry, indices):
        frames = []
        for index in indices:
            frame = self.ground.copy()
            frame[40 : 40 + 16, 20 + 4 * index : 36 + 4 * index] = self.patch
            frames.append(frame)
        return np.stack(frames)

    def positions(self, entry, states):
        return self.states


CHOSEN = np.linspace(0, 11, 9).round().astype(int)


@pytest.mark.parametrize("mask", [False, True])
def test_tracked_points_follow_what_was_clicked(tmp_path, mask):
    if mask:
        picture = np.zeros((96, 128), np.uint8)
        picture[40:56, 20:36] = 255
        Image.fromarray(picture).save(tmp_path / "a.png")
        paths = tracked.TrackedPaths(tmp_path, "")
    else:
        (tmp_path / "clicks.json").write_text('{"*": [28, 48]}')
        paths = tracked.TrackedPaths(tmp_path / "clicks.json", "")
    source = Still()
    trajectory = paths(source, source.entries[0], CHOSEN, (96, 128))
    places = trajectory.resample(9)[:, 0]
    assert np.abs(places[:, 0] - (28 + 4 * CHOSEN)).max() < 2.5 and np.abs(places[:, 1] - 48).max() < 1.5


def test_a_lost_point_is_an_error():
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (64, 64), dtype=np.uint8) for _ in range(3)]
    mask = np.zeros((64, 64), np.uint8)
    mask[30:34, 30:34] = 1
    with pytest.raises(TrainingError, match="the end effector of episode 7 is lost at frame"):
        for attempt in range(20):
            tracked.follow(frames[::-1] if attempt % 2 else frames, (np.array([32.0, 32.0]), mask), "episode 7")
            frames = [rng.integers(0, 255, (64, 64), dtype=np.uint8) for _ in range(3)]


def camera_file(folder, **changes):
    turn = cv2.Rodrigues(np.array([0.2, -0.3, 0.1]))[0]
    camera = {
        "intrinsics": [[100.0, 0, 64], [0, 110.0, 48], [0, 0, 1]],
        "extrinsics": np.column_stack([turn, [0.1, -0.05, 2.0]]).tolist(), "width": 128, "height": 96, **changes,
    }  # fmt: skip
    (folder / "cameras.json").write_text(json.dumps({"cameras": {"front": camera}}))
    return folder / "cameras.json", turn


def test_projection_is_opencvs_own(tmp_path):
    places = np.cumsum(np.random.default_rng(0).normal(0, 0.05, (12, 3)), axis=0)
    file, turn = camera_file(tmp_path)
    source = Still(places)
    trajectory = projected.ProjectedPaths(file, "")(source, source.entries[0], np.arange(12), (96, 128))
    inner = np.array([[100.0, 0, 64], [0, 110.0, 48], [0, 0, 1]])
    expected = cv2.projectPoints(places, cv2.Rodrigues(turn)[0], np.array([0.1, -0.05, 2.0]), inner, None)[0][:, 0]
    assert np.abs(np.array([(p.x, p.y) for p in trajectory.paths[0].points]) - expected).max() < 1e-3
    assert [p.t for p in trajectory.paths[0].points] == pytest.approx(np.linspace(0, 1, 12))


def test_states_that_are_not_numbers_are_named(tmp_path):
    places = np.zeros((12, 3))
    places[5] = np.nan
    source = Still(places)
    paths = projected.ProjectedPaths(camera_file(tmp_path)[0], "")
    with pytest.raises(TrainingError, match=r"states of episode a \(memory\) are not numbers at frame 5"):
        paths(source, source.entries[0], CHOSEN, (96, 128))
    source.states = np.zeros((12, 3)) - 5
    with pytest.raises(TrainingError, match="lies behind the camera"):
        paths(source, source.entries[0], CHOSEN, (96, 128))


def test_drawn_paths_and_annotations(tmp_path):
    source = Still()
    record = {
        "version": 1,
        "width": 256,
        "height": 192,
        "paths": [{"points": [{"x": 2, "y": 4}, {"x": 200, "y": 100}]}],
    }
    (tmp_path / "a.json").write_text(json.dumps(record))
    trajectory = drawn.DrawnPaths(tmp_path, "")(source, source.entries[0], CHOSEN, (96, 128))
    assert [(p.x, p.y) for p in trajectory.paths[0].points] == [(1, 2), (100, 50)]
    images = tmp_path / "images.xml"
    images.write_text(
        '<annotations><version>1.1</version><image id="0" name="a.png" width="128" height="96">'
        '<polyline label="gripper" points="1.0,2.0;30.5,40.0"/></image></annotations>'
    )
    trajectory = cvat.CvatPaths(images, "")(source, source.entries[0], CHOSEN, (96, 128))
    assert [(p.x, p.y) for p in trajectory.paths[0].points] == [(1, 2), (30.5, 40)]
    video = tmp_path / "a.xml"
    shapes = "".join(
        f'<points frame="{f}" outside="{int(f > 9)}" keyframe="1" points="{f * 10}.0,20.0"/>' for f in (0, 5, 9, 11)
    )
    video.write_text(
        "<annotations><meta><task><name>x</name><original_size><width>128</width><height>96</height></original_size>"
        f'</task></meta><track id="0" label="hand">{shapes}</track></annotations>'
    )
    trajectory = cvat.CvatPaths(tmp_path, "")(source, source.entries[0], np.array([0, 5, 10]), (96, 128))
    assert [(p.x, p.t) for p in trajectory.paths[0].points] == [(0, 0.0), (50, 0.5), (90, 0.9), (90, 1.0)]
    video.write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>')
    with pytest.raises(TrainingError, match=r"a\.xml must not declare a document type"):
        cvat.CvatPaths(tmp_path, "")(source, source.entries[0], CHOSEN, (96, 128))


def test_a_mode_that_shows_a_path_needs_one(tmp_path):
    with pytest.raises(TrainingError, match=r"modes both need a path, .* has none: choose prepare\.overlay from"):
        open_overlay("auto", Still(), None, "", ["text", "both"])
    assert open_overlay("auto", Still(), None, "", ["text"]) is None
    assert open_overlay("none", Still(), None, "", ["text"]) is None
    assert isinstance(open_overlay("tracked", Still(), tmp_path, "", ["text"]), tracked.TrackedPaths)


def test_a_full_disk_keeps_what_is_finished_and_the_command_goes_on(tmp_path, monkeypatch):
    write_episodes(tmp_path / "episodes")
    written = Counter()
    whole = Path.write_bytes

    def full(self, data):
        written["files"] += 1
        if written["files"] > 5:
            raise OSError(28, "No space left on device")
        return whole(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(TrainingError, match=r"cannot be written: No space left on device \(finished work is kept"):
            prepare(config(tmp_path, tmp_path / "episodes"))
    assert not (tmp_path / "pairs").exists()
    made = Counter()
    process = pairs_module.process
    monkeypatch.setattr(
        "training.data.prepare.process", lambda job, entry: made.update([entry.id]) or process(job, entry)
    )
    prepare(config(tmp_path, tmp_path / "episodes"))
    assert set(made) == {"000002", "000003", "000004", "000005"}
    prepare(config(tmp_path / "whole", tmp_path / "episodes"))
    files = sorted(p.relative_to(tmp_path / "pairs") for p in (tmp_path / "pairs").rglob("*.png"))
    assert len(files) == 12
    for file in [*files, Path("pairs.jsonl"), Path("manifest.json")]:
        assert (tmp_path / "pairs" / file).read_bytes() == (tmp_path / "whole" / "pairs" / file).read_bytes()
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_killed_run_goes_on(tmp_path):
    write_episodes(tmp_path / "episodes", count=400)
    options = {"source": tmp_path / "episodes", "out": tmp_path / "pairs", "cell": "32x32", "processes": 1}
    arguments = [f"--{name}={value}" for name, value in {**options, "validation-episodes": 3}.items()]
    command = [sys.executable, "-m", "training", "prepare", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    done = tmp_path / ".pairs.part" / "done.jsonl"
    deadline = time.monotonic() + 500  # a busy machine takes its time to start a process
    while time.monotonic() < deadline and not (done.is_file() and done.read_bytes().count(b"\n") > 3):
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = done.read_bytes().count(b"\n")
    assert 3 < finished < 400
    with done.open("ab") as stream:
        stream.write(b'{"id": "0003')  # as a kill in the middle of a line leaves it
    assert main(command[3:]) == 0
    assert len({pair["episode"] for pair in lines_of(tmp_path)}) == 400


def test_another_setting_begins_anew(tmp_path, capsys):
    write_episodes(tmp_path / "episodes")
    strip = tmp_path / "episodes" / "frames" / "000004.png"
    content = strip.read_bytes()
    strip.write_bytes(content[:200])
    with pytest.raises(TrainingError, match="1 of 6 episodes"):
        prepare(config(tmp_path, tmp_path / "episodes"))
    strip.write_bytes(content)
    prepare(config(tmp_path, tmp_path / "episodes", {"text_prompt": "other: {instruction}"}))
    assert "starting over" in capsys.readouterr().out
    assert all(pair["text"].startswith("other: ") for pair in lines_of(tmp_path))


def test_an_unwritable_folder_is_a_line(tmp_path, capsys):
    write_episodes(tmp_path / "episodes")
    (tmp_path / "file").write_text("")
    arguments = ["prepare", "--source", tmp_path / "episodes", "--out", tmp_path / "file" / "pairs", "--cell", "32x32"]
    assert main([*map(str, arguments), "--validation-episodes", "1", "--processes", "1"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "file/pairs cannot be written: " in error


# ---- frames by the shape of the path


def _bent(folder, key="end_effector_m"):
    """Episodes of 40 frames whose gripper goes down, closes while it stands, and goes up: three corners."""
    write_episodes(folder, count=3)
    info = json.loads((folder / "dataset.json").read_text()) | {"frames": 40}
    (folder / "dataset.json").write_text(json.dumps(info))
    down, up = np.linspace(0.3, 0.05, 15), np.linspace(0.05, 0.3, 21)
    height = np.concatenate([down, [0.05] * 4, up])
    closed = (np.arange(40) >= 17).astype(float)
    lines = []
    for line in (folder / "episodes.jsonl").read_text().splitlines():
        record = json.loads(line)
        strip = folder / "frames" / f"{record['id']}.png"
        frame = read(strip)[:, :32]
        Image.fromarray(np.concatenate([np.roll(frame, number, 0) for number in range(40)], axis=1)).save(strip)
        record |= {key: [[0.4, 0.0, z] for z in height], "gripper": closed.tolist()}
        lines.append(json.dumps(record))
    (folder / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_frames_by_shape_have_the_corners_of_the_path(tmp_path):
    source = _bent(tmp_path / "episodes")
    prepare(config(tmp_path, source, {"rows": 1, "cols": 5}, frames="shape"))
    info = json.loads((tmp_path / "pairs" / "dataset.json").read_text())
    assert info["spec"]["keyframes"] == "shape", "the planner's record says how its frames are spaced"
    opened = open_source(source)
    path = path_of_states(opened.positions(opened.entries[0], ""), 3)
    chosen = choose_frames(40, 5, "shape", path=path)
    assert np.abs(chosen - [0, 14, 16, 18, 39]).max() <= 2, "down, closed, up"
    even = choose_frames(40, 5)
    assert abs(int(chosen[1]) - 14) <= 1 and abs(int(even[1]) - 14) > 3, "even frames miss the lowest point's start"


def test_states_of_a_lerobot_data_set_choose_its_frames(tmp_path):
    prepare(config(tmp_path, DATA / "lerobot" / "v30_video", frames="shape"))
    for name in ("lerobot/v30_video", "rlds/jaco_play"):
        source = open_source(DATA / name)
        entry = source.entries[0]
        path = path_of_states(source.positions(entry, ""))
        chosen = choose_frames(entry.length, 9, "shape", path=path)
        assert chosen[0] == 0 and chosen[-1] == entry.length - 1 and (np.diff(chosen) > 0).all()


@pytest.mark.parametrize(
    ("states", "how", "message"),
    [
        (np.zeros((9, 2)), {}, "states must have 3 or more columns .* got shape \\(9, 2\\)"),
        (np.zeros((9, 3)), {"gripper_column": 3}, "prepare.gripper_column must be a column of 3 states, got 3"),
        (np.full((9, 3), np.nan), {}, "states must be finite numbers, got 9 rows"),
        (np.zeros((9, 4)), {"gripper_column": 3, "gripper_range": (1, 1)}, "two different numbers, got 1 twice"),
    ],
)
def test_states_that_are_no_path_are_named(states, how, message):
    with pytest.raises(TrainingError, match=message):
        path_of_states(states, **how)


def test_a_source_without_states_cannot_be_chosen_from_by_shape(tmp_path):
    folder = write_episodes(tmp_path / "episodes")
    with pytest.raises(TrainingError, match="6 of 6 episodes cannot be used: episode 000000 .* has no usable states"):
        prepare(config(tmp_path, folder, frames="shape"))


def test_a_configuration_that_says_other_spacing_is_refused(tmp_path):
    folder = write_episodes(tmp_path / "episodes")
    with pytest.raises(TrainingError, match="spec.keyframes must be time for these frames, got shape"):
        prepare(config(tmp_path, folder, {"keyframes": "shape"}))
    info = json.loads((folder / "dataset.json").read_text()) | {"keyframes": "shape"}
    (folder / "dataset.json").write_text(json.dumps(info))
    prepare(config(tmp_path, folder))
    assert json.loads((tmp_path / "pairs" / "dataset.json").read_text())["spec"]["keyframes"] == "shape"

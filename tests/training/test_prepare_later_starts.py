"""Later starts: pairs that begin in the middle of an episode, with its path and its times cut accordingly."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.data_files import lines_of
from support.small_world import SPEC
from training.data.check import check_pairs
from training.data.choice import episode as choice
from training.data.prepare import prepare
from training.data.sources import Entry, open_source
from training.evaluation.scenes import open_scenes
from training.sections.config import Config
from training.sections.data import PrepareSection
from visual_planner.planner.spec import PlannerSpec
from visual_planner.trajectory.path import DrawnPath
from visual_planner.trajectory.trajectory import Trajectory

DATA = Path(__file__).parent / "data"
SIDE, LENGTH = 32, 40


def moving(folder, episodes=6, length=LENGTH):
    """Folders of pictures in which a white square of 4 px goes from left to right, 0.5 px a frame."""
    for episode in range(episodes):
        (folder / f"e{episode}").mkdir(parents=True)
        for number in range(length):
            frame = np.full((SIDE, SIDE, 3), 20 + 10 * episode, np.uint8)
            left = number * (SIDE - 4) // length
            frame[4 + 4 * episode : 8 + 4 * episode, left : left + 4] = 255
            Image.fromarray(frame).save(folder / f"e{episode}" / f"{number:03d}.png")
    (folder / "instructions.txt").write_text("push")
    return folder


def config(folder, source, modes=("text",), **settings):
    section = {"source": source, "out": folder / "pairs", "processes": 1, "validation_episodes": 1, **settings}
    return Config.model_validate({"spec": {**SPEC, "modes": list(modes)}, "prepare": section})


def left_edges(folder, line):
    """Where the square is in each frame of a grid [px]."""
    with Image.open(folder / "pairs" / line["target"]) as image:
        grid = np.array(image)
    cells = [grid[32 * row :, 32 * column :][:32, :32] for row, column in SERPENTINE]
    return [int(np.flatnonzero((cell == 255).all(axis=2).any(axis=0))[0]) for cell in cells]


SERPENTINE = [(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0), (2, 0), (2, 1), (2, 2)]


def test_each_later_grid_is_the_rest_of_its_episode(tmp_path):
    prepare(config(tmp_path, moving(tmp_path / "set"), later_starts=2.5))
    lines = lines_of(tmp_path)
    later = [line for line in lines if "start" in line]
    counts = {name: sum(line["episode"] == name for line in later) for name in {line["episode"] for line in lines}}
    assert set(counts.values()) == {2, 3} and len({line["start"] for line in later}) > 5
    for line in later:
        chosen = line["start"] + np.linspace(0, LENGTH - 1 - line["start"], 9).round().astype(int)
        assert left_edges(tmp_path, line) == [number * (SIDE - 4) // LENGTH for number in chosen]
        assert line["id"] == f"{line['episode']}+{line['start']}_text" and line["text"] == "nine frames: push"
    sides = {line["episode"]: line["split"] for line in lines if "start" not in line}
    assert all(line["split"] == sides[line["episode"]] for line in later)
    info = json.loads((tmp_path / "pairs" / "dataset.json").read_text())
    assert info["statistics"]["later_starts"] == len(later)
    assert check_pairs(tmp_path / "pairs") == []


def test_whole_episodes_are_as_without_later_starts(tmp_path):
    source = moving(tmp_path / "set", 3)
    prepare(config(tmp_path / "a", source))
    prepare(config(tmp_path / "b", source, later_starts=1))
    plain, more = lines_of(tmp_path / "a"), lines_of(tmp_path / "b")
    assert [line for line in more if "start" not in line] == plain and len(more) == 6
    for line in plain:
        for key in ("source", "target"):
            files = [tmp_path / side / "pairs" / line[key] for side in "ab"]
            assert files[0].read_bytes() == files[1].read_bytes()


def test_unseen_scenes_begin_later_too_and_have_names_of_their_own(tmp_path):
    prepare(config(tmp_path, moving(tmp_path / "set", 3), later_starts=2, validation_episodes=1))
    scenes = [read() for read in open_scenes(tmp_path / "pairs", 9, PlannerSpec(**{**SPEC, "modes": ("text",)}))]
    starts = [line["start"] for line in lines_of(tmp_path) if line["split"] == "validation" and "start" in line]
    assert [scene.id for scene in scenes] == ["e2", *(f"e2+{start}" for start in starts)]
    for scene in scenes:
        assert np.array_equal(scene.asked["text"][0], scene.truth[0])


@pytest.mark.parametrize("rule", ["motion", "trim"])
def test_a_later_start_keeps_the_rule(tmp_path, rule):
    """Nothing moves in the first and in the last third."""
    (tmp_path / "set" / "e").mkdir(parents=True)
    for number in range(60):
        frame = np.full((SIDE, SIDE, 3), 20, np.uint8)
        left = min(max(number - 20, 0), 20)
        frame[8:12, left : left + 4] = 255
        Image.fromarray(frame).save(tmp_path / "set" / "e" / f"{number:03d}.png")
    (tmp_path / "set" / "instructions.txt").write_text("push")
    prepare(config(tmp_path, tmp_path / "set", frames=rule, later_starts=8, validation_episodes=0))
    later = [line for line in lines_of(tmp_path) if "start" in line]
    assert len(later) >= 4
    for line in later:
        edges = left_edges(tmp_path, line)
        assert edges[-1] == 20 and edges == sorted(edges) and edges[0] < 20
        if rule == "trim":
            assert 17 <= line["start"] <= 33 and len(set(edges)) >= 7


def test_frames_by_shape_of_the_rest(tmp_path):
    path = np.zeros((30, 3))
    path[:, 0] = np.minimum(np.arange(30), 20) / 100
    path[:, 2] = np.maximum(np.arange(30) - 20, 0) / 100

    class Bent:
        format = "lerobot"

        def positions(self, entry, states):
            return path

        def times(self, entry):
            return None

    section = PrepareSection(source="a", out="b", frames="shape", later_starts=1)
    chosen = choice.Choice(Bent(), Entry("e", "push", 30, "e"), section, 4).frames(11)
    assert chosen[0] == 11 and chosen[-1] == 29 and 20 in chosen


def test_the_path_of_the_rest_has_its_times(tmp_path):
    source = moving(tmp_path / "set", 2)
    line = {"width": SIDE, "height": SIDE, "version": 1}
    points = [{"x": 2 + 7 * part, "y": 6, "t": part / 4} for part in range(5)]
    (tmp_path / "paths").mkdir()
    for number in range(2):
        path = {"name": "gripper", "points": points, "interpolation": "polyline"}
        (tmp_path / "paths" / f"e{number}.json").write_text(json.dumps({**line, "paths": [path]}))
    asked = {"overlay": "drawn", "overlay_data": tmp_path / "paths", "later_starts": 1, "validation_episodes": 0}
    prepare(config(tmp_path, source, ("text", "both"), **asked))
    later = [line for line in lines_of(tmp_path) if "start" in line]
    assert {line["mode"] for line in later} == {"text", "both"}
    for line in (line for line in later if line["mode"] == "both"):
        with Image.open(tmp_path / "pairs" / line["source"]) as image:
            shown = np.array(image)
        with Image.open(tmp_path / "pairs" / line["source"].replace("overlay", "clean")) as image:
            changed = np.flatnonzero((np.array(image) != shown).any(axis=(0, 2)))
        start = 2 + 28 * line["start"] / (LENGTH - 1)
        assert abs(changed[0] - start) <= 3 and changed[-1] >= 28


def test_a_path_is_cut_where_the_plan_begins():
    """A quarter of a spline is passed at frame 10 of 40; then it goes on as before, in its own time."""
    rows = [(0.0, 0.0, 0.0), (8.0, 6.0, 0.25), (16.0, 2.0, 0.5), (24.0, 9.0, 0.75), (32.0, 4.0, 1.0)]
    whole = Trajectory(40, 40, (DrawnPath.from_array(rows, interpolation="polyline"),))
    frames = np.linspace(0, 40, 9).astype(int)
    rest = choice.rest_of(whole, frames, np.linspace(10, 40, 9).round().astype(int), None)
    held = [(point.x, point.y, point.t) for point in rest.paths[0].points]
    assert np.allclose(held, [(8, 6, 0), (16, 2, 1 / 3), (24, 9, 2 / 3), (32, 4, 1)], atol=0.04)
    for start in (1, 7, 23, 31):
        chosen = np.linspace(start, 40, 9)
        rest = choice.rest_of(whole, frames, chosen, None)
        moments = np.linspace(start / 40, 1, 50)
        expected = np.stack(
            [np.interp(moments, [row[2] for row in rows], [row[axis] for row in rows]) for axis in (0, 1)]
        )
        assert np.abs(rest.paths[0].resample(50) - expected.T).max() < 0.1


def test_a_path_without_times_has_no_rest(tmp_path):
    untimed = Trajectory(8, 8, (DrawnPath.from_array([(1, 1), (7, 7)]),))
    assert choice.rest_of(untimed, np.arange(9), np.arange(9) + 3, None) is None
    source = moving(tmp_path / "set", 2)
    (tmp_path / "paths").mkdir()
    points = [{"x": 1, "y": 6}, {"x": 30, "y": 6}]
    drawn = {"version": 1, "width": SIDE, "height": SIDE, "paths": [{"name": "gripper", "points": points}]}
    for number in range(2):
        (tmp_path / "paths" / f"e{number}.json").write_text(json.dumps(drawn))
    asked = {"overlay": "drawn", "overlay_data": tmp_path / "paths", "later_starts": 1, "validation_episodes": 0}
    prepare(config(tmp_path, source, ("text", "both"), **asked))
    assert {line["mode"] for line in lines_of(tmp_path) if "start" in line} == {"text"}


def test_episodes_that_are_too_short_have_none():
    section = PrepareSection(source="a", out="b", later_starts=3)
    entry = Entry("e", "push", 12, "e")
    assert choice.later_starts(section, entry, 0, 8, 9) == []
    starts = {start for name in range(40) for start in choice.later_starts(
        section, Entry(str(name), "push", 12, "e"), 0, 11, 9)}  # fmt: skip
    assert starts == {1, 2, 3}


def test_a_tracked_click_belongs_to_the_first_frame(tmp_path):
    source = moving(tmp_path / "set", 2, 30)
    (tmp_path / "clicks.json").write_text(json.dumps({"e0": [2, 6], "e1": [2, 10]}))
    asked = {
        "overlay": "tracked",
        "overlay_data": tmp_path / "clicks.json",
        "later_starts": 1,
        "validation_episodes": 0,
    }
    prepare(config(tmp_path, source, ("trajectory",), **asked))
    later = [line for line in lines_of(tmp_path) if "start" in line]
    assert len(later) == 2
    opened = open_source(source)
    for line in later:
        entry = next(entry for entry in opened.entries if entry.id == line["episode"])
        clean = opened.frames(entry, [line["start"]])[0]
        with Image.open(tmp_path / "pairs" / line["source"]) as image:
            changed = np.flatnonzero((np.array(image) != clean).any(axis=(0, 2)))
        begins = 2 + line["start"] * (SIDE - 4) / 30
        assert abs(changed[0] - begins) <= 4

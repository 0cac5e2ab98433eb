"""The closed loop in other worlds than the Jaco table: a toy world and Meta-World; stopped, resumed, planned again."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from support.small_world import config_for
from training.__main__ import main
from training.errors import TrainingError
from training.evaluation.closed_loop import command, planning
from training.evaluation.closed_loop.evaluation import bounds
from training.evaluation.closed_loop.loop import Run
from training.evaluation.closed_loop.pictures import strip
from training.evaluation.closed_loop.replanning.stalled import replan_when_stalled
from training.evaluation.closed_loop.settings import Settings
from training.evaluation.closed_loop.table import table
from training.evaluation.rows.journal import Journal
from training.planner.export import export
from training.planner.train import train
from visual_planner.execution.keyframes import keyframes
from visual_planner.execution.readout import Reading, ReadoutNet, ReadoutSpec

pytestmark = pytest.mark.usefixtures("toy")
READ = ("end_effector_m", "gripper", "error_m", "confidence")


@pytest.fixture(scope="module")
def weights(world, asked, tmp_path_factory):
    """Arguments that name a random planner and a random read-out."""
    config = config_for(world, max_steps=1, out=world / "worlds_run")
    config.export.out = world / "worlds.safetensors"
    train(config)
    export(config)
    folder = tmp_path_factory.mktemp("readout")
    torch.manual_seed(0)
    spec = ReadoutSpec(
        height=32, width=32, channels=(8, 8), points=4, view=asked[0].view, mean=(0.5, 0.5, 1.9), sees_camera=True
    )
    save_file(ReadoutNet(spec).state_dict(), folder / "readout.safetensors", metadata=spec.to_metadata())
    return ["--planner", str(world / "base"), "--lora", str(config.export.out), "--readout", str(folder)]


def closed_loop(weights, *more):
    return main(["evaluate", "--closed-loop", *weights, *map(str, more)])


def _net(asked):
    return ReadoutNet(ReadoutSpec(height=32, width=32, channels=(8, 8), points=4, view=asked[0].view))


def test_bounds_hold_in_the_toy_world(asked, toy):
    assert [item.task for item in asked] == ["left", "right", "left", "right"]
    result = bounds(asked, toy, _net(asked))
    assert result["bounds"]["true_keyframes"]["successes"] == 4
    assert result["baselines"]["static"]["n"] == 4


def test_every_figure_has_its_cameras_and_the_tasks_that_need_eyes():
    """Also those of drawn paths, of several plans and of re-planning; and the table has a cell for each."""
    names = ("one", "two", "three", "four", "five")
    runs = [Run((0, task, camera)) for task in names for camera in ("above", "mirror")]
    rows = {}
    for number, run in enumerate(runs):
        plans = [{"success": number % 2 == 0}, {"success": True}]
        row = {"success": False, "success_on_path": True, "plans": plans, "replanned": {"success": number < 5}}
        rows[run] = {"plans": {"both": row}}
    result = command.summary(rows, runs, ["two"])
    wanted = {"success": (5, 2, 3), "once": (0, 0, 0), "on_path": (10, 2, 5), "single": (5, 1, 5), "any": (10, 2, 5)}
    for group, figures in wanted.items():
        row = result[group]["both"]
        found = row["successes"], row["needs_eyes"]["successes"], row["cameras"]["above"]["successes"]
        assert found == figures, group
    lines = table(result | {"needs_eyes": ["two"]}).splitlines()
    assert len({line.count("|") for line in lines}) == 1 and "| **all** | 5/10" in "\n".join(lines)


def test_a_planner_is_evaluated_in_the_toy_world(weights, tmp_path, capsys):
    file = tmp_path / "toy.json"
    assert closed_loop(weights, "--world", "toy", "--mode", "text", "--replans", 2, "--json", file) == 0
    result = json.loads(file.read_text())
    assert result["settings"]["world"] == "toy" and result["settings"]["cameras"] == ["above", "mirror"]
    row = result["success"]["text"]
    assert row["n"] == 4 and set(row["tasks"]) == {"left", "right"} and row["needs_eyes"]["n"] == 2
    assert row["cameras"]["above"]["n"] == row["cameras"]["mirror"]["n"] == 2
    assert result["bounds"]["true_keyframes"]["successes"] == 4
    assert result["baselines"]["other_scene"]["n"] == 4 and "no_lora" in result["baselines"]
    ends = [plan["replanned"]["ends"] for plan in result["plans"]["text"]]
    assert all(1 <= len(group) <= 3 and group[-1] != "stalled" for group in ends)
    assert "other_scene" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["toy.json"], "the journal goes when the results are written"


def test_plans_and_executions_can_be_looked_at(weights, tmp_path, toy, asked):
    """A strip a scene, its lower row what the simulator shows; evaluating with pictures changes no result."""
    how = ["--world", "toy", "--mode", "text", "--no-baselines"]
    plain, folder = tmp_path / "plain.json", tmp_path / "pictures"
    assert closed_loop(weights, *how, "--json", plain) == 0
    assert closed_loop(weights, *how, "--json", tmp_path / "shown.json", "--pictures", folder) == 0
    assert plain.read_bytes() == (tmp_path / "shown.json").read_bytes()
    rows = json.loads(plain.read_text())["plans"]["text"]
    cameras = ["above", "above", "mirror", "mirror"]
    names = [f"{row['task']}_{row['seed']}_{camera}_text.png" for row, camera in zip(rows, cameras, strict=True)]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "sheet.png"])
    with Image.open(folder / names[0]) as file:
        shown = np.asarray(file.convert("RGB"), int)
    assert shown.shape == (26 + 2 * 96, 9 * 96, 3), "cells of 32 px are enlarged to 96"
    plan = {name: np.array(values) for name, values in rows[0]["plans"][0].items() if name in READ}
    keys = keyframes(Reading(*(plan[name] for name in READ), np.full((9, 2), 0.5)))
    rollout = toy.start(asked[0].request, 9, asked[0].spacing)
    last = rollout.carry_out(keys).frames[-1]
    last = np.asarray(Image.fromarray(last).resize((96, 96), Image.Resampling.BICUBIC), int)
    # away from the cell's edge, where enlarging mixes in the neighbour
    assert np.abs(shown[-90:-6, -90:-6] - last[6:-6, 6:-6]).max() <= 1
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.size == (9 * 96, 4 * (26 + 2 * 96) + 3 * 6)


def test_a_plan_that_the_arm_cannot_execute_is_shown_alone():
    plan = np.full((9, 96, 96, 3), (200, 0, 0), np.uint8)
    alone, both = strip(plan, None, "a", False), strip(plan, plan, "a", True)
    assert alone.size == (864, 26 + 96) and both.size == (864, 26 + 2 * 96)
    assert alone.getpixel((400, 121)) == both.getpixel((400, 217)) == (200, 0, 0)


def test_a_stopped_evaluation_goes_on_and_says_the_same(weights, tmp_path, monkeypatch, capsys):
    whole, parts = tmp_path / "whole.json", tmp_path / "parts.json"
    how = ["--world", "toy", "--mode", "text", "--batch-size", "2", "--no-base"]
    assert closed_loop(weights, *how, "--json", whole) == 0
    drawn, draw = [], command.draw_all

    def stop_after_one(world, settings, frames, runs):
        if drawn:
            raise KeyboardInterrupt
        drawn.append(runs)
        return draw(world, settings, frames, runs)

    monkeypatch.setattr(command, "draw_all", stop_after_one)
    assert closed_loop(weights, *how, "--json", parts) == 130
    assert not parts.exists()
    journal = tmp_path / ".parts.json.runs.jsonl"
    journal.write_text(journal.read_text() + '{"run": [3, "ri')  # as a kill in the middle of a line leaves it
    monkeypatch.setattr(command, "draw_all", draw)
    assert closed_loop(weights, *how, "--json", parts, "--wordings", "plain", "--tasks", "left") == 2
    assert "must belong to the same settings" in capsys.readouterr().err
    assert closed_loop(weights, *how, "--json", parts) == 0
    assert "resuming: 2 of 4 scenes are finished" in capsys.readouterr().out

    assert whole.read_bytes() == parts.read_bytes() and not journal.exists()


def test_a_journal_that_is_none_is_refused(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text("no json\n")
    with pytest.raises(TrainingError, match="cannot be read .* remove it to start over"):
        Journal(file, {})
    nowhere = Journal(None, {})
    nowhere.add([((1, "a", "b"), {})])
    nowhere.remove()
    assert nowhere.rows == {(1, "a", "b"): {}}


class Nine:
    """Stands for a planner of nine frames whose plans are made elsewhere."""


def test_a_plan_that_stalls_is_made_again_from_where_the_arm_is(asked, toy, monkeypatch):
    """The first plan goes half of the way and stops; the second one is the truth, from the picture of that moment."""
    settings = Settings(world="toy", replans=2, cameras=("above",))
    half = [np.concatenate([item.keyframes[:4], np.repeat(item.keyframes[3:4], 5, axis=0)]) for item in asked]
    looks = []

    def plans(planner, now, mode, count, wording, batch_size, seen, steps):
        looks.append(now)
        return [item.truth[None] for item in asked]

    def known(group, item, mode, net):
        truth = next(other for other in asked if np.array_equal(other.truth, group[0]))
        return [type("Judged", (), {"keys": lambda self, follow_path: truth.keyframes})()], [0]

    monkeypatch.setattr(planning, "make_plans", plans)
    monkeypatch.setattr(planning, "rank", known)
    rows = replan_when_stalled(asked, half, Nine, "text", _net(asked), toy, settings)
    assert [row["ends"] for row in rows] == [["stalled", "success"]] * 4 and all(row["success"] for row in rows)
    assert len(looks) == 1 and [now.seed for now in looks[0]] == [item.seed + 1 for item in asked]
    for now, item in zip(looks[0], asked, strict=True):
        assert not np.array_equal(now.first, item.first)
        place = now.trajectory.paths[0].points[0]
        u, v = now.view.see(item.keyframes[3, :3])[:2] * 32
        assert np.hypot(place.x - u, place.y - v) < 0.1, "what is left of the path begins at the gripper"


def test_plans_that_never_move_are_made_so_often_and_no_more(asked, toy, monkeypatch):
    still = [np.repeat(item.keyframes[:1], 9, axis=0) for item in asked]
    made = []
    monkeypatch.setattr(planning, "make_plans", lambda p, now, *a, **k: made.append(len(now)) or [None] * len(now))
    again = lambda item: lambda self, follow_path: np.repeat(item.keyframes[:1], 9, axis=0)  # noqa: E731
    same = lambda group, item, mode, net: ([type("J", (), {"keys": again(item)})()], [0])  # noqa: E731
    monkeypatch.setattr(planning, "rank", same)
    rows = replan_when_stalled(asked, still, Nine, "text", _net(asked), toy, Settings(world="toy", replans=3))
    assert made == [4, 4, 4] and not any(row["success"] for row in rows)
    assert rows[0]["ends"] == ["stalled"] * 3 + ["end"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--world", "mars"], "world must be one of jaco, metaworld, toy, got 'mars'"),
        (["--world", "metaworld", "--tasks", "push"], "--tasks must be some of door-open"),
        (["--world", "metaworld", "--cameras", "front"], "--cameras must be some of corner, corner2, corner3"),
        (["--world", "metaworld", "--camera-jitter", "0.1"], "--camera-jitter must be 0 to 0 m, got 0.1"),
        (["--world", "metaworld", "--look", "dark"], "--look must be some of plain, shadows, got dark"),
        (["--wordings", "benchmark"], "--wordings must be some of held_out, train, all, got benchmark"),
        (["--replans", "2"], "--replans must be 0 in world jaco, got 2: use --replan"),
    ],
)
def test_what_a_world_has_not_is_one_line(arguments, message, capsys):
    assert main(["evaluate", "--closed-loop", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_metaworld_is_evaluated_with_replanning(weights, tmp_path, capsys):
    """A random planner does nothing right; true keyframes do the task from every camera."""
    file = tmp_path / "metaworld.json"
    how = ["--world", "metaworld", "--mode", "text", "--scenes", "1", "--tasks", "faucet-open", "--no-base"]
    assert closed_loop(weights, *how, "--replans", 1, "--steps", 1, "--json", file) == 0
    result = json.loads(file.read_text())
    assert [plan["seed"] for plan in result["plans"]["text"]] == [0, 0, 0]
    assert result["bounds"]["true_keyframes"]["cameras"].keys() == {"corner", "corner2", "corner3"}
    assert result["bounds"]["true_keyframes"]["successes"] == 3
    assert all(len(plan["replanned"]["ends"]) == 2 for plan in result["plans"]["text"])
    assert "true_keyframes" in capsys.readouterr().out


def test_many_tasks_are_a_table_with_a_line_each():
    rates = {"successes": 1, "n": 2, "rate": 0.5, "low": 0.1, "high": 0.9}
    row = {**rates, "tasks": {str(number): rates for number in range(6)}, "cameras": {"c": rates}, "needs_eyes": rates}
    text = command.table({"bounds": {"true_keyframes": row}, "success": {"text": row}, "needs_eyes": ["3"]})
    lines = text.splitlines()
    assert lines[0] == "| task | true keyframes | text |" and "| 3 * | 1/2 | 1/2 |" in lines
    assert "| the 1 that need eyes (*) | 1/2 = 50.0% (10% to 90%) | 1/2 = 50.0% (10% to 90%) |" in lines
    assert len({line.count("|") for line in lines}) == 1

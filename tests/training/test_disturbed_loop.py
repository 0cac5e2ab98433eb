"""The closed loop in a world that pushes back: plans as their own monitors, and sampling until a plan looks good."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from support.imports import ROOT
from support.small_world import config_for
from training.__main__ import main
from training.errors import TrainingError
from training.evaluation.closed_loop import planning
from training.evaluation.closed_loop.options import parse, settings_of
from training.evaluation.closed_loop.planning import choose
from training.evaluation.closed_loop.replanning import replan as module
from training.evaluation.closed_loop.replanning.replan import Departure, departure, replan, replan_when_departed
from training.evaluation.closed_loop.settings import Settings
from training.evaluation.closed_loop.trial import Judged
from training.planner.export import export
from training.planner.train import train
from visual_planner.execution.ranking import GOOD_PATH, GOOD_SURE, Score, is_good
from visual_planner.execution.readout import Reading, ReadoutNet, ReadoutSpec
from worlds.registry import WORLDS, open_world

pytestmark = pytest.mark.usefixtures("toy")


@pytest.fixture(autouse=True)
def eyes(monkeypatch):
    """A read-out that finds the red dot, 10 cm above the table."""

    def read(frames, item, net):
        places = []
        for frame in frames:
            rows, columns = np.nonzero(frame[..., 0] > 200)
            places.append([(columns.mean() + 0.5) / 32, (rows.mean() + 0.5) / 32, 0.1])
        count = len(frames)
        return Reading(np.array(places), np.zeros(count), np.full(count, 1e-3), np.ones(count), np.zeros((count, 2)))

    monkeypatch.setattr(module, "read_plan", read)


class Nine:
    """Stands for a planner of nine frames whose plans are made elsewhere."""

    class spec:
        class layout:
            frames = 9


def true_plan(item):
    """The demonstration as a plan, read right."""
    count = len(item.truth)
    reading = Reading(
        item.keyframes[:, :3], item.keyframes[:, 3], np.full(count, 1e-3), np.ones(count), np.zeros((count, 2))
    )
    return Judged(item.truth, reading, None, Score({"sure": 1.0}), 1.0, reading)


def led_astray(item):
    """The same pictures, but executed to the table's other side from the fourth frame on."""
    plan = true_plan(item)
    places = plan.reading.positions_m.copy()
    places[4:, 0] = 1 - places[4:, 0]
    wrong = replace(plan.reading, positions_m=places)
    return replace(plan, reading=wrong, followed=wrong)


@pytest.mark.parametrize("begin", ["start", "moment"])
def test_a_plan_that_the_world_departs_from_is_made_again(asked, toy, monkeypatch, begin):
    item, looks = asked[0], []

    def chosen(planner, now, mode, net, settings, seen=None):
        looks.append((now[0], seen))
        return [planning.Choice([true_plan(item)], [0])]

    monkeypatch.setattr(module, "choose", chosen)
    settings = Settings(world="toy", departed_m=0.2, replans=2, replan_from=begin)
    done = replan_when_departed(item, led_astray(item), Nine, "text", None, toy, settings)
    assert done == {"success": True, "ends": ["departed", "success"]} and len(looks) == 1
    now, seen = looks[0]
    assert now.seed == item.seed + 1
    if begin == "start":
        assert np.array_equal(now.first, item.first) and seen.shape[0] == 1 and seen.shape[1] >= 5
        np.testing.assert_array_equal(seen[0, 0], item.first)
    else:
        assert seen is None and not np.array_equal(now.first, item.first)
        point = now.trajectory.paths[0].points[0]
        rows, columns = np.nonzero(now.first[..., 0] > 200)
        assert np.hypot(point.x - columns.mean(), point.y - rows.mean()) < 1.5, "the rest of the path begins at the dot"


def test_a_plan_that_holds_is_executed_as_if_nobody_looked(asked, toy, monkeypatch):
    monkeypatch.setattr(module, "choose", None)  # nothing is planned
    item = asked[1]
    settings = Settings(world="toy", departed_m=0.2, replans=3)
    assert replan_when_departed(item, true_plan(item), Nine, "text", None, toy, settings) == {
        "success": True, "ends": ["success"],
    }  # fmt: skip


def test_the_budget_of_plans_is_kept(asked, toy, monkeypatch):
    item, made = asked[0], []

    def chosen(planner, now, mode, net, settings, seen=None):
        made.append(now[0].seed)
        return [planning.Choice([led_astray(item)], [0])]

    monkeypatch.setattr(module, "choose", chosen)
    settings = Settings(world="toy", departed_m=0.2, replans=2, replan_from="moment")
    done = replan_when_departed(item, led_astray(item), Nine, "text", None, toy, settings)
    assert made == [item.seed + 1, item.seed + 2] and not done["success"]
    assert done["ends"] == ["departed", "departed", "end"]


@pytest.mark.parametrize(("budget", "plans"), [(0, 4), (1, 2), (9, 4)])
def test_replanning_after_moves_has_a_budget_too(asked, toy, monkeypatch, budget, plans):
    item, made = asked[0], []
    still = true_plan(item)
    slow = replace(still.reading, positions_m=np.repeat(still.reading.positions_m[:1], 9, axis=0))

    def chosen(planner, now, mode, net, settings, seen=None):
        made.append(seen.shape[1])
        return [planning.Choice([replace(still, reading=slow)], [0])]

    monkeypatch.setattr(module, "choose", chosen)
    assert not replan(item, Nine, "text", None, toy, Settings(world="toy", replan=2, replans=budget))
    assert made == [1, 3, 5, 7][:plans]


def test_departure_sees_arm_and_objects(asked):
    item = asked[0]
    same = departure(item.truth[:4], item.truth[:4], item, None)
    assert same.tool_m == 0 and len(same.objects) == 0 and not same.beyond(0.001)
    away = departure(item.truth[:2], item.truth[[0, 8]], item, None)
    assert away.tool_m > 0.2 and away.beyond(0.1) and not away.beyond(1.0)
    coloured = replace(item, request=replace(item.request, colours=("green", "blue")))
    frames = np.full((2, 1, 32, 32, 3), 90, np.uint8)
    for plan, column in ((0, 4), (1, 14)):
        frames[plan, 0, 8:14, column : column + 6] = (13, 158, 31)
        frames[plan, 0, 20:24, 20:24] = (230, 20, 20)
    apart = departure(frames[0], frames[1], coloured, None)
    assert apart.objects == pytest.approx([10 / 32]) and apart.tool_m == 0 and apart.beyond(1.0)


@pytest.mark.parametrize(("planned_column", "moved_px", "expected"), [(4, 2, True), (4, 1, False), (9, 2, False)])
def test_an_object_that_the_plan_leaves_alone_is_looked_at_more_closely(asked, planned_column, moved_px, expected):
    """Two of 32 px are too much for an object at rest, and allowed for one that the plan moves."""
    item = replace(asked[0], request=replace(asked[0].request, colours=("green",)))
    planned, seen = np.full((2, 2, 32, 32, 3), 90, np.uint8)
    for frames, columns in ((planned, (4, planned_column)), (seen, (4, planned_column + moved_px))):
        for frame, column in zip(frames, columns, strict=True):
            frame[8:14, column : column + 6] = (13, 158, 31)
            frame[20:24, 20:24] = (230, 20, 20)
    apart = departure(planned, seen, item, None)
    assert list(apart.at_rest) == [planned_column == 4] and apart.beyond(1.0) is expected


@pytest.mark.parametrize(
    ("moved_px", "hidden_px", "expected"), [(3, 0, 3), (0, 0, 0), (0, 6, 0), (3, 6, 3), (0, 10, None)]
)
def test_a_plate_that_moved_is_noticed_even_if_half_of_it_is_hidden(asked, moved_px, hidden_px, expected):
    item = replace(asked[0], request=replace(asked[0].request, landmarks=("plate",)))
    planned, seen = np.full((2, 2, 32, 32, 3), (222, 212, 195), np.uint8)
    for frames, columns in ((planned, (4, 4)), (seen, (4, 4 + moved_px))):
        for frame, column in zip(frames, columns, strict=True):
            frame[8:14, column : column + 12] = (140, 168, 189)
            frame[20:24, 20:24] = (230, 20, 20)
    seen[1, 8:14, 4 + moved_px : 4 + moved_px + hidden_px] = (230, 120, 20)
    apart = departure(planned, seen, item, None)
    assert apart.objects * 32 == pytest.approx([] if expected is None else [expected])
    assert apart.beyond(1.0) is bool(expected)


def test_a_path_follows_objects_that_moved_and_stays_elsewhere():
    """The part about the moved object goes with it; distant points, and moves too small to matter, stay as they are."""
    planned, seen = np.array([[0.2, 0.5], [0.9, 0.1]]), np.array([[0.2, 0.7], [0.93, 0.1]])
    path = np.array([[0.2, 0.5], [0.3, 0.5], [0.45, 0.5], [0.9, 0.1]])
    bent = Departure(0.0, planned, seen, np.array([True, True])).bend(path)
    assert bent == pytest.approx(np.array([[0.2, 0.7], [0.3, 0.7], [0.45, 0.6], [0.9, 0.1]]))
    assert Departure(0.0, seen, seen, np.array([True, True])).bend(path) == pytest.approx(path)


# ---- until a plan looks good


def test_a_plan_is_sampled_again_with_the_next_seed_until_it_looks_good(asked, monkeypatch):
    """The first request's second plan is good, the second one's first, the third one never gets a good one."""
    worth = {0: [0.2, 0.9], 1: [0.95], 2: [0.3, 0.5, 0.4]}
    rounds = []

    def plans(planner, now, mode, count, wording, batch_size, seen, steps):
        rounds.append([item.seed for item in now])
        number = len(rounds) - 1
        places = [next(place for place, other in enumerate(asked) if other.request is item.request) for item in now]
        return [np.full((1, 9, 2, 2, 3), int(100 * worth[place][number]), np.uint8) for place in places]

    def ranked(group, item, mode, net):
        judged = [replace(true_plan(item), score=Score({"sure": plan.flat[0] / 100})) for plan in group]
        return judged, sorted(range(len(judged)), key=lambda number: -judged[number].score.total)

    monkeypatch.setattr(planning, "make_plans", plans)
    monkeypatch.setattr(planning, "rank", ranked)
    first = [item.seed for item in asked[:3]]
    choices = choose(Nine, asked[:3], "text", None, Settings(world="toy", until_good=3))
    assert rounds == [first, [first[0] + 1, first[2] + 1], [first[2] + 2]]
    assert [choice.rejected for choice in choices] == [1, 0, 3]
    assert [len(choice.judged) for choice in choices] == [2, 1, 3]
    assert [choice.best.score.total for choice in choices] == [0.9, 0.95, 0.5]
    rounds.clear()
    plain = choose(Nine, asked[:3], "text", None, Settings(world="toy"))
    assert rounds == [first] and [choice.rejected for choice in plain] == [None] * 3


def test_what_is_good_comes_from_the_committed_study():
    checks = json.loads((ROOT / "docs" / "studies" / "failure_detection.json").read_text())["checks"]
    assert pytest.approx(checks["path as read"]["threshold_from_data"], abs=5e-4) == GOOD_PATH
    assert pytest.approx(checks["sure"]["threshold_from_data"], abs=5e-4) == GOOD_SURE
    assert is_good(Score({"path": 0.5, "sure": 0.1})) and not is_good(Score({"path": 0.48, "sure": 1.0}))
    assert is_good(Score({"sure": 0.86})) and not is_good(Score({"sure": 0.85}))
    assert not is_good(Score({"path": 1.0, "sure": 1.0}, moves=False))


# ---- settings and the command


def test_without_them_settings_are_told_as_before():
    told = Settings().told()
    later = {"disturb", "disturb_strength", "departed_m", "until_good"}
    assert told.keys() == asdict(Settings()).keys() - later and told["replan"] == 0
    disturbed = Settings(disturb=("arm_pushed",), until_good=2)
    assert disturbed.told().keys() - told.keys() == {"disturb", "disturb_strength", "until_good"}
    assert Settings(disturb=("target_moved",)).tasks == ("place",), "the tasks that can be disturbed so"
    assert Settings(disturb=("grasp_slipped", "target_moved")).tasks == ("pick", "place")
    rules = [Settings(), Settings(replan=2), Settings(departed_m=0.1, replans=1), Settings(world="toy", replans=1)]
    assert [settings.rule for settings in rules] == ["never", "after", "departed", "stalled"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--disturb", "quake"],
            "--disturb must be one of object_moved, target_moved, arm_pushed, grasp",
        ),
        (["--world", "toy", "--disturb", "arm_pushed"], "--disturb must be empty in world toy, got 'arm_pushed'"),
        (
            ["--disturb", "arm_pushed", "--disturb-strength", "9"],
            "--disturb-strength must be above 0 and at most 3",
        ),
        (["--disturb", "arm_pushed,arm_pushed"], "--disturb must name each kind once, got arm_pushed, arm_pushed"),
        (
            ["--disturb", "target_moved", "--tasks", "reach,place"],
            "--tasks must be some of place with --disturb target_moved in world jaco, got reach",
        ),
        (["--replan-when-departed"], "--replans must be at least 1 with --replan-when-departed, got 0"),
        (["--replan-when-departed", "nan", "--replans", "1"], "--replan-when-departed must be above 0 and at most 1 m"),
        (["--replan-when-departed", "--replans", "1", "--replan-after", "4"], "--replan must be 0 together with"),
        (["--replans", "2"], "--replans must be 0 in world jaco, got 2: use --replan or --replan-when-departed"),
        (["--until-good", "0"], "--until-good must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_one_line(arguments, message, capsys):
    assert main(["evaluate", "--closed-loop", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_disturbed_loop_is_evaluated(world, tmp_path, capsys, monkeypatch):
    """A random planner and read-out: everything is counted and named."""
    monkeypatch.undo()  # the command reads with the network
    monkeypatch.setitem(WORLDS, "toy", "support.toy_world:ToyWorld")
    config = config_for(world, max_steps=1, out=world / "disturbed_run")
    config.export.out = world / "disturbed.safetensors"
    train(config)
    export(config)
    torch.manual_seed(0)
    with open_world("jaco", 32) as table:
        view = table.draw(0).view
    spec = ReadoutSpec(height=32, width=32, channels=(8, 8), points=4, view=view, mean=(0.5, 0.4, 1.0))
    save_file(ReadoutNet(spec).state_dict(), tmp_path / "readout.safetensors", metadata=spec.to_metadata())
    file = tmp_path / "x.json"
    arguments = [
        "evaluate", "--closed-loop", "--planner", str(world / "base"), "--lora", str(config.export.out), "--readout",
        str(tmp_path), "--mode", "both", "--scenes", "2", "--first-seed", "9400000", "--tasks", "pick", "--no-base",
        "--disturb", "object_moved,sensor_noise", "--disturb-strength", "0.8", "--replan-when-departed", "0.001",
        "--replans", "1", "--replan-from", "moment", "--until-good", "2", "--steps", "1", "--json", str(file),
    ]  # fmt: skip
    assert main(arguments) == 0
    result = json.loads(file.read_text())
    assert result["settings"]["disturb"] == ["object_moved", "sensor_noise"] and result["replanning"] == "departed"
    assert result["settings"]["disturb_strength"] == 0.8 and result["settings"]["departed_m"] == 0.001
    rows = result["plans"]["both"]
    assert all(row["replanned"]["ends"][0] == "departed" and len(row["replanned"]["ends"]) == 2 for row in rows)
    rejected = result["rejected"]["both"]
    assert rejected["plans"] == sum(len(row["plans"]) for row in rows) and rejected["rejected"] <= rejected["plans"]
    assert set(result["disturbed"]["both"]) <= {"object_moved"}, "a random arm may stay beside the object"
    assert result["bounds"]["true_keyframes"]["n"] == 2 and "once" in result and "replan_gain" in result
    assert "disturbed by object_moved, sensor_noise (strength 0.8)" in capsys.readouterr().out


def test_a_threshold_belongs_to_a_rule():
    with pytest.raises(TrainingError, match="must be above 0 and at most 1 m, got -1"):
        Settings(departed_m=-1.0, replans=1)


@pytest.mark.parametrize(
    ("arguments", "begin"),
    [
        ([], "start"),
        (["--replan", "4"], "start"),
        (["--replan-when-departed", "--replans", "2"], "moment"),
        (["--replan-when-departed", "--replans", "2", "--replan-from", "start"], "start"),
    ],
)
def test_where_a_new_plan_begins_follows_from_the_rule(arguments, begin):
    assert settings_of(parse(["--closed-loop", *arguments])).replan_from == begin

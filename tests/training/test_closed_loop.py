"""The closed loop: true keyframes work, a still plan does not, figures are honest, and the command's file says all."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from simulation.errors import UnreachableError
from support.small_world import config_for
from training.__main__ import main
from training.errors import TrainingError
from training.evaluation.closed_loop.evaluation import (
    Settings,
    bounds,
    difference,
    draw_all,
    evaluate_planner,
    plan_and_execute,
    rate,
)
from training.evaluation.closed_loop.loop import modes_of
from training.evaluation.closed_loop.planning import make_plans
from training.evaluation.closed_loop.replanning.replan import _moves_to_make, replan
from training.evaluation.closed_loop.requests import Wording, planner_input
from training.evaluation.closed_loop.trial import carry_out, rank
from training.model.pipeline import open_planner
from training.model.readout import open_readout
from training.model.sampling import draw_noise
from training.planner.export import export
from training.planner.train import train
from visual_planner.execution.camera import View
from visual_planner.execution.readout import Reading, ReadoutNet, ReadoutSpec
from worlds.errors import WorldError
from worlds.registry import open_world

FIRST = 9_000_100


@pytest.fixture(scope="module")
def table():
    try:
        made = open_world("jaco", 32)
    except WorldError as error:
        pytest.skip(f"NO RENDERING TEST HAS RUN: {error}")
    with made:
        yield made


@pytest.fixture(scope="module")
def asked(table):
    return draw_all(table, Settings(first_seed=FIRST, scenes=4), 9)


@pytest.fixture(scope="module")
def planner_folder(world):
    """A random planner for 32 px cells, as a folder: base and one LoRA."""
    config = config_for(world, max_steps=1, out=world / "closed_loop_run")
    config.export.out = world / "base" / "loras" / "planner.safetensors"
    train(config)
    export(config)
    return world / "base"


@pytest.fixture(scope="module")
def readout_folder(tmp_path_factory, asked):
    folder = tmp_path_factory.mktemp("readout")
    torch.manual_seed(0)
    spec = ReadoutSpec(height=32, width=32, channels=(8, 8), points=4, view=asked[0].view, mean=(0.5, 0.4, 1.0))
    save_file(ReadoutNet(spec).state_dict(), folder / "readout.safetensors", metadata=spec.to_metadata())
    return folder


@pytest.fixture
def oracle(monkeypatch, asked):
    """A read-out that knows what the true frames show, by comparing pictures; so the rest is tested for itself."""
    from training.evaluation.closed_loop import trial as execution

    def know(net, frames, view=None):
        places, gripper = [], []
        for frame in frames:
            distances = [
                (np.abs(item.truth.astype(int) - frame).mean(axis=(1, 2, 3)), item.keyframes) for item in asked
            ]
            errors, keys = min(distances, key=lambda entry: entry[0].min())
            places.append(keys[errors.argmin(), :3])
            gripper.append(keys[errors.argmin(), 3])
        count = len(frames)
        return Reading(np.array(places), np.array(gripper), np.full(count, 1e-3), np.ones(count), np.zeros((count, 2)))

    monkeypatch.setattr(execution, "read_frames", know)


def test_true_keyframes_work_and_a_still_plan_does_not(asked, table, oracle):
    assert [item.task for item in asked] == ["reach", "push", "pick", "place"]
    result = bounds(asked, table, _net(asked))
    assert result["bounds"]["true_keyframes"]["successes"] == 4
    assert result["bounds"]["true_frames"]["successes"] == 4
    assert result["baselines"]["static"]["successes"] == 0
    assert result["bounds"]["true_frames"]["tasks"]["pick"]["n"] == 1


def test_a_path_that_is_followed_makes_up_for_frames_that_show_the_hand_elsewhere(asked, table, oracle, monkeypatch):
    """Only the place in the picture is taken from the path: a hand read too near or too far stays wrong."""
    from training.evaluation.closed_loop import trial as execution

    true_reading = execution.read_frames

    def shifted(net, frames, view=None, by=(0.12, 0.0, 0.0)):
        reading = true_reading(net, frames)
        seen = asked[2].view.see(reading.positions_m)
        return replace(reading, positions_m=asked[2].view.place(seen + by))

    monkeypatch.setattr(execution, "read_frames", shifted)
    pick, net = asked[2], _net(asked)
    assert not execution.execute_frames(pick.truth, pick, net, table)
    assert execution.execute_frames(pick.truth, pick, net, table, follow_path=True)
    far = lambda net, frames, view=None: shifted(net, frames, view, (0.0, 0.0, 0.15))  # noqa: E731
    monkeypatch.setattr(execution, "read_frames", far)
    assert not execution.execute_frames(pick.truth, pick, net, table, follow_path=True)


def test_the_static_plan_on_the_path_stands_beside_plans_that_follow_it(asked, table, oracle):
    result = bounds(asked, table, _net(asked), follow_path=True)
    assert result["baselines"]["static"]["successes"] == 0
    assert result["baselines"]["static_on_path"]["n"] == 4
    assert result["baselines"]["static_on_path"]["tasks"]["pick"]["successes"] == 0, "a still gripper picks nothing up"


def test_a_plan_that_the_arm_cannot_follow_is_not_done_and_stops_nothing(asked, table, oracle, monkeypatch):
    def cannot(rollout, keyframes, watch=None):
        raise UnreachableError("the arm cannot reach [0.3, -0.1, 0.1] m on the plan's way")

    monkeypatch.setattr("simulation.execution.Rollout.carry_out", cannot)
    assert carry_out(asked[0].keyframes, asked[0], table) is False
    result = bounds(asked[:1], table, _net(asked))
    assert result["bounds"]["true_keyframes"]["successes"] == 0 and result["bounds"]["true_frames"]["n"] == 1


def _net(asked):
    return ReadoutNet(ReadoutSpec(height=32, width=32, channels=(8, 8), points=4, view=asked[0].view))


def test_a_scene_is_the_same_again_and_jitter_moves_its_camera(table, asked):
    again = draw_all(table, Settings(first_seed=FIRST, scenes=4), 9)
    assert all(
        np.array_equal(a.truth, b.truth) and a.instruction == b.instruction for a, b in zip(again, asked, strict=True)
    )
    moved = draw_all(table, Settings(first_seed=FIRST, scenes=1, camera_jitter_m=0.03), 9)[0]
    assert moved.view != asked[0].view and not np.array_equal(moved.first, asked[0].first)
    assert moved.task == asked[0].task
    turned = draw_all(table, Settings(first_seed=FIRST, scenes=1, camera_turn_deg=30), 9)[0]
    assert turned.request.own.camera == asked[0].request.own.camera.turned(30)
    assert turned.request.own.scene == asked[0].request.own.scene
    assert not np.array_equal(turned.first, asked[0].first)


def test_rates_have_wilson_intervals_and_tasks(asked):
    row = rate([True, False, True, True], asked)
    assert (row["successes"], row["n"], row["rate"]) == (3, 4, 0.75)
    assert row["low"] == pytest.approx(0.301, abs=1e-3) and row["high"] == pytest.approx(0.954, abs=1e-3)
    assert row["tasks"]["push"]["successes"] == 0 and row["tasks"]["reach"] == rate([True], asked[:1])["tasks"]["reach"]
    gain = difference([True] * 4, [True, False, True, True])
    assert gain["difference"] == 0.25 and gain["low"] <= 0.25 <= gain["high"]
    runs = Settings(first_seed=5, scenes=3, tasks=("pick", "push")).runs()
    assert runs == [(5, "pick", "front"), (6, "push", "front"), (7, "pick", "front")]


def test_plans_are_those_of_the_seed_whatever_the_batch(planner_folder, asked):
    planner, lora = open_planner(planner_folder)
    assert lora.name == "planner.safetensors"
    one = make_plans(planner, asked[:2], "text", 2, batch_size=1)
    all_at_once = make_plans(planner, asked[:2], "text", 2, batch_size=4)
    assert one[0].shape == (2, 9, 32, 32, 3)
    for a, b in zip(one, all_at_once, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1
    assert not np.array_equal(one[0][0], one[0][1])
    noise = draw_noise(planner.spec, [7], 3)
    assert torch.equal(noise[:1], draw_noise(planner.spec, [7], 1)), "the first of several plans is the single plan"


class Steps:
    """A planner that only tells how many steps it was asked for."""

    def __init__(self, spec):
        self.spec, self.asked = spec, []

    def plan(self, pictures, prompts, steps=None, **_):
        self.asked.append(steps)
        return torch.zeros(len(prompts), 9, 32, 32, 3)


def test_plans_are_executed_with_the_steps_that_the_record_has_for_it(planner_folder, readout_folder, asked, table):
    """First plans, best of several, sampling again and re-planning alike; the command's option goes before."""
    spec = replace(open_planner(planner_folder)[0].spec, steps=8, execution_steps=3)
    net = open_readout(readout_folder)
    for settings in (Settings(), Settings(best_of=2), Settings(until_good=3), Settings(replan=4)):
        planner = Steps(spec)
        plan_and_execute(planner, asked[:1], "text", table, net, settings)
        times = 3 if settings.until_good == 3 or settings.replan else 1  # a black plan never looks good
        assert planner.asked == [3] * times
    planner = Steps(spec)
    plan_and_execute(planner, asked[:1], "text", table, net, Settings(replan=4, steps=5))
    assert set(planner.asked) == {5}
    planner = Steps(replace(spec, execution_steps=None))
    make_plans(planner, asked[:1], "text")
    assert planner.asked == [8]


def test_wordings_leave_things_out(planner_folder, asked):
    spec = open_planner(planner_folder)[0].spec
    plain, prompt = planner_input(asked[0], "both", spec)
    without, same = planner_input(asked[0], "both", spec, Wording(overlay=False))
    assert np.array_equal(without, asked[0].first) and not np.array_equal(plain, without) and same == prompt
    _, bare = planner_input(asked[0], "text", spec, Wording(template=False))
    assert bare == asked[0].instruction
    _, other = planner_input(asked[0], "text", spec, Wording(instruction="lift the red cube"))
    assert "lift the red cube" in other and asked[0].instruction not in other


def test_the_better_of_two_plans_is_chosen_without_executing(asked, readout_folder, oracle):
    net = open_readout(readout_folder)
    item = asked[2]
    still = np.repeat(item.truth[:1], 9, axis=0)
    judged, order = rank(np.stack([still, item.truth]), item, "text", net)
    assert order == [1, 0] and judged[1].score.total > judged[0].score.total
    assert "path" not in judged[0].score.parts
    assert "path" in rank(still[None], item, "both", net)[0][0].score.parts


def test_the_rest_of_a_path_starts_at_the_hand(asked):
    item = asked[1]
    later = item.later(item.truth[4], 0.5, np.array([10.0, 12.0]))
    points = later.trajectory.paths[0].points
    assert (points[0].x, points[0].y, points[0].t) == (10.0, 12.0, 0.0) and points[-1].t == pytest.approx(1.0)
    end = item.trajectory.paths[0].points[-1]
    assert (points[-1].x, points[-1].y) == pytest.approx((end.x, end.y))
    assert np.array_equal(later.first, item.truth[4])
    assert [_moves_to_make(4, passed, 8) for passed in (0, 4)] == [4, 8]


def test_plans_keep_what_has_happened(asked, planner_folder):
    planner, _ = open_planner(planner_folder)
    past = np.stack([item.truth[:3] for item in asked[:2]])
    kept = make_plans(planner, asked[:2], "text", 2, seen=past, batch_size=3)
    free = make_plans(planner, asked[:2], "text", 2)
    for plans, others, frames in zip(kept, free, past, strict=True):
        for plan, other in zip(plans, others, strict=True):
            assert np.array_equal(plan[:3], frames)
            assert not np.array_equal(plan[3:], other[3:])
    with pytest.raises(TrainingError, match="seen frames must be 1 to 8 of a plan, got 9"):
        make_plans(planner, asked[:1], "text", seen=asked[0].truth[None])


class Nine:
    """Stands for a planner of nine frames whose plans are made elsewhere."""

    class spec:
        class layout:
            frames = 9


def test_replanning_from_the_moment_with_true_plans_works(asked, table, oracle, monkeypatch):
    """The plan of every look is the true one for what is left: frames from now on, in the remaining time's rhythm."""
    from training.evaluation.closed_loop import planning as module

    item, looks = asked[2], []

    def plans(planner, now, mode, count, wording, batch_size, seen, steps):
        assert seen is None
        looks.append(now[0].first)
        start = 0 if len(looks) == 1 else 4
        chosen = np.linspace(start, 8, 9).round().astype(int)
        return [item.truth[chosen][None]]

    monkeypatch.setattr(module, "make_plans", plans)
    assert replan(item, Nine, "text", _net(asked), table, Settings(replan=4, replan_from="moment"))
    assert len(looks) == 2 and np.abs(looks[1].astype(int) - item.truth[4]).mean() < 4


@pytest.mark.parametrize("every", [4, 3])
def test_replanning_from_the_start_keeps_what_was_seen(asked, table, oracle, monkeypatch, every):
    """Every plan is of the whole task; the frames that have happened are given to it as the camera saw them."""
    from training.evaluation.closed_loop import planning as module

    item, past = asked[2], []

    def plans(planner, now, mode, count, wording, batch_size, seen, steps):
        assert now == [item], "first frame, path and words stay those of the whole task"
        past.append(seen[0])
        return [item.truth[None]]

    monkeypatch.setattr(module, "make_plans", plans)
    assert replan(item, Nine, "text", _net(asked), table, Settings(replan=every))
    assert [len(frames) for frames in past] == list(range(1, 9, every))
    for frames in past:
        assert np.array_equal(frames[0], item.first)
        assert np.abs(frames.astype(int) - item.truth[: len(frames)]).mean() < 4


def test_replanning_refuses_what_a_plan_has_not(asked, table):
    with pytest.raises(TrainingError, match="--replan must be 1 to 8 frames, got 9"):
        replan(asked[2], Nine, "text", _net(asked), table, Settings(replan=9))
    with pytest.raises(TrainingError, match="--replan-from must be start or moment, got 'now'"):
        Settings(replan_from="now")


def test_modes_are_named_once_and_known():
    known = ("text", "trajectory", "both")
    assert modes_of("all", known, Path("a")) == known
    assert modes_of("both, text,both", known, Path("a")) == ("both", "text")
    with pytest.raises(TrainingError, match=r"--mode must be some of text, trajectory, both for a, got 'goal, '"):
        modes_of("text,goal,", known, Path("a"))


def test_the_command_writes_everything(planner_folder, readout_folder, tmp_path, capsys):
    file = tmp_path / "closed_loop.json"
    common = ["evaluate", "--closed-loop", "--planner", str(planner_folder), "--readout", str(readout_folder)]
    scenes = ["--first-seed", str(FIRST), "--scenes", "2", "--camera-jitter", "0.01"]
    assert main([*common, *scenes, "--mode", "text", "--best-of", "2", "--replan", "4", "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    row = result["success"]["text"]
    assert {"successes", "n", "low", "high", "tasks"} <= row.keys() and row["n"] == 2
    assert set(row["tasks"]) == {"reach", "push"}
    assert set(result["bounds"]) == {"true_keyframes", "true_frames", "autoencoder"}
    assert result["bounds"]["true_keyframes"]["successes"] == 2
    assert result["steps"] == 2
    assert set(result["baselines"]) == {"static", "no_lora"} and result["baselines"]["no_lora"]["text"]["n"] == 2
    assert {"single", "any", "once", "best_of_gain", "replan_gain"} <= result.keys()
    plans = result["plans"]["text"]
    assert [len(plan["plans"]) for plan in plans] == [2, 2] and sorted(plans[0]["order"]) == [0, 1]
    assert {"static", "seams", "ghosting"} <= plans[0]["plans"][0]["checks"].keys()
    assert "true_keyframes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scenes", "0"], "--scenes must be at least 1, got 0"),
        (["--tasks", "fly"], "--tasks must be some of reach, push, pick, place, got fly"),
        (["--camera-jitter", "3"], "--camera-jitter must be 0 to 0.2 m, got 3.0"),
        (["--camera-turn", "100"], "--camera-turn must be -90 to 90 degrees, got 100.0"),
        (["--planner", "/nowhere"], "planner /nowhere must have one LoRA in loras/, got none"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message, capsys):
    assert main(["evaluate", "--closed-loop", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_missing_readout_is_one_line(planner_folder, tmp_path, capsys):
    arguments = ["--planner", str(planner_folder), "--readout", str(tmp_path)]
    assert main(["evaluate", "--closed-loop", *arguments]) == 2
    assert "python -m training readout" in capsys.readouterr().err


def test_every_plan_executed_is_judged_from_its_own_start(asked, table):
    """A failed attempt before leaves nothing behind."""
    item = asked[2]
    assert not carry_out(np.repeat(item.keyframes[:1], 9, axis=0), item, table)
    assert carry_out(item.keyframes, item, table)
    assert not carry_out(np.repeat(item.keyframes[:1], 9, axis=0), item, table)


def test_all_modes_are_evaluated(planner_folder, readout_folder, asked, table):
    planner, _ = open_planner(planner_folder)
    settings = Settings(first_seed=FIRST, scenes=2)
    result = evaluate_planner(planner, asked[:2], table, open_readout(readout_folder), settings)
    assert set(result["success"]) == {"text", "trajectory", "both"}
    assert set(result["on_path"]) == {"trajectory", "both"}, "the same plans with the hand kept on the drawn path"
    kept = [row["success_on_path"] for row in result["plans"]["both"]]
    assert result["on_path"]["both"]["successes"] == sum(kept) and result["on_path"]["both"]["n"] == 2
    assert "path" in result["plans"]["both"][0]["plans"][0]["parts"]
    camera = asked[0].request.own.camera
    assert View(camera.eye, camera.rays(32, 32)) == asked[0].view

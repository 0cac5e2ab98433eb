"""Learning from execution: what succeeded is kept as it happened, and rounds end when held-out success stops rising."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from support.small_world import config_for
from training.data.episodes import EpisodeSet
from training.errors import TrainingError
from training.evaluation.closed_loop.evaluation import draw_all
from training.evaluation.closed_loop.settings import Settings
from training.evaluation.improve import collect, rounds
from training.evaluation.improve.collect import EXECUTED, FAILED, in_turn, try_plans, write_outcomes
from training.planner.export import export
from training.planner.train import train
from training.sections.config import Config
from visual_planner.execution.keyframes import keyframes
from visual_planner.execution.readout import Reading, ReadoutNet, ReadoutSpec

FIRST, HELD_OUT = 5000, 9000


@pytest.fixture
def fresh(toy):
    """Requests of fresh scenes of the toy world."""
    return draw_all(toy, Settings(world="toy", cameras=("above",), first_seed=FIRST, scenes=6), 9)


@pytest.fixture
def known_plans(monkeypatch):
    """Plans are the demonstration's frames, or the still first one; which scenes fail how often can be set."""
    fails: dict[int, int] = {}
    calls: list[tuple[int, ...]] = []

    def make_plans(planner, asked, mode, **_):
        calls.append(tuple(item.seed - item.request.seed for item in asked))
        return [plan_of(item)[None] for item in asked]

    def plan_of(item):
        """The demonstration, but the still first frame in the attempts that are to fail."""
        failing = item.seed - item.request.seed < fails.get(item.request.seed, 0)
        return np.repeat(item.first[None], len(item.truth), 0) if failing else item.truth

    def read_plan(frames, asked, net):
        keys = asked.keyframes if (frames[-1] != frames[0]).any() else np.repeat(asked.keyframes[:1], len(frames), 0)
        count = len(keys)
        return Reading(keys[:, :3], keys[:, 3], np.zeros(count), np.ones(count), np.zeros((count, 2)))

    monkeypatch.setattr(collect, "make_plans", make_plans)
    monkeypatch.setattr(collect, "read_plan", read_plan)
    return fails, calls


def test_plans_are_tried_until_one_succeeds(toy, fresh, known_plans):
    fails, calls = known_plans
    fails |= {FIRST: 1, FIRST + 1: 5}
    outcomes = try_plans(None, fresh, "text", toy, None, plans=3)
    assert [outcome.plans for outcome in outcomes] == [2, 3, 1, 1, 1, 1]
    assert [outcome.frames is not None for outcome in outcomes] == [True, False, True, True, True, True]
    assert calls == [(0,) * 6, (1, 1), (2,)]


def test_what_is_kept_is_what_happened(toy, fresh, known_plans, tmp_path):
    fails, _ = known_plans
    fails |= {FIRST + 1: 9}
    # a path that leaves the table is executed at its edge: what is kept must be where the dot really went
    fresh[2] = replace(fresh[2], keyframes=fresh[2].keyframes + np.array([0.0, 0.7, 0.0, 0.0]))
    outcomes = try_plans(None, fresh, "both", toy, None, plans=1)
    counts = write_outcomes(tmp_path, outcomes, toy, demonstrate=True)
    assert counts == {EXECUTED: 5, FAILED: 1}
    kept, failed = EpisodeSet.open(tmp_path / EXECUTED), EpisodeSet.open(tmp_path / FAILED)
    rollout = toy.start(fresh[2].request, 9)
    done = rollout.carry_out(keyframes(collect.read_plan(fresh[2].truth, fresh[2], None)))
    episode = next(e for e in kept.episodes if e.record["seed"] == FIRST + 2)
    assert np.array_equal(episode.load_frames(), done.frames)
    assert np.allclose(episode.record["end_effector_m"], done.tool_m, atol=1e-4)
    assert max(y for _, y, _ in episode.record["path_px"]) <= 32
    assert np.array_equal(failed.episodes[0].load_frames(), fresh[1].truth)
    assert failed.episodes[0].record["instruction"] == fresh[1].instruction
    assert (kept.info["world"], kept.info["keyframes"]) == ("toy", toy.keyframes)


def test_demonstrations_are_left_out_where_none_are_wanted_or_they_fail(toy, fresh, known_plans, tmp_path):
    fails, _ = known_plans
    fails |= {FIRST: 9, FIRST + 1: 9}
    fresh[0] = replace(fresh[0], keyframes=np.repeat(fresh[0].keyframes[:1], 9, 0))
    outcomes = try_plans(None, fresh, "text", toy, None, plans=1)
    assert write_outcomes(tmp_path / "with", outcomes, toy, demonstrate=True) == {EXECUTED: 4, FAILED: 1}
    assert write_outcomes(tmp_path / "without", outcomes, toy, demonstrate=False) == {EXECUTED: 4, FAILED: 0}
    assert not (tmp_path / "without" / FAILED).exists()


def test_every_task_and_camera_has_the_modes_in_turn():
    runs = [(seed, task, camera) for seed in range(4) for task in "ab" for camera in "xy"]
    modes = {}
    for (_, task, camera), mode in in_turn(runs, ("text", "both")):
        modes.setdefault((task, camera), []).append(mode)
    assert modes == {(task, camera): ["text", "both"] * 2 for task in "ab" for camera in "xy"}


@pytest.fixture(scope="module")
def start(world, tmp_path_factory, asked):
    """A folder with a random planner and a random read-out of 32 px."""
    folder = tmp_path_factory.mktemp("improve")
    config = config_for(world, max_steps=1, out=folder / "run")
    config.export.out = folder / "start.safetensors"
    train(config)
    export(config)
    torch.manual_seed(0)
    spec = ReadoutSpec(height=32, width=32, channels=(8, 8), points=4, view=asked[0].view, mean=(0.5, 0.4, 1.0))
    (folder / "readout").mkdir()
    save_file(ReadoutNet(spec).state_dict(), folder / "readout" / "readout.safetensors", metadata=spec.to_metadata())
    return folder


@pytest.fixture
def config_of(world, start, toy, tmp_path):
    """A function (changes of the section) -> configuration of rounds in the toy world."""

    def make(**changes) -> Config:
        values = config_for(world).model_dump(exclude_none=True)
        section = {
            "out": tmp_path / "rounds", "lora": start / "start.safetensors", "readout": start / "readout",
            "world": "toy", "wordings": "plain", "first_seed": FIRST, "scenes": 6, "plans": 1, "rounds": 2,
            "held_out_seed": HELD_OUT, "held_out_scenes": 2, "modes": ["text"],
        }  # fmt: skip
        return Config.model_validate(values | {"improve": section | changes})

    return make


def test_a_round_trains_on_what_succeeded_and_rounds_go_on_from_their_folder(config_of, known_plans, start, tmp_path):
    fails, calls = known_plans
    fails |= {FIRST: 9}
    best = rounds.improve(config_of(rounds=1))
    out = tmp_path / "rounds"
    result = json.loads((out / "improve.json").read_text())
    assert [entry["episodes"] for entry in result["rounds"]] == [{}, {EXECUTED: 5, FAILED: 1}]
    assert all(set(entry["success"]) == {"text"} for entry in result["rounds"])
    made = load_file(out / "round_01" / "planner.safetensors")
    before = load_file(start / "start.safetensors")
    assert any(not torch.equal(made[name].float(), before[name].float()) for name in before)
    weights = yaml.safe_load((out / "round_01" / "run" / "config.yaml").read_text())["train"]["cache"]
    assert sorted(weights.values()) == [1.0, 1.0, 2.0]
    means = [entry["mean"] for entry in result["rounds"]]
    chosen = "round_01/planner" if means[1] > means[0] else "start"
    source = out / f"{chosen}.safetensors" if means[1] > means[0] else start / "start.safetensors"
    assert best.read_bytes() == source.read_bytes()
    assert (out / "improve.png").stat().st_size > 1000
    planned = len(calls)
    rounds.improve(config_of(rounds=1))
    assert len(calls) == planned, "a finished round was planned again"
    with pytest.raises(TrainingError, match=r"improve\.plans must be 1, as in the rounds of .*, got 2"):
        rounds.improve(config_of(plans=2))


def test_rounds_end_when_held_out_success_stops_rising(config_of, monkeypatch, tmp_path):
    rates = iter([0.5, 0.7, 0.7, 0.9])

    def judged(config, section, net, number, folder, lora, episodes):
        row = {"successes": 1, "n": 2, "rate": next(rates), "low": 0.0, "high": 1.0}
        return rounds.Round(number, folder, tmp_path / f"{number}.safetensors", episodes, {"text": row})

    for number in range(4):
        (tmp_path / f"{number}.safetensors").write_text(str(number))
    monkeypatch.setattr(rounds, "_judged", judged)
    monkeypatch.setattr(
        rounds, "_round", lambda config, section, net, done: judged(None, section, net, len(done), tmp_path, None, {})
    )
    best = rounds.improve(config_of(rounds=5))
    assert best.read_text() == "1"
    assert len(json.loads((tmp_path / "rounds" / "improve.json").read_text())["rounds"]) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first_seed": 0}, r"improve\.first_seed: seeds 0 to 999 are evaluation's in world toy, got 0 to 11"),
        ({"first_seed": 990}, "evaluation's"),
        ({"held_out_seed": 999}, r"improve\.held_out_seed: seeds 0 to 999 are evaluation's"),
        ({"held_out_seed": FIRST + 11}, r"improve\.held_out_seed: seeds 5011 to 5012 are also trained on"),
        ({"world": "mars"}, "mars"),
    ],
)
def test_seeds_of_evaluation_are_refused(config_of, changes, message):
    with pytest.raises(Exception, match=message):
        rounds.improve(config_of(**changes))


def test_a_mode_that_the_planner_lacks_is_refused(config_of):
    config = config_of()
    config.improve.modes = ["goal"]
    with pytest.raises(TrainingError, match=r"improve\.modes must be some of text, trajectory, both, got goal"):
        rounds.improve(config)

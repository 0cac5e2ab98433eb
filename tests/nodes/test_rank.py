"""Rank Plans: the better-looking plan comes first, whatever its place; frames that do not divide are refused."""

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.comfyui


@pytest.fixture
def readout_file(module, monkeypatch, tmp_path):
    """Random weights in the place of the read-out that comes with the plugin."""
    from safetensors.torch import save_file

    from visual_planner.execution.camera import View
    from visual_planner.execution.readout import ReadoutNet, ReadoutSpec

    with torch.inference_mode(False):
        torch.manual_seed(0)
        view = View((1.16, 0.0, 0.86), ((0.0, -0.3, -0.5), (0.5, 0.0, -0.2), (0.0, -0.4, -0.4)))
        net = ReadoutNet(ReadoutSpec(view=view, mean=(0.5, 0.5, 1.0), spread=(0.2, 0.2, 0.1)))
        path = tmp_path / "readout.safetensors"
        save_file(net.state_dict(), path, metadata=net.spec.to_metadata())
    monkeypatch.setitem(module("nodes.simulator").READOUTS, "jaco", path)
    return path


def moving_square():
    frames = torch.full((9, 64, 64, 3), 0.7)
    for number in range(9):
        frames[number, 20:32, 6 + 5 * number : 18 + 5 * number] = torch.tensor((0.9, 0.4, 0.1))
    return frames


def test_a_plan_that_moves_is_before_one_that_stands(comfy, readout_file):
    good = moving_square()
    still = good[:1].repeat(9, 1, 1, 1)
    for plans in ((still, good, still), (good, still, still)):
        best, ranked, order, picture = comfy.call("VisualPlannerRank", frames=torch.cat(plans))
        place = 1 + [plan is good for plan in plans].index(True)
        assert torch.equal(best, good) and torch.equal(ranked[:9], good)
        assert order.splitlines()[0].startswith(f"plan {place}: ") and len(order.splitlines()) == 3
        totals = [float(line.split()[2]) for line in order.splitlines()]
        assert totals == sorted(totals, reverse=True)
        assert picture.shape == (1, 3 * 64 + 2 * 4, 9 * 64, 3)


def test_the_read_out_is_loaded_once_for_all_plans(comfy, module, monkeypatch, readout_file):
    execution, loaded = module("nodes.simulator"), []
    load = execution.load_tensors
    monkeypatch.setattr(execution, "load_tensors", lambda path, name: loaded.append(path) or load(path, name))
    comfy.call("VisualPlannerRank", frames=torch.cat([moving_square()] * 3))
    assert loaded == [readout_file]


def test_frames_must_be_whole_plans(comfy, readout_file):
    with pytest.raises(ValueError, match="whole plans of 9 frames each, got 10 frames"):
        comfy.call("VisualPlannerRank", frames=torch.rand(10, 64, 64, 3))


def test_a_read_out_of_another_kind_is_refused(comfy, module, monkeypatch, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    with torch.inference_mode(False):
        save_file({"a": torch.zeros(2)}, path)
    monkeypatch.setitem(module("nodes.simulator").READOUTS, "jaco", path)
    with pytest.raises(ValueError, match="must have a record"):
        comfy.call("VisualPlannerRank", frames=torch.rand(9, 64, 64, 3))


def test_scores_of_laws(module):
    """A kept path scores 1, a missed one less; doubt costs; a still plan scores 0; equal plans keep their order."""
    ranking, readout = module("visual_planner.execution.ranking"), module("visual_planner.execution.readout")
    places = np.linspace((0.3, 0.0, 0.2), (0.4, 0.1, 0.1), 9)
    picture = np.linspace((0.5, 0.3), (0.7, 0.6), 9)
    reading = readout.Reading(places, np.zeros(9), np.full(9, 0.004), np.full(9, 0.99), picture)
    assert ranking.path_adherence(reading, picture) == pytest.approx(1.0)
    assert ranking.path_adherence(reading, picture + 0.05) < 0.4
    frames = np.linspace(0.2, 0.8, 9, dtype=np.float32)[:, None, None, None] * np.ones((1, 16, 16, 3), np.float32)
    report = module("visual_planner.checks.diagnostics").diagnose(frames)
    score = ranking.score_plan(reading, report, picture)
    assert score.parts == pytest.approx({"path": 1.0, "sure": 0.99, "least sure": 0.99, "gripper": 1.0})
    assert score.total == pytest.approx(np.mean(list(score.parts.values())))
    doubtful = readout.Reading(places, np.full(9, 0.4), np.full(9, 0.004), np.linspace(0.9, 0.1, 9), picture)
    parts = ranking.score_plan(doubtful, report, picture).parts
    assert (parts["sure"], parts["least sure"]) == pytest.approx((0.5, 0.1)) and parts["gripper"] < 0.5
    still = module("visual_planner.checks.diagnostics").diagnose(frames[:1].repeat(9, axis=0))
    assert ranking.score_plan(reading, still, picture).total == 0.0
    scores = [ranking.Score({"sure": value}) for value in (0.2, 0.9, 0.2, 0.5)]
    assert ranking.order_of(scores) == [1, 3, 0, 2]
    with pytest.raises(ValueError, match=r"must give \(9, 2\) places, got \(8, 2\)"):
        ranking.path_adherence(reading, picture[:8])


def test_a_plan_that_stands_apart_scores_less(module):
    """The part is exp(-d / scale) to each other plan; a still one stays at 0; of two plans none stands apart."""
    ranking, readout = module("visual_planner.execution.ranking"), module("visual_planner.execution.readout")
    places = np.linspace((0.3, 0.0, 0.2), (0.4, 0.1, 0.1), 9)
    away = places + np.linspace((0.0, 0.0, 0.0), (0.0, 0.0, 0.3), 9)
    away[0] += 5.0  # the first frame is given: what is read off it does not count
    reading = readout.Reading(places, np.zeros(9), np.full(9, 0.004), np.full(9, 0.99), np.zeros((9, 2)))
    other = readout.Reading(away, np.zeros(9), np.full(9, 0.004), np.full(9, 0.99), np.zeros((9, 2)))
    alone = [ranking.Score({"sure": 0.8}), ranking.Score({"sure": 0.9}), ranking.Score({"sure": 0.8}, moves=False)]
    scores = ranking.compare(alone, [reading, other, reading])
    shared = np.exp(-np.linspace(0.0, 0.3, 9)[1:].mean() / ranking.AGREEMENT_SCALE_M)
    assert [score.parts["agreement"] for score in scores] == pytest.approx([(1 + shared) / 2, shared, (1 + shared) / 2])
    assert scores[0].total == pytest.approx((0.8 + (1 + shared) / 2) / 2)
    assert scores[1].total == pytest.approx((0.9 + shared) / 2)
    assert scores[2].total == 0.0 and ranking.order_of(scores) == [0, 1, 2]
    assert ranking.compare(alone[:2], [reading, other]) == alone[:2]

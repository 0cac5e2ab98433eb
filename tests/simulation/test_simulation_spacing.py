"""Frames that are not evenly spaced: chosen by the shape of the path, executed as far apart in time as in space."""

import itertools
import json

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from simulation.dataset import DatasetOptions, write_dataset
from simulation.episode import demonstrate
from simulation.errors import SimulationError
from simulation.execution import execute
from simulation.toolpath import PLAN_STEPS, commands, monotone_slopes, steps_between, steps_between_each
from training.data.sources import open_source
from training.sections.config import Config

PLACE = 9_000_003
"""Seed of a scene whose task is place."""


def test_even_frames_are_as_they_were():
    keys = np.random.default_rng(0).uniform(0.25, 0.5, (9, 4))
    assert steps_between_each(keys, 9).tolist() == [steps_between(9)] * 8
    one, done = commands(keys, steps_between(9))
    each, done_too = commands(keys, steps_between_each(keys, 9))
    assert done == done_too
    for (a, grip), (b, grip_too) in zip(one, each, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
        assert grip == grip_too


def test_a_long_way_takes_longer():
    keys = np.array([[0.3, 0, 0.2, 0], [0.5, 0, 0.2, 0], [0.5, 0.05, 0.2, 0], [0.5, 0.05, 0.2, 1]], float)
    spans = steps_between_each(keys, 4, by_shape=True)
    assert spans[0] > 2 * spans[1] and spans[2] > spans[1], "a gripper that closes counts as 10 cm"
    assert abs(spans.sum() - PLAN_STEPS) <= 3
    still = np.repeat(keys[:1], 4, axis=0)
    assert steps_between_each(still, 4, by_shape=True).tolist() == [steps_between(4)] * 3
    assert steps_between_each(keys[:2], 9, by_shape=True).tolist() == [25], "a part takes its part"


def test_the_curve_through_uneven_keyframes_is_scipys():
    """Inside; at the ends the arm rests."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        values, spans = rng.normal(size=(7, 3)), rng.integers(4, 60, 6).astype(float)
        at = np.concatenate([[0.0], np.cumsum(spans)])
        wanted = PchipInterpolator(at, values, axis=0).derivative()(at)
        np.testing.assert_allclose(monotone_slopes(values, spans)[1:-1], wanted[1:-1], atol=1e-12)


def test_every_keyframe_is_met_at_its_step():
    rng = np.random.default_rng(2)
    keys = np.column_stack([rng.uniform(0.25, 0.5, (6, 3)), [0, 0, 1, 1, 0, 0]])
    steps, done = commands(keys, steps_between_each(keys, 6, by_shape=True))
    for number, step in enumerate(done[1:], start=1):
        np.testing.assert_allclose(steps[step - 1][0], keys[number, :3], atol=1e-12)
    assert done == sorted(set(done))


def test_frames_by_shape_have_the_grasp(world):
    """The script's grasp falls between two of eight even frames; frames by shape show it."""
    by_time, by_shape = (demonstrate(world, PLACE, ("place",), frames=8, keyframes=rule) for rule in ("time", "shape"))
    assert by_time.success and by_shape.success and by_time.steps is None

    def lowest_closed(episode):
        return episode.tool_m[episode.gripper >= 0.5, 2].min()

    assert lowest_closed(by_shape) < lowest_closed(by_time) - 0.02
    assert by_shape.steps[0] == 0 and by_shape.steps[-1] == PLAN_STEPS and (np.diff(by_shape.steps) > 0).all()
    times = np.array(by_shape.record("x")["path_px"])[:, 2]
    assert times[0] == 0 and times[-1] == 1 and (np.diff(times) >= 0).all()


@pytest.mark.parametrize("task", ["reach", "push", "pick", "place"])
def test_true_keyframes_by_shape_do_every_task(world, task):
    episode = demonstrate(world, PLACE + 10, (task,), keyframes="shape")
    keys = np.column_stack([episode.tool_m, episode.gripper])
    done = execute(keys, episode.scene, episode.task, world, plan_frames=9, spacing="shape")
    assert episode.success and done.success


def test_an_episode_that_begins_later_is_chosen_from_its_rest(world):
    episode = demonstrate(world, PLACE, ("place",), begins=0.5, keyframes="shape")
    assert episode.steps[0] == PLAN_STEPS // 2 and len(episode.frames) == 9


def test_a_data_set_by_shape_says_so_and_prepare_follows(world, tmp_path):
    options = DatasetOptions(2, seed=5, size=32, keyframes="shape", later_share=0.5)
    summary = write_dataset(tmp_path / "data", options, progress=False)
    assert summary["keyframes"] == "shape" and summary["seconds_per_frame"] is None
    for line in (tmp_path / "data" / "episodes.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert len(record["moments"]) == 9 and all(b > a for a, b in itertools.pairwise(record["moments"]))
    from training.data.prepare import prepare

    section = {"source": tmp_path / "data", "out": tmp_path / "pairs", "processes": 1, "validation_episodes": 1}
    spec = {"cell_height": 32, "cell_width": 32}
    prepare(Config.model_validate({"spec": spec, "prepare": section}))
    assert json.loads((tmp_path / "pairs" / "dataset.json").read_text())["spec"]["keyframes"] == "shape"
    assert open_source(tmp_path / "data").keyframes == "shape"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"keyframes": "often"}, "keyframes must be time or shape, got 'often'"),
        ({"keyframes": "shape", "policy": "play"}, "keyframes must be time for play, got shape"),
    ],
)
def test_options_that_cannot_be_are_named(values, message):
    with pytest.raises(SimulationError, match=message):
        DatasetOptions(1, **values)

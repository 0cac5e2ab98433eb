"""Where the end effector is in each frame: from the episodes to the weights of the loss."""

import json
import shutil

import pytest
import torch

from support.small_world import SIZE, config_for, write_episodes
from training.cache.mixture import Mixture
from training.cache.read import Cache
from training.cache.write import cache
from training.data.prepare import prepare
from training.errors import TrainingError
from training.planner.batches import CachedPairs
from training.planner.train import make_loop, run_loop
from training.sections.config import Config

WEIGHT = {"objective": {"end_effector_weight": 5.0}}


def words_only(folder, **train) -> Config:
    """The small world's commands for a planner that is told words and shown no path."""
    told = config_for(folder, **train).model_dump()
    return Config.model_validate({**told, "spec": {**told["spec"], "modes": ["text"]}})


@pytest.fixture(scope="module")
def known(tmp_path_factory, world):
    """Folder with pairs and cache of such a planner, made from episodes with paths."""
    folder = tmp_path_factory.mktemp("known")
    shutil.copytree(world / "base", folder / "base")
    write_episodes(folder / "episodes")
    config = words_only(folder)
    prepare(config)
    cache(config)
    return folder


def test_it_comes_from_the_episodes_path_and_reaches_the_cache(known):
    pairs = [json.loads(line) for line in (known / "pairs" / "pairs.jsonl").read_text().splitlines()]
    assert len(pairs) == 6
    for pair in (*pairs, *Cache(known / "cache").pairs):
        assert pair["mode"] == "text"
        for step, (x, y) in enumerate(pair["end_effector"]):
            assert (x * SIZE, y * SIZE) == pytest.approx((7 + 2 * step, 13), abs=0.01)


def test_batches_have_it_where_a_weight_asks_for_it_and_say_what_is_unknown(known):
    section = words_only(known, **WEIGHT).train
    mixture = Mixture.open(known / "cache")
    next(pair for pair in mixture.pairs if pair["split"] == "train").pop("end_effector")
    places = torch.cat([CachedPairs(mixture, section).batch(n, torch.device("cpu")).end_effector for n in range(8)])
    unknown = places.isnan().flatten(1).all(dim=1)
    assert places.shape == (16, 9, 2) and 0 < unknown.sum() < 16 and not places[~unknown].isnan().any()
    plain = words_only(known).train
    assert CachedPairs(mixture, plain).batch(0, torch.device("cpu")).end_effector is None


def test_a_planner_trains_with_the_weight(known, tmp_path):
    def loss(**train):
        config = words_only(known, max_steps=2, **train)
        assert run_loop(make_loop(config), config)
        return [json.loads(line)["loss"] for line in (config.train.out / "log.jsonl").read_text().splitlines()]

    weighted = loss(out=tmp_path / "weighted", **WEIGHT)
    assert weighted != loss(out=tmp_path / "plain") and all(0 < value < 10 for value in weighted)


def test_a_cache_without_it_is_refused_in_one_line(known, tmp_path):
    shutil.copytree(known / "cache", tmp_path / "cache")
    file = tmp_path / "cache" / "pairs.jsonl"
    pairs = [json.loads(line) for line in file.read_text().splitlines()]
    short = [{**pair, "end_effector": [[0.5, 0.5]]} for pair in pairs]
    file.write_text("".join(json.dumps(pair) + "\n" for pair in short))
    with pytest.raises(TrainingError, match="line 1: end_effector must have 9 places, one a frame, got 1"):
        Cache(tmp_path / "cache")
    file.write_text("".join(json.dumps({**pair, "end_effector": [["a", 1]] * 9}) + "\n" for pair in pairs))
    with pytest.raises(TrainingError, match="line 1: .end_effector.0.0. must be a number"):
        Cache(tmp_path / "cache")
    bare = [{key: value for key, value in pair.items() if key != "end_effector"} for pair in pairs]
    file.write_text("".join(json.dumps(pair) + "\n" for pair in bare))
    config = words_only(known, cache=tmp_path / "cache", out=tmp_path / "run", **WEIGHT)
    with pytest.raises(TrainingError, match=r"end_effector_weight must be 0 for cache .*: none of its pairs says"):
        make_loop(config)

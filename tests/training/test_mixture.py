"""Training on several caches together: their shares, and that one cache alone is drawn from as ever."""

import json
import re
import shutil

import pytest
import torch

from support.small_world import SPEC, config_for, write_episodes
from training.cache.mixture import Mixture
from training.cache.write import cache
from training.data.prepare import prepare
from training.errors import TrainingError
from training.loop.randomness import step_generator
from training.planner.batches import CachedPairs
from training.planner.train import make_loop, train
from training.sections.config import load_config, save_config

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def other(world, tmp_path_factory):
    """A cache of another, larger data set on the same base."""
    return another_cache(world, tmp_path_factory.mktemp("other"), seed=1)


def another_cache(world, folder, seed):
    config = config_for(world)
    source = write_episodes(folder / "episodes", count=10, seed=seed)
    sections = {
        "prepare": config.prepare.model_copy(update={"source": source, "out": folder / "pairs"}),
        "cache": config.cache.model_copy(update={"data": folder / "pairs", "out": folder / "cache"}),
    }
    prepare(config.model_copy(update=sections))
    cache(config.model_copy(update=sections))
    return folder / "cache"


class Counting(Mixture):
    """Counts how often each cache is read."""

    def target(self, pair):
        self.counts[pair["source"]] += 1
        return super().target(pair)


@pytest.mark.parametrize(("given", "share"), [(None, 0.5), ((3.0, 1.0), 0.75), ((0.1, 0.9), 0.1)])
def test_batches_are_drawn_by_the_caches_shares(world, other, given, share):
    folders = [world / "cache", other]
    where = folders if given is None else dict(zip(folders, given, strict=True))
    section = config_for(world, batch_size=8).train
    pairs = CachedPairs(Counting.open(where), section)
    pairs.mixture.counts = [0, 0]
    if given is None:  # then every pair is as likely as any other
        sizes = [sum(pair["split"] == "train" for pair in cache.pairs) for cache in pairs.mixture.caches]
        share = sizes[0] / sum(sizes)
        assert share < 0.4
    for index in range(150):
        pairs.batch(index, CPU)
    first, second = pairs.mixture.counts
    assert abs(first / (first + second) - share) < 0.05  # 1200 draws: three standard deviations are 0.04


def test_one_cache_is_drawn_from_as_without_a_mixture(world):
    section = config_for(world, batch_size=4).train
    pairs = CachedPairs(Mixture.open(world / "cache"), section)
    by_mode = {
        mode: [p for p in pairs.mixture.pairs if p["split"] == "train" and p["mode"] == mode] for mode in pairs.modes
    }
    draw = step_generator(section.seed + 1, 3)
    modes = torch.multinomial(pairs.weights, 4, replacement=True, generator=draw)
    expected = [
        by_mode[pairs.modes[m]][int(torch.randint(len(by_mode[pairs.modes[m]]), (), generator=draw))] for m in modes
    ]
    assert torch.equal(pairs.batch(3, CPU).target, torch.stack([pairs.mixture.target(p).float() for p in expected]))
    assert "0_" not in expected[0]["id"]


def test_a_run_on_two_caches_comes_from_the_configuration_file(world, other, tmp_path):
    config = config_for(world, out=tmp_path / "run", batch_size=2, max_steps=2, save_every=2)
    save_config(config, tmp_path / "config.yaml")
    text = (tmp_path / "config.yaml").read_text()
    assert f"cache: {world / 'cache'}" in text
    mixed = text.replace(f"cache: {world / 'cache'}", f"cache: {{{world / 'cache'}: 1, {other}: 2}}")
    (tmp_path / "config.yaml").write_text(mixed)
    train(load_config(tmp_path / "config.yaml"))
    assert (tmp_path / "run" / "checkpoints" / "00000002").is_dir()
    again = load_config(tmp_path / "run" / "config.yaml")
    assert {str(key): value for key, value in again.train.cache.items()} == {str(world / "cache"): 1, str(other): 2}
    listed = load_config(tmp_path / "config.yaml", [f"train.cache=[{world / 'cache'}, {other}]"])
    assert [str(folder) for folder in listed.train.cache] == [str(world / "cache"), str(other)]


@pytest.mark.parametrize("shares", ["{}", "[]", "{A: 0}", "{A: -1.0}"])
def test_shares_that_make_no_sense_are_refused(world, tmp_path, shares):
    save_config(config_for(world), tmp_path / "config.yaml")
    with pytest.raises(TrainingError, match="train.cache"):
        load_config(tmp_path / "config.yaml", [f"train.cache={shares}"])


def test_scenes_kept_for_validation_in_one_cache_and_trained_on_in_another_are_refused(world, tmp_path):
    longer = another_cache(world, tmp_path, seed=0)  # its first episodes are those of `world`, its last are others
    count = len({pair["first_frame"] for pair in Mixture.open(world / "cache").pairs if pair["split"] != "train"})
    message = f"{count} first frames that {world / 'cache'} keeps for validation are training data in {longer}"
    for folders in ([longer, world / "cache"], [world / "cache", longer]):
        with pytest.raises(TrainingError, match=re.escape(message)):
            Mixture.open(folders)


def test_caches_of_different_kinds_are_refused(world, tmp_path):
    shutil.copytree(world / "cache", tmp_path / "cache")
    manifest = json.loads((tmp_path / "cache" / "manifest.json").read_text())
    manifest["spec"] |= {**SPEC, "steps": 5}
    (tmp_path / "cache" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(TrainingError, match="must have the same spec: .*"):
        Mixture.open([world / "cache", tmp_path / "cache"])


def test_a_cache_does_not_say_how_plans_are_executed(world, tmp_path):
    """One from before the recipe said so is trained on as ever, also beside a newer one, and the recipe is recorded."""
    shutil.copytree(world / "cache", tmp_path / "cache")
    manifest = json.loads((tmp_path / "cache" / "manifest.json").read_text())
    older = {name: value for name, value in manifest["spec"].items() if name not in ("execution_steps", "goal_prompt")}
    manifest["spec"] = {**older, "version": 4}
    (tmp_path / "cache" / "manifest.json").write_text(json.dumps(manifest))
    both = Mixture.open([world / "cache", tmp_path / "cache"])
    assert len(both.pairs) == 2 * len(both.caches[0].pairs)
    config = config_for(world, cache=tmp_path / "cache", out=tmp_path / "lora", max_steps=1)
    config.spec["execution_steps"] = 1
    loop = make_loop(config)
    assert (loop.record["spec"]["steps"], loop.record["spec"]["execution_steps"]) == (SPEC["steps"], 1)

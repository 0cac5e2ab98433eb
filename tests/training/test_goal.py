"""Goal pictures on the way of the data: episodes -> pairs -> cache -> LoRA -> plan -> figures."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from support.small_world import EPISODES, SPEC, config_for
from training.cache.plan import plan_cache
from training.cache.read import Cache
from training.cache.write import cache
from training.data.check import check_pairs
from training.data.episodes import EpisodeSet
from training.data.pairs_folder import goal_of, read_pairs
from training.data.prepare import prepare
from training.evaluation.closed_loop.requests import planner_input
from training.evaluation.evaluate import evaluate
from training.evaluation.scenes import open_scenes
from training.model.autoencoder import encode_pictures, load_vae
from training.model.pipeline import PlannerPipeline, read_spec
from training.planner.export import export
from training.planner.train import train
from visual_planner.planner.prompts import MODES
from visual_planner.planner.spec import PlannerSpec

CHOSEN = ("text", "both", "goal", "text_goal", "both_goal")


def goal_config(world, folder, **spec):
    """The small world's configuration with goals, its results in a folder of their own."""
    config = config_for(world, out=folder / "lora", cache=folder / "cache", max_steps=2)
    return config.model_copy(update={
        "spec": {**SPEC, "modes": CHOSEN, **spec},
        "prepare": config.prepare.model_copy(update={"out": folder / "pairs"}),
        "cache": config.cache.model_copy(update={"data": folder / "pairs", "out": folder / "cache"}),
        "export": config.export.model_copy(update={"run": folder / "lora", "out": folder / "planner.safetensors"}),
        "evaluate": config.evaluate.model_copy(
            update={"lora": folder / "planner.safetensors", "out": folder / "evaluation", "scenes": 2, "pictures": 1}
        ),
    })  # fmt: skip


@pytest.fixture(scope="module")
def made(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("goal")
    config = goal_config(world, folder)
    prepare(config)
    cache(config)
    return SimpleNamespace(folder=folder, config=config, world=world, spec=PlannerSpec(**{**SPEC, "modes": CHOSEN}))


def picture(file):
    with Image.open(file) as image:
        return np.array(image)


def test_pairs_show_the_last_frame_in_the_modes_with_a_goal(made):
    lines = [json.loads(line) for line in (made.folder / "pairs" / "pairs.jsonl").read_text().splitlines()]
    assert len(lines) == len(CHOSEN) * EPISODES
    frames = EpisodeSet.open(made.world / "episodes").episodes[2].load_frames()
    pairs = {line["mode"]: line for line in lines if line["episode"] == "000002"}
    shown = {mode: picture(made.folder / "pairs" / pair["source"]) for mode, pair in pairs.items()}
    for mode, seen in shown.items():
        assert seen.shape == (32, 64, 3)
        assert np.array_equal(seen[:, :32], frames[0]) == (mode in ("text", "goal", "text_goal"))
        assert np.array_equal(seen[:, 32:], frames[-1]) == mode.endswith("goal")
        assert seen[:, 32:].any() == mode.endswith("goal")
    assert pairs["goal"]["source"] == pairs["text_goal"]["source"]  # each picture is written and encoded once
    assert pairs["both"]["text"] == pairs["both_goal"]["text"] != pairs["goal"]["text"]
    assert check_pairs(made.folder / "pairs") == []


def test_the_check_knows_a_wrong_goal(made, tmp_path):
    config = goal_config(made.world, tmp_path)
    prepare(config)
    _, pairs = read_pairs(tmp_path / "pairs")
    by_mode = {pair["mode"]: pair for pair in pairs if pair["episode"] == "000001"}
    for mode, goal in (("text", 200), ("goal", 0)):
        file = tmp_path / "pairs" / by_mode[mode]["source"]
        pixels = picture(file)
        pixels[:, 32:] = goal
        Image.fromarray(pixels).save(file)
    problems = "\n".join(check_pairs(tmp_path / "pairs"))
    assert "mode text has no goal, so the goal's cell must be black" in problems
    assert "its goal must be the last frame of targets/000001.png, but" in problems


def test_the_cache_holds_both_cells_encoded_apart(made):
    opened, vae = Cache(made.folder / "cache"), load_vae(made.world / "base" / "vae")
    _, pairs = read_pairs(made.folder / "pairs")
    sources = {pair["id"]: pair["source"] for pair in pairs}
    for pair in opened.pairs:
        seen = picture(made.folder / "pairs" / sources[pair["id"]])
        wanted = torch.cat([encode_pictures(vae, half[None]) for half in (seen[:, :32], seen[:, 32:])], -1)[0]
        latent = opened.latents("conditions", pair["condition"]).float()
        assert tuple(latent.shape) == made.spec.condition_latent_shape
        assert torch.allclose(latent, wanted, atol=2e-2)


def test_shards_of_conditions_with_room_for_a_goal_are_others(made):
    _, pairs = read_pairs(made.folder / "pairs")
    without = PlannerSpec(**{**SPEC, "modes": ("text", "both")})
    plans = [plan_cache(made.config.cache, spec, pairs) for spec in (made.spec, without)]
    stamps = [{s.file: s.stamp(lambda name: name) for s in plan.shards if s.kind != "text"} for plan in plans]
    differ = {file.split("-")[0] for file in stamps[0] if stamps[0][file] != stamps[1][file]}
    assert differ == {"conditions"}


def test_a_planner_is_trained_exported_and_evaluated_in_all_its_modes(made):
    train(made.config)
    export(made.config)
    file = made.folder / "planner.safetensors"
    assert read_spec(file) == made.spec
    figures = evaluate(made.config)
    assert set(CHOSEN) | {f"no_lora_{mode}" for mode in CHOSEN} <= figures.keys()
    planner = PlannerPipeline.load(made.world / "base", file)
    (scene,) = (read() for read in open_scenes(made.folder / "pairs", 1, made.spec))
    first, goal = scene.asked["goal"][0][:, :32], scene.asked["goal"][0][:, 32:]
    assert np.array_equal(goal, scene.truth[-1])
    plans = {
        name: planner.plan(shown[None], ["nine frames"], seed=3)
        for name, shown in {
            "goal": np.concatenate([first, goal], axis=1), "none": first,
            "black": np.concatenate([first, np.zeros_like(goal)], axis=1),
        }.items()
    }  # fmt: skip
    assert torch.equal(plans["none"], plans["black"])
    assert not torch.equal(plans["none"], plans["goal"])


@pytest.mark.parametrize("tokens", ["full_grid", "first_cell_cached"])
def test_other_conditions_take_goals_too(made, tmp_path, tokens):
    config = goal_config(made.world, tmp_path, condition_tokens=tokens)
    if tokens == "full_grid":
        config = config.model_copy(update={"cache": config.cache.model_copy(update={"encode": "grid"})})
    prepare(config)
    assert check_pairs(tmp_path / "pairs") == []
    cache(config)
    train(config)
    export(config)
    assert read_spec(tmp_path / "planner.safetensors").condition_tokens == tokens
    spec, pairs = read_pairs(tmp_path / "pairs")
    pair = next(pair for pair in pairs if pair["mode"] == "text_goal")
    frames = next(e for e in EpisodeSet.open(made.world / "episodes").episodes if e.id == pair["episode"]).load_frames()
    assert np.array_equal(goal_of(picture(tmp_path / "pairs" / pair["source"]), spec), frames[-1])


def test_a_request_shows_how_its_demonstration_ended():
    frames = np.random.default_rng(0).integers(0, 255, (9, 32, 32, 3), np.uint8)
    asked = SimpleNamespace(first=frames[0], truth=frames, trajectory=None, instruction="push it")
    spec = PlannerSpec(**{**SPEC, "modes": MODES})
    for mode in MODES:
        shown, prompt = planner_input(asked, mode, spec)
        assert np.array_equal(shown[:, :32], frames[0])
        assert np.array_equal(shown[:, 32:], frames[-1] if mode.endswith("goal") else shown[:, :0])
        assert ("push it" in prompt) == (mode not in ("trajectory", "goal", "trajectory_goal"))

"""The commands in a row, on a small world: episodes -> pairs -> cache -> LoRA -> file -> plan -> figures."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from support.small_world import EPISODES, SPEC, config_for, write_episodes
from training.cache.read import Cache
from training.cache.write import cache
from training.data.episodes import EpisodeSet
from training.data.overlays.recorded import episode_trajectory
from training.data.pairs import make_pair
from training.data.prepare import prepare
from training.errors import TrainingError
from training.evaluation.colours import centroid, displacement, hand_positions, motion, moved_most
from training.model.autoencoder import encode_cells, encode_pictures, load_vae
from training.model.pipeline import PlannerPipeline, read_spec
from training.model.text import TextEncoders
from training.planner.export import export
from training.planner.train import train
from training.tiny_base.pretrain import pretrain
from visual_planner.grid.cells import slice_grid
from visual_planner.planner.spec import PlannerSpec


def read_picture(path):
    with Image.open(path) as image:
        return np.array(image)


@pytest.fixture(scope="module")
def trained(world):
    config = config_for(world, max_steps=2)
    train(config)
    export(config)
    return world


def test_pairs_hold_the_frames_and_prompts_of_each_mode(world):
    frames = EpisodeSet.open(world / "episodes").episodes[1].load_frames()
    lines = map(json.loads, (world / "pairs" / "pairs.jsonl").read_text().splitlines())
    pairs = {pair["mode"]: pair for pair in lines if pair["episode"] == "000001"}
    seen = {}
    for mode in ("text", "trajectory", "both"):
        condition, target = (read_picture(world / "pairs" / pairs[mode][key]) for key in ("source", "target"))
        assert np.array_equal(target[32:64, 64:96], frames[3])  # serpentine: frame 4 stands below frame 3
        assert not condition[32:].any()
        assert not condition[:, 32:].any()
        seen[mode] = condition[:32, :32], pairs[mode]["text"]
    assert np.array_equal(seen["text"][0], frames[0])
    assert np.array_equal(seen["trajectory"][0], seen["both"][0])
    drawn = np.abs(seen["both"][0].astype(int) - frames[0]).sum(axis=2) > 60
    assert drawn[12:15, 8:22].mean() > 0.5
    assert not drawn[22:].any()
    assert [prompt for _, prompt in seen.values()] == [
        "nine frames: push the red cube number 1",
        "nine frames along the path",
        "nine frames along the path: push the red cube number 1",
    ]


def test_the_pairs_folder_splits_by_episode(world):
    lines = [json.loads(line) for line in (world / "pairs" / "pairs.jsonl").read_text().splitlines()]
    assert len(lines) == 3 * EPISODES
    by_split = {split: {p["episode"] for p in lines if p["split"] == split} for split in ("train", "validation")}
    assert len(by_split["validation"]) == 2
    assert not by_split["train"] & by_split["validation"]
    assert all((world / "pairs" / pair[key]).is_file() for pair in lines for key in ("source", "target"))


def test_the_path_keeps_its_times(world):
    record = EpisodeSet.open(world / "episodes").episodes[0].record
    points = episode_trajectory(np.array(record["path_px"]), (32, 32)).paths[0].points
    assert (points[0].x, points[0].t) == (7.0, 0.0)
    assert (points[-1].x, points[-1].t) == (23.0, 1.0)


def check_cache(cache_folder, world, encode):
    """Every pair of a cache against its pictures and prompt, encoded anew."""
    opened = Cache(cache_folder)
    assert opened.spec == PlannerSpec(**SPEC)
    assert len(opened.manifest["shards"]["targets"]) == 2  # six targets in shards of four
    vae = load_vae(world / "base" / "vae")
    encoders = TextEncoders.load(world / "base")
    pairs = {pair["id"]: pair for pair in map(json.loads, (world / "pairs" / "pairs.jsonl").read_text().splitlines())}
    assert len(opened.pairs) == len(pairs) == 3 * EPISODES
    for cached in opened.pairs:
        pair = pairs[cached["id"]]
        target = torch.from_numpy(read_picture(world / "pairs" / pair["target"]))[None]
        wanted = encode(vae, target)[0]
        assert torch.allclose(opened.latents("targets", cached["target"]).float(), wanted, atol=2e-2)
        wanted = encode_pictures(vae, read_picture(world / "pairs" / pair["source"])[None, :32, :32])[0]
        assert torch.allclose(opened.latents("conditions", cached["condition"]).float(), wanted, atol=2e-2)
        states, pooled = encoders([pair["text"]])
        assert torch.allclose(opened.text(cached["text"])[0], states[0], atol=1e-5)
        assert torch.allclose(opened.text(cached["text"])[1], pooled[0], atol=1e-5)


def test_the_cache_holds_what_the_encoders_give(world, tmp_path):
    layout = PlannerSpec(**SPEC).layout
    check_cache(world / "cache", world, lambda vae, grid: encode_cells(vae, slice_grid(grid, layout), layout))
    config = config_for(world)
    whole = config.cache.model_copy(update={"encode": "grid", "out": tmp_path / "cache"})
    cache(config.model_copy(update={"cache": whole}))
    check_cache(tmp_path / "cache", world, encode_pictures)


def test_cells_encoded_one_by_one_have_the_same_latent_for_the_same_picture(world):
    vae = load_vae(world / "base" / "vae")
    picture = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    latents = encode_cells(vae, picture.repeat(9, 1, 1, 1), PlannerSpec(**SPEC).layout)
    alone = encode_pictures(vae, picture)
    assert latents.shape == (1, 16, 12, 12)
    assert torch.allclose(latents, alone.repeat(1, 1, 3, 3), atol=1e-5)


def test_targets_by_cells_need_conditions_by_cells(world, tmp_path):
    shutil.copytree(world / "pairs", tmp_path / "pairs")
    info = json.loads((tmp_path / "pairs" / "dataset.json").read_text())
    info["spec"]["condition_tokens"] = "full_grid"
    (tmp_path / "pairs" / "dataset.json").write_text(json.dumps(info))
    config = config_for(world)
    section = config.cache.model_copy(update={"data": tmp_path / "pairs", "out": tmp_path / "cache"})
    with pytest.raises(TrainingError, match=r"cache\.encode must be grid for condition_tokens full_grid,"):
        cache(config.model_copy(update={"cache": section}))


def test_two_steps_give_a_file_that_says_what_it_is(trained):
    tensors = load_file(trained / "planner.safetensors")
    with safe_open(trained / "planner.safetensors", "pt") as file:
        metadata = file.metadata()
    assert PlannerSpec.from_metadata(metadata) == PlannerSpec(**SPEC) == read_spec(trained / "planner.safetensors")
    assert metadata["modelspec.architecture"] == "flux-1-dev/lora"
    assert metadata["modelspec.resolution"] == "96x96"
    assert {"transformer.transformer_blocks.0.attn.to_q.lora_A.weight",
            "transformer.single_transformer_blocks.0.proj_out.lora_B.weight",
            "transformer.proj_out.lora_B.weight"} <= tensors.keys()  # fmt: skip
    assert all(key.startswith("transformer.") and key.endswith((".lora_A.weight", ".lora_B.weight")) for key in tensors)
    assert any(tensor.abs().max() > 0 for key, tensor in tensors.items() if ".lora_B." in key)


def test_the_exported_file_plans_like_the_trained_model(trained):
    """The file fused into the base gives what the transformer with its live adapter gives."""
    from training.loop.checkpoints import latest_checkpoint, load_checkpoint
    from training.model.lora import add_lora
    from training.model.transformer import load_transformer

    config = config_for(trained, max_steps=2)
    planner = PlannerPipeline.load(trained / "base", trained / "planner.safetensors")
    live = load_transformer(trained / "base")
    add_lora(live, config.train.lora)
    weights = load_checkpoint(latest_checkpoint(trained / "lora"))[0]["weights"]
    missing, unexpected = live.load_state_dict(weights, strict=False)
    assert not unexpected
    assert not any(".lora_" in name for name in missing)
    frames = EpisodeSet.open(trained / "episodes").episodes[0].load_frames()[:1]
    plans = [
        PlannerPipeline(transformer, planner.vae, planner.encoders, planner.spec).plan(
            frames, ["nine frames: push"], seed=3
        )
        for transformer in (planner.transformer, live)
    ]
    assert plans[0].shape == (1, 9, 32, 32, 3)
    assert (plans[0] - plans[1]).abs().max() < 1e-4
    assert not torch.allclose(plans[0], planner.plan(frames, ["nine frames: push"], seed=4))


def test_measurements_read_drawn_frames():
    frames = np.full((9, 64, 64, 3), 230, np.uint8)
    for step in range(9):
        frames[step, 20:26, 10 + 3 * step : 16 + 3 * step] = (220, 15, 15)
        frames[step, 40:46, 30:36] = (10, 160, 30)
        frames[step, 4:10, 50:56] = (255, 120, 0)
    assert centroid(frames[0], "red") == pytest.approx([13.0, 23.0])
    assert displacement(frames, "red") == pytest.approx(21.0)
    assert displacement(frames, "blue") == 0.0
    assert moved_most(frames, ["red", "green"]) == "red"
    assert moved_most(frames, ["green"]) is None
    assert hand_positions(frames)[4] == pytest.approx([53.0, 7.0])
    assert motion(frames) > 0 == motion(frames[[0, 0]])


def test_commands_refuse_what_they_cannot_use(world, tmp_path):
    config = config_for(world)
    with pytest.raises(TrainingError, match=".* already"):
        prepare(config)
    with pytest.raises(TrainingError, match=r"finished cache \(of"):
        cache(config)
    with pytest.raises(TrainingError, match="the base must see no task"):
        pretrain(
            config.model_copy(update={"pretrain": config.pretrain.model_copy(update={"source": world / "episodes"})})
        )
    other = config.model_copy(update={"spec": {**SPEC, "steps": 3}})
    with pytest.raises(TrainingError, match="spec differs from the one"):
        train(other)
    with pytest.raises(TrainingError, match=r"validation_episodes is 6, but .* has only 6 episodes"):
        section = config.prepare.model_copy(update={"validation_episodes": EPISODES, "out": tmp_path / "pairs"})
        prepare(config.model_copy(update={"prepare": section}))
    assert list(tmp_path.iterdir()) == []


def test_a_base_goes_on_with_the_vocabulary_it_has(world, tmp_path):
    config = config_for(world)
    shutil.copytree(world / "base", tmp_path / "base")
    shutil.copytree(world / "base_run", tmp_path / "run")
    # a vocabulary learned anew may number its words otherwise: mark this one
    file = tmp_path / "base" / "tokenizer" / "vocab.json"
    words = json.loads(file.read_text())
    words["a"], words["b"] = words["b"], words["a"]
    file.write_text(json.dumps(words))
    before = load_file(tmp_path / "base" / "transformer" / "diffusion_pytorch_model.safetensors")
    section = config.pretrain.model_copy(update={"base": tmp_path / "base", "out": tmp_path / "run", "max_steps": 2})
    pretrain(config.model_copy(update={"pretrain": section}))
    after = load_file(tmp_path / "base" / "transformer" / "diffusion_pytorch_model.safetensors")
    assert json.loads(file.read_text()) == words
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_broken_data_is_named_and_nothing_is_half_written(world, tmp_path):
    write_episodes(tmp_path / "episodes", count=3)
    broken = tmp_path / "episodes" / "frames" / "000001.png"
    broken.write_bytes(broken.read_bytes()[:100])
    config = config_for(tmp_path)
    with pytest.raises(TrainingError, match=r"frames .*000001\.png of episode 000001 cannot be read"):
        prepare(config.model_copy(update={"prepare": config.prepare.model_copy(update={"validation_episodes": 1})}))
    assert not (tmp_path / "pairs").exists()
    with pytest.raises(
        TrainingError,
        match=r"frames must have the shape that the spec requires, \(9, 32, 32, 3\), got \(9, 48, 48, 3\)",
    ):
        make_pair(np.zeros((9, 48, 48, 3), np.uint8), None, PlannerSpec(**SPEC))


def test_a_cache_of_other_encoders_is_named(world, tmp_path):
    shutil.copytree(world / "base", tmp_path / "base")
    file = tmp_path / "base" / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(TrainingError, match=r"was made with a vae/diffusion_pytorch_model\.safetensors"):
        Cache(world / "cache").check_encoders(tmp_path / "base")
    shutil.copytree(world / "cache", tmp_path / "cache")
    (tmp_path / "cache" / "conditions-00000.safetensors").unlink()
    with pytest.raises(TrainingError, match=r"cache file .*conditions-00000\.safetensors cannot be read"):
        Cache(tmp_path / "cache")

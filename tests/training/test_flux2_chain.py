"""The commands in a row on a random tiny FLUX.2: episodes -> pairs -> cache -> LoRA -> file -> plan -> figures."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from support.flux2_world import flux2_config, write_flux2_world
from support.tiny_flux2 import TEXT_TOKENS, TEXT_WIDTH, write_tiny_flux2
from training.cache.check import cache_bytes
from training.cache.read import Cache
from training.cache.write import cache
from training.data.episodes import EpisodeSet
from training.data.pairs_folder import read_pairs
from training.errors import TrainingError
from training.evaluation.evaluate import evaluate
from training.loop.checkpoints import latest_checkpoint
from training.model.autoencoder import load_vae
from training.model.pipeline import PlannerPipeline, read_spec
from training.planner.export import export
from training.planner.train import train
from visual_planner.planner.families import FAMILIES


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_flux2_world(tmp_path_factory.mktemp("flux2"))


@pytest.fixture(scope="module")
def trained(world):
    config = flux2_config(world, max_steps=2, ema_decay=0.5, validation={"every": 2, "scenes": 1, "batches": 1})
    train(config)
    export(config)
    return world


def test_the_cache_holds_klein_s_text_and_latents(world):
    held = Cache(world / "cache")
    assert set(held.manifest["encoders"]) == {
        "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors",
    }  # fmt: skip
    states, pooled = held.text(0)
    assert states.shape == (TEXT_TOKENS, TEXT_WIDTH)
    assert pooled is None
    assert held.latents("targets", 0).shape == (128, 6, 6)
    assert held.latents("conditions", 0).shape == (128, 2, 2)
    assert held.verify() == []


def test_the_size_of_a_cache_is_known_before(world):
    section = flux2_config(world).cache
    size = sum(file.stat().st_size for file in (world / "cache").glob("*.safetensors"))
    assert cache_bytes(section, *read_pairs(world / "pairs")) == pytest.approx(size, rel=0.05)


def test_two_steps_give_a_file_that_says_what_it_is(trained):
    tensors = load_file(trained / "planner.safetensors")
    with safe_open(trained / "planner.safetensors", "pt") as file:
        metadata = file.metadata()
    spec = read_spec(trained / "planner.safetensors")
    assert (spec.family, spec.position_ids) == ("flux2", "kontext")
    assert metadata["modelspec.architecture"] == "flux-2-klein/lora"
    assert metadata["ss_base_model_version"] == "flux2"
    assert {"transformer.transformer_blocks.0.ff.linear_in.lora_A.weight",
            "transformer.single_transformer_blocks.1.attn.to_qkv_mlp_proj.lora_B.weight"} <= tensors.keys()  # fmt: skip
    assert any(tensor.abs().max() > 0 for key, tensor in tensors.items() if ".lora_B." in key)


def test_the_file_plans(trained):
    planner = PlannerPipeline.load(trained / "base", trained / "planner.safetensors")
    plain = PlannerPipeline.load(trained / "base", None, planner.spec)
    frames = EpisodeSet.open(trained / "episodes").episodes[0].load_frames()[:1]
    plan = planner.plan(frames, ["nine frames: push"], seed=3)
    assert plan.shape == (1, 9, 32, 32, 3)
    assert not torch.allclose(plan, plain.plan(frames, ["nine frames: push"], seed=3))
    seen = EpisodeSet.open(trained / "episodes").episodes[0].load_frames()[None, :3]
    kept = planner.plan(frames, ["nine frames: push"], seed=3, seen=seen)
    assert np.array_equal((kept[:, :3].numpy() * 255).round().astype(np.uint8), seen)


def test_evaluation_measures_it(trained):
    config = flux2_config(trained)
    config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"cfg": 2.0, "steps": 1})})
    evaluate(config)
    figures = json.loads((trained / "evaluation" / "metrics.json").read_text())
    assert (figures["cfg"], figures["steps"], figures["scenes"]) == (2.0, 1, 3)


def test_a_resumed_run_is_the_whole_run(world, tmp_path):
    """Bit for bit, with a cached condition, gradient checkpointing and a base in 8 bits."""
    for name in ("pairs", "base", "episodes"):
        shutil.copytree(world / name, tmp_path / name)
    cached = {"condition_tokens": "first_cell_cached"}
    info = json.loads((tmp_path / "pairs" / "dataset.json").read_text())
    info["spec"] |= cached
    (tmp_path / "pairs" / "dataset.json").write_text(json.dumps(info))
    how = {"gradient_checkpointing": True, "quantize": "int8", "ema_decay": 0.5}
    cache(flux2_config(tmp_path, cached))
    train(flux2_config(tmp_path, cached, out=tmp_path / "whole", max_steps=3, **how))
    train(flux2_config(tmp_path, cached, out=tmp_path / "parts", max_steps=1, **how))
    train(flux2_config(tmp_path, cached, out=tmp_path / "parts", max_steps=3, **how))
    for part in ("weights", "averaged", "optimizer"):
        one, two = (
            load_file(latest_checkpoint(tmp_path / name) / f"{part}.safetensors") for name in ("whole", "parts")
        )
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one), part
    export(flux2_config(tmp_path, cached, out=tmp_path / "whole", max_steps=3, **how))
    planner = PlannerPipeline.load(tmp_path / "base", tmp_path / "planner.safetensors")
    lengths = []
    planner.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: lengths.append(kwargs["hidden_states"].shape[1]), with_kwargs=True
    )
    frames = EpisodeSet.open(tmp_path / "episodes").episodes[0].load_frames()[:1]
    planner.plan(frames, ["nine frames: push"], seed=3)
    spec = planner.spec
    assert lengths == [spec.conditioning_tokens] + [spec.target_tokens] * spec.steps


def test_a_base_or_cache_of_the_other_family_is_refused(world, tmp_path):
    other = flux2_config(world, {"family": "flux1", "position_ids": "clone"})
    with pytest.raises(TrainingError, match=r"spec differs from the one that cache"):
        train(other)
    with pytest.raises(TrainingError, match=r"must be a FLUX\.1 model, as spec\.family says, got FLUX\.2"):
        PlannerPipeline.load(world / "base", None, other.planner_spec())
    for name in ("pairs", "base"):
        shutil.copytree(world / name, tmp_path / name)
    info = json.loads((tmp_path / "pairs" / "dataset.json").read_text())
    info["spec"]["family"] = "flux1"
    (tmp_path / "pairs" / "dataset.json").write_text(json.dumps(info))
    with pytest.raises(TrainingError, match=r"must be a FLUX\.1 model, as spec\.family says, got FLUX\.2"):
        cache(flux2_config(tmp_path))


def test_another_text_encoder_is_refused(world, tmp_path):
    shutil.copytree(world / "base", tmp_path / "base")
    shutil.copytree(world / "pairs", tmp_path / "pairs")
    file = tmp_path / "base" / "text_encoder" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_type": "t5"}))
    with pytest.raises(TrainingError, match="text encoder must be a qwen3, got t5"):
        cache(flux2_config(tmp_path))


@pytest.mark.parametrize("family", ["flux1", "flux2"])
def test_an_autoencoder_of_the_other_family_is_refused(world, tmp_path, family):
    """Before anything is written, by cache; and by a pipeline."""
    titles = ("FLUX.1", "FLUX.2") if family == "flux1" else ("FLUX.2", "FLUX.1")
    message = rf"^autoencoder \S+vae must be {titles[0]}'s, as spec\.family says, got {titles[1]}'s \(Autoencoder"
    with pytest.raises(TrainingError, match=message) as caught:
        load_vae(other_vae(tmp_path / "other", family), family=FAMILIES[family])
    assert "\n" not in str(caught.value)
    if family == "flux2":
        for name in ("pairs", "base"):
            shutil.copytree(world / name, tmp_path / name)
        other_vae(tmp_path / "base", family)
        spec = flux2_config(tmp_path).planner_spec()
        for use in (lambda: cache(flux2_config(tmp_path)), lambda: PlannerPipeline.load(tmp_path / "base", None, spec)):
            with pytest.raises(TrainingError, match=message):
                use()
        assert not list(tmp_path.glob("cache/*.safetensors"))


def other_vae(base, family):
    """Put the autoencoder of the other family into a base's folder."""
    folder = base / "vae"
    shutil.rmtree(folder, ignore_errors=True)
    if family == "flux1":
        shutil.copytree(write_tiny_flux2(base.with_name("flux2")) / "vae", folder)
    else:
        AutoencoderKL(latent_channels=16, block_out_channels=(32,), norm_num_groups=8).save_pretrained(folder)
    return folder


def test_a_base_lora_of_the_other_family_is_refused(world, tmp_path):
    """Of FLUX.1 under FLUX.2: its layers do not exist there, or have other shapes."""
    file = tmp_path / "flux1.safetensors"
    tensors = {}
    for layer in ("transformer_blocks.0.attn.to_q", "single_transformer_blocks.0.attn.to_q"):
        tensors |= {f"transformer.{layer}.lora_A.weight": torch.ones(4, 256)}
        tensors |= {f"transformer.{layer}.lora_B.weight": torch.ones(256, 4)}
    save_file(tensors, file)
    lora = {"rank": 4, "alpha": 8, "targets": "blocks", "base": str(file)}
    with pytest.raises(TrainingError, match=r"single_transformer_blocks\.0\.attn\.to_q") as caught:
        train(flux2_config(world, out=str(tmp_path / "run"), lora=lora))
    assert "\n" not in str(caught.value)


def test_a_family_that_nobody_knows_is_refused(world):
    with pytest.raises(ValueError, match=r"family must be one of flux1, flux2, got 'flux3'"):
        flux2_config(world, {"family": "flux3"})

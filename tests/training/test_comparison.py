"""The planners that a grid planner is compared with: they train, resume to the bit, and are executed in one study."""

import json
import shutil

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from simulation.camera import FRONT
from support.small_world import EPISODES, FRAMES, SPEC, config_for
from training.__main__ import main
from training.cache.mixture import Mixture
from training.errors import TrainingError
from training.evaluation.charts import packed
from training.evaluation.studies.comparison import summary, verdict
from training.model.pipeline import PlannerPipeline
from training.model.sampling import draw_noise
from training.planner.baselines import cloning, video, video_model
from training.planner.baselines.cloning_model import open_cloning
from training.planner.baselines.weights import KEY
from training.planner.export import export
from training.planner.train import train
from training.sections.config import Config, load_config, save_config
from visual_planner.execution.camera import View
from visual_planner.execution.readout import ReadoutNet, ReadoutSpec
from visual_planner.planner.conditioning import sigmas
from visual_planner.planner.spec import PlannerSpec
from worlds.errors import WorldError
from worlds.registry import open_world

PLANNER = PlannerSpec(**SPEC)


@pytest.fixture(scope="module")
def states(world, tmp_path_factory):
    """Episodes with an end effector and a gripper at every frame."""
    source = tmp_path_factory.mktemp("states") / "episodes"
    shutil.copytree(world / "episodes", source)
    records = [json.loads(line) for line in (source / "episodes.jsonl").read_text().splitlines()]
    for number, record in enumerate(records):
        record["end_effector_m"] = [[0.4, 0.02 * step, 0.1 + 0.01 * number] for step in range(FRAMES)]
        record["gripper"] = [float(step > 4) for step in range(FRAMES)]
    (source / "episodes.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return source


@pytest.fixture
def config_of(world, states, tmp_path):
    """A function (maximal steps, name, kinds, changes of their sections) -> configuration of these trainings."""

    def make(steps=2, name="run", kinds=("video", "cloning"), **changes) -> Config:
        run = {"max_steps": steps, "save_every": 1, "log_every": 1, "batch_size": 2, "ema_decay": 0.5}
        run |= {"base": world / "base", "optimizer": {"learning_rate": 0.01}}
        video_section = {"cache": world / "cache", "channels": [32, 32], "heads": 4, "held_out_batches": 1}
        cloning_section = {
            "source": states, "held_out": 2, "channels": [8, 8], "blocks": 1, "points": 4, "hidden": 16,
        }  # fmt: skip
        for kind, section in (("video", video_section), ("cloning", cloning_section)):
            section |= run | {"out": tmp_path / name / kind, "model": tmp_path / name / f"{kind}.safetensors"} | changes
        sections = {"video_baseline": video_section, "cloning_baseline": cloning_section}
        return Config.model_validate(
            {"spec": SPEC} | {f"{kind}_baseline": sections[f"{kind}_baseline"] for kind in kinds}
        )

    return make


@pytest.fixture(scope="module")
def planner(world, tmp_path_factory):
    """A planner with an untrained LoRA."""
    folder = tmp_path_factory.mktemp("lora")
    config = config_for(world, out=folder / "run")
    config.export.out = folder / "planner.safetensors"
    train(config)
    export(config)
    return PlannerPipeline.load(world / "base", config.export.out), config.export.out


def test_frames_and_grids_are_the_same_numbers():
    grids = torch.randn(2, 16, 12, 12)
    frames = video_model.frames_of(grids, PLANNER.layout)
    assert frames.shape == (2, 16, 9, 4, 4)
    assert torch.equal(video_model.grids_of(frames, PLANNER.layout), grids)
    assert torch.equal(frames[:, :, 3], grids[:, :, 4:8, 8:12])  # serpentine: frame 4 is right in the second row


@pytest.mark.parametrize(("steps", "cfg"), [(1, 1.0), (3, 1.0), (2, 2.0)])
def test_true_velocities_lead_to_the_true_plan(planner, steps, cfg):
    """Whatever the steps; with guidance the empty prompt's velocity is moved away from."""
    pipeline, _ = planner
    wanted = torch.randn(2, 16, FRAMES, 4, 4)
    asked = []

    class Truth(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.prompts = set()

        def forward(self, noisy, sigma, first, text, pooled):
            asked.append(sigma[0].item())
            self.prompts.add(text.sum().item())
            return (noisy - wanted) / sigma[:, None, None, None, None]

    made = video_model.VideoPlanner(truth := Truth(), PLANNER, pipeline.vae, pipeline.encoders)
    first = np.zeros((2, 32, 32, 3), np.uint8)
    plans = made.plan(first, ["one", "two"], draw_noise(PLANNER, [1, 2]), steps, cfg)
    grids = video_model.grids_of(wanted, PLANNER.layout)
    assert torch.allclose(plans, pipeline.slice(video_model.decode_latents(pipeline.vae, grids)), atol=1e-3)
    calls = 1 if cfg == 1 else 2
    assert asked[::calls] == pytest.approx(sigmas(steps, PLANNER.mu())[:-1].tolist(), abs=1e-5)
    assert len(truth.prompts) == calls


@pytest.mark.parametrize(("kind", "command"), [("video", video.train_video), ("cloning", cloning.train_cloning)])
def test_a_stopped_training_ends_at_the_same_weights(kind, command, config_of, capsys):
    command(config_of(2, "whole"))
    command(config_of(1, "parts"))
    parts = config_of(2, "parts")
    command(parts)
    section, whole = (getattr(config, f"{kind}_baseline") for config in (parts, config_of(2, "whole")))
    one, other = load_file(section.model), load_file(whole.model)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert "step 2" in capsys.readouterr().out
    with safe_open(section.model, "pt") as file:
        record = json.loads(file.metadata()[KEY])
    assert (record["kind"], record["steps"]) == (f"{kind}_baseline", 2) and record["hours"] > 0
    assert record["parameters"] == sum(tensor.numel() for tensor in one.values())
    assert all(np.isfinite(value) for value in record["held_out"].values()) and record["held_out"]
    changed = config_of(3, "parts", seed=9)
    with pytest.raises(TrainingError, match=f"{kind}_baseline.seed must be 0"):
        command(changed)


def test_the_video_planner_learns_its_few_pairs(config_of):
    config = config_of(30, "learns")
    section, mixture = config.video_baseline, Mixture.open(config.video_baseline.cache)
    torch.manual_seed(0)
    before = video.held_out_loss(video.make_net(section, mixture), mixture, section, torch.device("cpu"))
    video.train_video(config)
    with safe_open(section.model, "pt") as file:
        after = json.loads(file.metadata()[KEY])["held_out"]
    assert after["loss"] < 0.9 * before["loss"]


def test_the_policy_answers_with_keyframes_that_it_was_shown(config_of, planner, world):
    """Its few demonstrations go along one line and differ in height alone."""
    config = config_of(150, "learns", save_every=1000)
    config.cloning_baseline.augmented = 0.0
    cloning.train_cloning(config)
    policy, record = open_cloning(config.cloning_baseline.model, planner[0], world / "base")
    keys = policy.keyframes(np.zeros((2, 32, 32, 3), np.uint8), ["push the red cube number 0"] * 2)
    assert keys.shape == (2, FRAMES, 4) and np.isin(keys[..., 3], (0, 1)).all()
    assert np.abs(keys[:, :, 1] - 0.02 * np.arange(FRAMES)).max() < 0.04
    assert record.held_out["gripper"] > 0.8 and record.held_out["median_error_mm"] < 60


def test_augmented_pictures_are_like_their_own():
    picture = np.random.default_rng(0).integers(40, 200, (32, 32, 3), dtype=np.uint8)
    others = [cloning.augmented(picture, np.random.default_rng(seed)) for seed in range(8)]
    changes = [np.abs(other.astype(float) - picture).mean() for other in others]
    assert others[0].dtype == np.uint8 and min(changes) > 1 and max(changes) < 60


def test_what_does_not_suit_is_one_line(config_of, states, world, planner, tmp_path):
    config = config_of(1)
    config.cloning_baseline.held_out = EPISODES
    with pytest.raises(TrainingError, match="held_out must be below the number of episodes, 6, got 6"):
        cloning.train_cloning(config)
    config.cloning_baseline.held_out, config.cloning_baseline.source = 2, world / "episodes"
    with pytest.raises(TrainingError, match="must have end_effector_m and gripper at each of its 9 frames"):
        cloning.train_cloning(config)
    mixture = Mixture.open(world / "cache")
    mixture.caches[0].manifest["settings"]["encode"] = "grid"
    with pytest.raises(TrainingError, match="must have its frames encoded one by one .* got grid"):
        video.check_cache(mixture)
    with pytest.raises(ValidationError, match="heads must divide every one of channels"):
        config_of(heads=5)
    with pytest.raises(TrainingError, match="mode_weights must name no mode with a goal picture, got goal"):
        video.train_video(config_of(mode_weights={"text": 1.0, "goal": 1.0}, name="goal", kinds=("video",)))
    video.train_video(config)
    file = config.video_baseline.model
    with pytest.raises(TrainingError, match="must be of that kind, got 'video_baseline'"):
        open_cloning(file, planner[0], world / "base")
    other = tmp_path / "base"
    shutil.copytree(world / "base", other)
    weights = other / "text_encoder_2" / "model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    with pytest.raises(TrainingError, match="trained with a text_encoder_2/model.safetensors that differs"):
        video_model.open_video(file, planner[0], other)
    save_file(load_file(file), tmp_path / "bare.safetensors")
    with pytest.raises(TrainingError, match="must have a record 'visual_planner.baseline' in its header, got none"):
        video_model.open_video(tmp_path / "bare.safetensors", planner[0], world / "base")


def test_the_differences_are_paired():
    rows = [{"success": done} for done in (True, False, True, True)]

    class Item:
        task = "reach"

    asked = [Item()] * 4
    row = summary({"kind": "cloning", "seconds": 0.5, "rows": rows}, [{"success": True}] * 4, asked)
    assert row["success"]["successes"] == 3 and row["change"]["difference"] == -0.25 and row["seconds"] == 0.5
    assert "ssim" not in row and "no difference from the grid" in verdict("a", row["change"], "grid")
    assert verdict("a", {"low": -0.3, "high": -0.1}, "grid") == "- a: succeeds less often than the grid."


@pytest.fixture
def rendering():
    try:
        with open_world("jaco", 32):
            pass
    except WorldError as error:
        pytest.skip(f"NO RENDERING TEST HAS RUN: {error}")


def test_the_study_executes_all_three(rendering, config_of, planner, world, tmp_path, capsys):
    config = config_of(1, "study")
    folder = tmp_path / "readout"
    folder.mkdir()
    torch.manual_seed(0)
    view = View(FRONT.eye, FRONT.rays(32, 32))
    spec = ReadoutSpec(height=32, width=32, channels=(8, 8), points=4, view=view, mean=(0.5, 0.4, 1.0))
    save_file(ReadoutNet(spec).state_dict(), folder / "readout.safetensors", metadata=spec.to_metadata())
    lora_run = planner[1].parent / "run"
    settings = [
        "scenes=2", "first_seed=9000100", "steps=[1, 2]", "video_steps=[1]", "pictured=1", f"planner={world / 'base'}",
        f"lora={planner[1]}", f"readout={folder}", f"video={config.video_baseline.model}",
        f"cloning={config.cloning_baseline.model}", f"lora_run={lora_run}",
    ]  # fmt: skip
    out = tmp_path / "out"
    command = ["study", "comparison", "--out", str(out), *(part for one in settings for part in ("--set", one))]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "train it with python -m training video_baseline" in error and error.count("\n") == 1
    save_config(config, tmp_path / "config.yaml")
    for kind in ("video_baseline", "cloning_baseline"):
        assert main([kind, "--config", str(tmp_path / "config.yaml")]) == 0
    assert main(command) == 0
    result = json.loads((out / "results.json").read_text())
    rows = result["planners"]
    assert list(rows) == [
        "grid planner, 1 step", "grid planner, 2 steps", "video diffusion, 1 step", "behaviour cloning",
        "true keyframes", "true frames through the autoencoder", "first frame repeated",
    ]  # fmt: skip
    assert result["reference"] == "grid planner, 2 steps" and rows["grid planner, 2 steps"]["change"]["high"] == 0
    assert rows["true keyframes"]["success"]["successes"] == 2
    assert rows["first frame repeated"]["motion_ratio"]["mean"] == 0 and rows["video diffusion, 1 step"]["seconds"] > 0
    assert result["trained"]["grid"]["steps"] == 1 and result["trained"]["video"]["steps"] == 1
    assert list(result["pictures"][0]["strips"]) == [
        "demonstration", "grid planner, 2 steps", "video diffusion, 1 step"
    ]  # fmt: skip
    page = (out / "page.md").read_text()
    assert "| behaviour cloning |" in page and "not recorded" not in page and "(page.png)" in page
    before = page, (out / "page.png").stat().st_size
    assert main([*command[:4], "--plot-only"]) == 0
    assert ((out / "page.md").read_text(), (out / "page.png").stat().st_size) == before


def test_strips_keep_what_they_show():
    frames = np.zeros((FRAMES, 32, 32, 3), np.uint8)
    frames[4] = 255
    from training.evaluation.charts import figure, strips

    made, axes = figure()
    strips(
        axes[0], [("first", {"demonstration": packed(frames), "plan": packed(frames)}), ("then", {"a": packed(frames)})]
    )
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["first:\ndemonstration", "plan", "then:\na"]
    shown = axes[0].images[0].get_array()
    assert shown[16, 4 * 32 + 16].min() > 240 and shown[16, 16].max() < 15 and made is axes[0].figure


def test_the_recipe_is_of_the_tiny_planner():
    from training.evaluation.studies.command import CONFIGS

    config, tiny = (load_config(CONFIGS.parent / name) for name in ("baselines.yaml", "tiny.yaml"))
    assert not config.planner_spec().differences(tiny.planner_spec())
    assert config.video_baseline.cache == tiny.train.cache and config.cloning_baseline.source == tiny.prepare.source
    assert config.video_baseline.run_hours == config.cloning_baseline.run_hours

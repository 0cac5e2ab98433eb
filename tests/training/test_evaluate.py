"""Figures of plans: what a perfect and a still plan score, baselines beside them, the same from several processes."""

import json
import math
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from support.small_world import SPEC, config_for
from training.data.episodes import EpisodeSet
from training.data.pairs_folder import read_pairs
from training.errors import TrainingError
from training.evaluation.evaluate import evaluate
from training.evaluation.figures import row_of, static_plan, summary, table
from training.evaluation.perceptual.distances import LpipsAlex, Perceptual, frechet, i3d_input
from training.evaluation.perceptual.i3d import I3D
from training.evaluation.scenes import scene_of_episode
from training.planner.export import export
from training.planner.train import train
from visual_planner.planner.spec import PlannerSpec


@pytest.fixture(scope="module")
def scenes(world):
    return [scene_of_episode(episode, PlannerSpec(**SPEC)) for episode in EpisodeSet.open(world / "episodes").episodes]


@pytest.fixture(scope="module")
def evaluated(world):
    """Configuration and figures of a LoRA of two steps."""
    config = config_for(world, max_steps=2)
    train(config)
    export(config)
    return config, evaluate(config)


def rows(scenes, plan):
    return [row_of(scene, plan(scene)) for scene in scenes]


def test_the_truth_scores_as_perfect(scenes):
    still = rows(scenes, static_plan)
    figures = summary(rows(scenes, lambda scene: scene.truth), still)
    assert figures["ssim"]["value"] == pytest.approx(1.0)
    assert figures["end_effector_ade_px"]["value"] == figures["end_effector_fde_px"]["value"] == 0.0
    assert figures["hand_error_px"]["median"] == 0.0
    assert figures["motion_ratio"]["value"] == 1.0
    assert figures["ssim_above_static_p"] < 0.05


def test_a_still_plan_has_no_motion_and_the_errors_of_the_way(scenes):
    figures = summary(rows(scenes, static_plan), rows(scenes, static_plan))
    # the hand of the small world moves 2 px a frame
    assert figures["end_effector_ade_px"]["value"] == pytest.approx(9.0, abs=0.3)
    assert figures["end_effector_fde_px"]["value"] == pytest.approx(16.0, abs=0.3)
    assert figures["motion_ratio"]["value"] == 0.0
    assert figures["moved_most"]["successes"] == 0
    assert figures["checks_failed"]["static"] == len(scenes)
    assert figures["psnr_above_static_p"] == 1.0


def test_the_given_frame_counts_for_nothing(scenes):
    spoilt = scenes[0].truth.copy()
    spoilt[0] = 0
    row = row_of(scenes[0], spoilt)
    assert row["psnr_db"] == 100.0
    assert row["ssim"] == pytest.approx(1.0)


def test_baselines_stand_beside_every_mode(evaluated, world):
    _, result = evaluated
    written = json.loads((world / "evaluation" / "metrics.json").read_text())
    names = {
        "static",
        "bound",
        *(f"{base}{mode}" for base in ("", "no_lora_") for mode in ("text", "trajectory", "both")),
    }
    assert names <= written.keys()
    assert written["scenes"] == 3
    assert written["both"]["moved_most"]["n"] == 3
    assert written["static"]["motion_ratio"]["value"] == 0.0
    low, high = written["text"]["psnr_db"]["interval"]
    assert low <= written["text"]["psnr_db"]["value"] <= high
    assert all(name in table(result) for name in names)
    with Image.open(world / "evaluation" / "both.png") as sheet:
        assert sheet.size == (9 * 32, 2 * 2 * 32)


def test_pairs_can_be_planned_too(evaluated, world):
    """Of a data set without a simulator's record: the validation split, with its own pictures and prompts."""
    config, _ = evaluated
    section = config.evaluate.model_copy(
        update={"source": world / "pairs", "out": world / "of_pairs", "baselines": False, "batch_size": 1}
    )
    result = evaluate(config.model_copy(update={"evaluate": section}))
    _, lines = read_pairs(world / "pairs")
    unseen = {line["episode"] for line in lines if line["split"] == "validation"}
    assert result["scenes"] == len(unseen) == 2
    assert "end_effector_ade_px" not in result["both"]
    assert {row["scene"] for row in json.loads((world / "of_pairs" / "scenes.json").read_text())["both"]} == unseen


def test_lpips_is_a_distance_that_its_weights_define(tmp_path):
    torch.manual_seed(0)
    network = LpipsAlex()
    assert sum(p.numel() for p in network.parameters()) == 2_469_696 + 64 + 192 + 384 + 256 + 256
    for name, parameter in network.named_parameters():
        if name.startswith("lin"):
            torch.nn.init.uniform_(parameter)
    save_file(network.state_dict(), tmp_path / "lpips.safetensors")
    measure = Perceptual(tmp_path / "lpips.safetensors", None)
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    near = np.clip(truth.astype(int) + rng.integers(-10, 10, truth.shape), 0, 255).astype(np.uint8)
    assert measure.row(truth, truth) == {"lpips_alex": 0.0}
    assert 0 < measure.row(near, truth)["lpips_alex"] < measure.row(255 - truth, truth)["lpips_alex"]


def test_lpips_is_that_of_the_published_package():
    lpips = pytest.importorskip("lpips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torchvision about how the package calls it
        theirs = lpips.LPIPS(net="alex", pretrained=False, pnet_rand=True, verbose=False).eval()
    ours = LpipsAlex().eval()
    for number in range(5):
        torch.nn.init.uniform_(getattr(ours, f"lin{number}")["model"]["1"].weight)
    names = [f"slice{i + 1}.{n}" for i, n in enumerate((0, 3, 6, 8, 10))]
    for name, number in zip(names, (0, 3, 6, 8, 10), strict=True):
        theirs.net.get_submodule(name).load_state_dict(ours.features[str(number)].state_dict())
    for number in range(5):
        theirs.get_submodule(f"lin{number}").load_state_dict(getattr(ours, f"lin{number}").state_dict())
    pictures = torch.rand(2, 2, 3, 64, 80, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(ours(*pictures), theirs(*pictures).flatten(), rtol=1e-4, atol=1e-6)


def test_weights_of_another_network_are_named(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(TrainingError, match=r"evaluate\.lpips .*a\.safetensors lacks 15 of 15 weights"):
        Perceptual(tmp_path / "a.safetensors", None)
    (tmp_path / "b.safetensors").write_text("no")
    with pytest.raises(TrainingError, match=r"evaluate\.fvd .*b\.safetensors cannot be read as safetensors"):
        Perceptual(None, tmp_path / "b.safetensors")


def test_i3d_has_the_published_shape():
    """12.7 million weights at 400 classes, 9 frames padded to 10 give one logit a class."""
    with torch.device("meta"):
        network = I3D()
        assert sum(p.numel() for p in network.parameters()) == 12_697_264
        assert network.eval()(torch.empty(1, 3, 10, 224, 224)).shape == (1, 400)
    video = np.arange(9 * 8 * 8 * 3, dtype=np.uint8).reshape(9, 8, 8, 3)
    given = i3d_input(video)
    assert given.shape == (1, 3, 10, 224, 224)
    assert torch.equal(given[:, :, 9], given[:, :, 8])


def test_frechet_distance_of_known_gaussians():
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(4000, 3))
    assert frechet(samples, samples) == pytest.approx(0.0, abs=1e-6)
    # |m|² + sum (s1 - s2)² of independent axes
    other = rng.normal(size=(4000, 3)) * (2.0, 1.0, 1.0) + (0.0, 3.0, 0.0)
    assert frechet(samples, other) == pytest.approx(10.0, rel=0.05)
    assert math.isclose(frechet(samples, samples + 2), 12.0, rel_tol=1e-6)


def test_the_interval_of_the_median_is_of_the_figure_beside_it():
    # Nine good frames and one lost one in every scene: the mean of a scene says little about the median frame.
    row = {"ssim": 0.5, "psnr_db": 15.0, "motion_ratio": 1.0, "checks": {}, "ade_px": 10.9, "fde_px": 1.0}
    rows = [{**row, "hand_errors_px": [1.0] * 9 + [100.0], "hand_found": (10, 10)} for _ in range(12)]
    error = summary(rows, rows)["hand_error_px"]
    low, high = error["interval_of_median"]
    assert low <= error["median"] == 1.0 <= high

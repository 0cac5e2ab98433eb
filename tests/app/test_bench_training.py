"""The training benchmark on batches that are small enough for a test."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from benchmarks import BENCHMARKS, training, training_profile
from support.planner import has_shipped_planner

UNCOMPILED = {"train.compile_blocks": False}  # compiling takes a minute


@pytest.mark.skipif(not has_shipped_planner(), reason="the shipped planner's weights are not here")
def test_it_measures_both_trainers_on_the_same_batches() -> None:
    assert BENCHMARKS["training"] == training.__name__
    result = training.run(repeats=2, changes={"train.batch_size": 1, "train.gradient_accumulation": 2, **UNCOMPILED})
    kinds = {"bf16": ("", " in float32"), "no": ("",)}[result.notes["precision"]]
    assert result.ratios.keys() == {
        f"{name}/plain{kind}" for name in ("samples_per_s", "peak_memory") for kind in kinds
    }
    assert all(len(values) == 2 and min(values) > 0 for values in result.raw.values())
    # The other trainer holds the autoencoder and the text encoders, and feeds twice as many tokens.
    assert all(result.ratios[f"peak_memory/plain{kind}"] < 0.9 for kind in kinds)
    assert result.notes["batch"] == 2
    share = float(result.notes["fraction of our step outside the transformer's passes"])
    assert 0 < share < 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::mm", "matrix products"),
        ("aten::mkldnn_linear_backward_weights", "matrix products"),
        ("aten::_softmax_backward_data", "attention"),
        ("aten::gelu_backward", "GELU"),
        ("aten::mul_", "sums and elementwise"),
        ("aten::_fused_adamw_", "optimizer"),
        ("autograd::engine::evaluate_function: MmBackward0", training_profile.OTHER),
    ],
)
def test_operations_have_kinds(name: str, kind: str) -> None:
    assert training_profile.kind_of(name) == kind


@pytest.mark.skipif(not has_shipped_planner(), reason="the shipped planner's weights are not here")
def test_a_profile_says_where_a_steps_time_goes(tmp_path, monkeypatch) -> None:
    threads = torch.get_num_threads()
    small = {"train.batch_size": 1, "train.gradient_accumulation": 1}
    monkeypatch.setattr(training_profile, "measure", lambda steps, run=training_profile.measure: run(steps, small))
    training_profile.main(["--steps", "1", "--json", str(tmp_path / "p.json"), "--plot", str(tmp_path / "plots/p.png")])
    torch.set_num_threads(threads)
    result = json.loads((tmp_path / "p.json").read_text())
    assert result["batch"] == 1 and result["cpu_seconds_of_a_step"] > 0
    assert sum(result["fractions"].values()) == pytest.approx(1)
    assert next(iter(result["fractions"])) == "matrix products"
    with Image.open(tmp_path / "plots" / "p.png") as picture:
        assert picture.width > 600
    with pytest.raises(SystemExit, match="--steps must be at least 1, got 0"):
        training_profile.main(["--steps", "0"])

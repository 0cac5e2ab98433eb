"""The training benchmark on batches that are small enough for a test."""

from __future__ import annotations

import pytest

from benchmarks import BENCHMARKS, training
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

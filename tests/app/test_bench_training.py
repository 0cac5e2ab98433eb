"""The training benchmark on batches that are small enough for a test."""

from __future__ import annotations

import pytest

from benchmarks import BENCHMARKS, training
from support.planner import has_shipped_planner


@pytest.mark.skipif(not has_shipped_planner(), reason="the shipped planner's weights are not here")
def test_it_measures_both_trainers_on_the_same_batches() -> None:
    assert BENCHMARKS["training"] == training.__name__
    result = training.run(repeats=2, batch_size=2)
    assert result.ratios.keys() == {"samples_per_s/plain", "peak_memory/plain"}
    assert all(len(values) == 2 and min(values) > 0 for values in result.raw.values())
    # The other trainer holds the autoencoder and the text encoders, and feeds twice as many tokens.
    assert result.ratios["peak_memory/plain"] < 0.9
    assert result.notes["batch"] == 2
    share = float(result.notes["fraction of our step outside the transformer's passes"])
    assert 0 < share < 1

"""The conditioning benchmark on blocks that are small enough for a test."""

from __future__ import annotations

import pytest

from benchmarks import BENCHMARKS, conditioning
from benchmarks.conditioning import ONCE, PLAN_STEPS, Setting


@pytest.mark.comfyui
def test_it_measures_every_way_to_condition_and_counts_the_cached_pass() -> None:
    assert BENCHMARKS["conditioning"] == conditioning.__name__
    result = conditioning.run(2, Setting(heads=2, cell_height=96, cell_width=96, words=16))
    ways = {"full_grid", "first_cell", "first_cell_cached", "none"}
    assert result.raw.keys() == ways | {ONCE}
    assert all(len(values) == 2 and min(values) > 0 for values in result.raw.values())
    assert result.ratios.keys() == {"full_grid/first_cell", "first_cell/none", "first_cell_cached/none"}
    # 324 tokens of the grid; the condition's are as many again, a ninth, a ninth apart, or none.
    wanted = {"full_grid": 324, "first_cell": 36, "first_cell_cached": 36, "none": 0}
    assert result.notes["tokens"] == {"text": 16, "grid": 324, "condition": wanted}
    assert result.ratios["full_grid/first_cell"] > 1
    # Keys and values of 36 tokens, 256 channels, 4 bytes, in 57 blocks.
    assert result.notes["cached keys and values of the whole model [MB]"] == pytest.approx(36 * 256 * 4 * 2 * 57 / 1e6)
    cached = zip(result.raw["first_cell_cached"], result.raw[ONCE], strict=True)
    assert all(step > once / PLAN_STEPS for step, once in cached)
    assert {f"memory of {way} [MB]" for way in ways} <= result.notes.keys()

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
    cases = ways | {ONCE}
    assert result.raw.keys() == cases | {f"klein_{case}" for case in cases} | {"flux1_plan", "klein_plan"}
    assert all(len(values) == 2 and min(values) > 0 for values in result.raw.values())
    ratios = {"full_grid/first_cell", "first_cell/none", "first_cell_cached/none"}
    assert result.ratios.keys() == ratios | {f"klein_{ratio}" for ratio in ratios} | {"klein_plan/flux1_plan"}
    # 324 tokens of the grid; the condition's are as many again, a ninth, a ninth apart, or none.
    wanted = {"full_grid": 324, "first_cell": 36, "first_cell_cached": 36, "none": 0}
    assert result.notes["tokens"] == {"text": 16, "grid": 324, "condition": wanted}
    assert result.ratios["full_grid/first_cell"] > 1
    # Keys and values of 36 tokens, 256 channels, 4 bytes, in 57 blocks and in 25.
    for family, blocks in (("flux1", 57), ("flux2", 25)):
        size = result.notes[f"cached keys and values of the whole model, {family} [MB]"]
        assert size == pytest.approx(36 * 256 * 4 * 2 * blocks / 1e6)
    # Four steps of 25 blocks against twenty of 57.
    steps = zip(result.raw["klein_first_cell"], result.raw["full_grid"], strict=True)
    plans = zip(result.raw["klein_plan"], result.raw["flux1_plan"], strict=True)
    for (one, two), (klein, flux1) in zip(steps, plans, strict=True):
        assert klein / flux1 == pytest.approx(4 * 25 / (20 * 57) * one / two)
    for name, most in conditioning.BOUNDS.items():
        assert result.notes[f"{name} at most {most}"] == ("yes" if result.ratios[name] <= most else "no")
    cached = zip(result.raw["first_cell_cached"], result.raw[ONCE], strict=True)
    assert all(step > once / PLAN_STEPS for step, once in cached)
    assert {f"memory of {way} [MB]" for way in ways} <= result.notes.keys()

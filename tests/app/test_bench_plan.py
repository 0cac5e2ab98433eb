"""The benchmark of a plan's seconds, with few steps."""

from __future__ import annotations

import pytest

from benchmarks import BENCHMARKS, plan
from support.planner import has_shipped_planner


@pytest.mark.skipif(not has_shipped_planner(), reason="the shipped planner's weights are not here")
def test_it_measures_few_steps_beside_the_released_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert BENCHMARKS["plan"] == plan.__name__
    monkeypatch.setattr(plan, "RELEASED_STEPS", 3)
    result = plan.run(repeats=2, steps=(1, 2))
    cases = {"1 step", "2 steps", "full grid, 3 steps"}
    assert result.raw.keys() == cases | {f"sampling, {case}" for case in cases}
    assert result.ratios.keys() == {
        f"{part}{name}/released" for part in ("", "sampling, ") for name in ("1 step", "2 steps")
    }
    assert all(len(values) == 2 and min(values) > 0 for values in result.raw.values())

"""The benchmark of the training's switches, at a size that takes seconds."""

import pytest
import torch

from benchmarks.switches import CASES, Setting, run


def test_every_switch_is_set_beside_the_path_without_it(monkeypatch):
    monkeypatch.setattr(
        torch.cpu, "_is_vnni_supported", lambda: True
    )  # at this size any CPU's products are fast enough
    cases = ("offload", "fused_adapter_int8", "int8_products")
    assert set(cases) < set(CASES)
    result = run(1, Setting(heads=1, cell=32, words=17, rank=2, steps=2, cases=cases))
    assert result.ratios.keys() == {f"{name}/without" for name in cases}
    apart = {name: float(result.notes[f"{name}: largest difference of weights / largest change"]) for name in cases}
    assert apart["offload"] == 0
    assert apart["int8_products"] > 0
    memory = {name: float(result.notes[f"{name}: memory of a step / without"]) for name in cases}
    assert memory["fused_adapter_int8"] <= 1
    assert memory["offload"] == pytest.approx(1, abs=0.2)  # two blocks, and both of them lie on the device at once


def test_products_that_the_cpu_lacks_are_left_out_at_flux_widths(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    result = run(1, Setting(cases=("int8_products",)))
    assert result.ratios == {} and "VNNI" in result.notes["int8_products"]

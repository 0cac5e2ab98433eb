"""Time and memory on a device: CUDA events and the allocator's counters on a GPU, clock and storages on a CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping

import torch

GIB = 2**30
PATIENCE_S = 20.0
"""Rounds end after this time, if three of them are done [s]."""
FEWEST = 3


class Meter:
    """Measures on one device.

    Args:
        device: "cuda" or "cpu".
        repeats: number of timed rounds.
        warmup: number of untimed rounds before.
    """

    def __init__(self, device: str, repeats: int, warmup: int) -> None:
        self.on_gpu, self.repeats, self.warmup = device == "cuda", repeats, warmup

    def once(self, function: Callable[[], object]) -> float:
        """Seconds of one call, until the device has finished it [s]."""
        if not self.on_gpu:
            started = time.perf_counter()
            function()
            return time.perf_counter() - started
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        first.record()
        function()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) / 1000

    def rounds(self, cases: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
        """Seconds of each case in each round [s]; cases alternate, so that a drift favours none."""
        for _ in range(self.warmup):
            for function in cases.values():
                function()
        raw: dict[str, list[float]] = {name: [] for name in cases}
        names, started = list(cases), time.monotonic()
        for index in range(self.repeats):
            for name in names if index % 2 == 0 else reversed(names):
                raw[name].append(self.once(cases[name]))
            if index + 1 >= FEWEST and time.monotonic() - started > PATIENCE_S:
                break
        return raw

    def median(self, function: Callable[[], object]) -> float:
        """Median seconds of a function [s]."""
        return statistics.median(self.rounds({"it": function})["it"])

    def peak(self, function: Callable[[], object], held: Callable[[], Iterable[torch.Tensor]]) -> int:
        """Most bytes in tensors on the device during a call.

        Args:
            function: called once.
            held: tensors that exist before the call; used only on a CPU, where no allocator counts.
        """
        if self.on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            function()
            torch.cuda.synchronize()
            return torch.cuda.max_memory_allocated()
        from training.planner.memory import PeakMemory

        stays = list(held())
        counter = PeakMemory()
        counter.know(stays)
        with counter:
            function()
        return counter.peak + sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in stays}.values())


def medians(raw: Mapping[str, list[float]]) -> dict[str, float]:
    """Case -> median."""
    return {name: statistics.median(values) for name, values in raw.items()}


def ratios(raw: Mapping[str, list[float]], to: str) -> dict[str, float]:
    """Case -> median of its ratios to another case, round by round."""
    others = {name: values for name, values in raw.items() if name != to}
    return {
        name: statistics.median(mine / its for mine, its in zip(values, raw[to], strict=True))
        for name, values in others.items()
    }


def weights_of(module: torch.nn.Module) -> list[torch.Tensor]:
    """Everything that a module keeps in memory, with the scales that bitsandbytes keeps beside its weights."""
    found = [*module.parameters(), *module.buffers()]
    for weight in module.parameters():
        state = getattr(weight, "quant_state", None)
        while state is not None:
            found += [value for value in vars(state).values() if isinstance(value, torch.Tensor)]
            state = state.state2
    return found

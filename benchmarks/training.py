"""Training of a planner LoRA: our loop on a cache against a straightforward trainer, with the same model and data.

Measured on the shipped tiny base with its training settings, both trainers in the precision that these settings choose
on this machine, and again in float32 if that differs: examples per second, the peak of memory held in tensors (weights,
optimizer state and what a step creates; counted alike on every device), and the fraction of a step that is not the
transformer's forward and backward pass.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from launcher.console import StatusLine
from launcher.paths import ROOT

from .harness import Benchmark, interleave

REPEATS = 5
EPISODES, CELL_PX, FRAMES = 24, 64, 9
TRAINED_WITH = "training/configs/tiny.yaml"


def run(repeats: int | None = None, changes: dict | None = None) -> Benchmark:
    """Measure.

    Args:
        repeats: number of timed steps of each trainer.
        changes: settings that replace the recipe's, to test the benchmark.
    """
    from training.cache.write import cache
    from training.data.prepare import prepare
    from training.loop.precision import resolved
    from training.planner.compiling import compiles

    from .plain_trainer import PlainTrainer

    status = StatusLine("Training")
    with tempfile.TemporaryDirectory(prefix="visual-planner-bench-") as temporary:
        folder = Path(temporary)
        write_episodes(folder / "episodes")
        config = configuration(folder, changes or {})
        status.update("pairs and cache")
        prepare(config)
        started = time.perf_counter()
        cache(config)
        cached = time.perf_counter() - started
        # The same pairs with whole condition grids, as the other trainer reads and encodes them.
        grids = folder / "pairs_of_grids"
        section = config.prepare.model_copy(update={"out": grids})
        prepare(config.model_copy(update={"prepare": section, "spec": config.spec | {"condition_tokens": "full_grid"}}))
        lines = [json.loads(line) for line in (grids / "pairs.jsonl").read_text().splitlines()]
        kind = resolved(config.train.mixed_precision, on_cpu=True)
        whole = {"mixed_precision": "no", "matmul_precision": "highest"}
        batch = config.train.batch_size * config.train.gradient_accumulation
        raw, ratios, notes = {}, {}, {"precision": kind, "batch": batch}
        notes["blocks"] = "compiled" if compiles(config.train, "cpu") else "not compiled"
        for suffix, precision in (("", {}),) if kind == "no" else (("", {}), (" in float32", whole)):
            section = config.train.model_copy(update=precision)
            ours = OurTrainer(config.model_copy(update={"train": section}))
            trainers = {"ours": ours, "plain": PlainTrainer(section, grids, lines, batch)}
            status.update(f"steps{suffix}")
            for name, seconds in interleave({n: t.step for n, t in trainers.items()}, repeats or REPEATS).items():
                raw[f"{name}{suffix} [samples/s]"] = [batch / value for value in seconds]
            share = statistics.median(ours.share_outside() for _ in range(3))
            notes[f"fraction of our step{suffix} outside the transformer's passes"] = f"{share:.3f}"
            status.update(f"memory{suffix}")
            # Tensors inside compiled code cannot be counted.
            uncompiled = section.model_copy(update={"compile_blocks": False})
            trainers["ours"] = OurTrainer(config.model_copy(update={"train": uncompiled}))
            trainers["ours"].step()  # creates the optimizer's state, which the other trainer has by now
            for name, trainer in trainers.items():
                raw[f"{name}{suffix} [MiB at peak]"] = [peak_bytes(trainer) / 2**20] * len(seconds)
            for name, unit in (("samples_per_s", "samples/s"), ("peak_memory", "MiB at peak")):
                ratios[f"{name}/plain{suffix}"] = f"ours{suffix} [{unit}]", f"plain{suffix} [{unit}]"
    status.close()
    notes["seconds to cache a pair, once"] = f"{cached / len(lines):.3f}"
    return Benchmark("training", "", raw, ratios, notes)


def configuration(folder: Path, changes: dict):
    """The tiny planner's own settings except for `changes`, on data in `folder`."""
    from training.sections.config import load_config

    settings = {
        "prepare.source": folder / "episodes", "prepare.out": folder / "pairs", "prepare.processes": 1,
        "prepare.validation_episodes": 2, "cache.data": folder / "pairs", "cache.out": folder / "cache",
        "cache.base": ROOT / "models" / "tiny_planner", "train.base": ROOT / "models" / "tiny_planner",
        "train.cache": folder / "cache", "train.out": folder / "run", "train.device": "cpu",
        "train.ema_decay": 0,  # the other trainer averages no weights
        "train.optimizer.name": "adamw",  # as in the other trainer
    }  # fmt: skip
    return load_config(ROOT / TRAINED_WITH, [f"{key}={value}" for key, value in (settings | changes).items()])


class OurTrainer:
    """Steps of the training loop as `train` sets it up."""

    def __init__(self, config) -> None:
        from training.planner.train import make_loop

        self.loop = make_loop(config)
        self.transformer = self.loop.accelerator.unwrap_model(self.loop.model)

    def modules(self) -> list[torch.nn.Module]:
        """The modules that stay in memory."""
        return [self.transformer]

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The one optimizer of an adapter."""
        (optimizer,) = self.loop.optimizers
        return optimizer

    def step(self) -> float:
        """One step; returns the loss."""
        return self.loop.one_step()

    def share_outside(self) -> float:
        """Fraction of a step's time that is neither the transformer's forward nor the backward pass."""
        inside = 0.0
        forward, backward = self.transformer.forward, self.loop.accelerator.backward

        def timed(function):
            def call(*arguments, **keywords):
                nonlocal inside
                started = time.perf_counter()
                result = function(*arguments, **keywords)
                inside += time.perf_counter() - started
                return result

            return call

        self.transformer.forward, self.loop.accelerator.backward = timed(forward), timed(backward)
        try:
            started = time.perf_counter()
            self.loop.one_step()
            return 1 - inside / (time.perf_counter() - started)
        finally:
            self.transformer.forward, self.loop.accelerator.backward = forward, backward


def peak_bytes(trainer) -> int:
    """Peak of bytes in tensors during a step: what stays (weights, optimizer state) and what the step creates."""
    from training.planner.memory import PeakMemory

    stays = [tensor for module in trainer.modules() for tensor in (*module.parameters(), *module.buffers())]
    stays += [value for state in trainer.optimizer.state.values() for value in state.values()]
    counter = PeakMemory()
    counter.know(stays)
    with counter:
        trainer.step()
    return counter.peak + _size(stays)


def _size(tensors: Iterable[torch.Tensor]) -> int:
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def write_episodes(folder: Path, count: int = EPISODES) -> None:
    """Write an episode data set of a square that moves over noisy backgrounds."""
    rng = np.random.default_rng(0)
    (folder / "frames").mkdir(parents=True)
    lines = []
    for number in range(count):
        frames = np.repeat(rng.integers(60, 200, (1, CELL_PX, CELL_PX, 3), dtype=np.uint8), FRAMES, axis=0)
        for step, frame in enumerate(frames):
            frame[20:32, 4 + 5 * step : 16 + 5 * step] = (255, 120, 0)
        name = f"{number:06d}"
        Image.fromarray(np.concatenate(list(frames), axis=1)).save(folder / "frames" / f"{name}.png")
        path = [[10 + 40 * t / 32, 26.0, t / 32] for t in range(33)]
        lines.append(json.dumps({"id": name, "instruction": "push the red cube to the left", "path_px": path}))
    (folder / "episodes.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    record = {"format": "visual_planner.episodes", "version": 1, "frames": FRAMES, "height": CELL_PX, "width": CELL_PX}
    (folder / "dataset.json").write_text(json.dumps({**record, "kind": "demonstrations"}), encoding="utf-8")


if __name__ == "__main__":
    sys.exit("start it with: python3 run.py bench training")

"""A training that is killed and resumed on the device, compared with an uninterrupted one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from pathlib import Path

import torch

from ...training import configuration, write_episodes
from ..size import Report, Size
from .parity import require_base

SAVE_EVERY = 2
EPISODES = 8
ALLOWED = 0.01
"""Largest difference of a weight, as a fraction of the largest weight: on a GPU, sums have no fixed order."""


def resume(report: Report, size: Size) -> None:
    """Train the tiny planner twice, once with a SIGKILL in the middle; compare the weights.

    Raises:
        NotHereError: the tiny base is missing.
        RuntimeError: a run failed, the killed one started over, or it ended with other weights.
    """
    require_base()
    steps, killed = size.steps
    with tempfile.TemporaryDirectory(prefix="visual-planner-gpu-") as temporary:
        folder = Path(temporary)
        config = _prepare(folder, size)
        _run(folder / "whole", config, steps)
        code = _run(folder / "killed", config, steps, killed)
        reached = _newest(folder / "killed")[1]["step"]
        if code != -signal.SIGKILL or not 0 < reached < steps:
            raise RuntimeError(
                f"the run must be killed after its first checkpoint, got step {reached}, exit code {code}"
            )
        _run(folder / "killed", config, steps)
        (whole, _), (resumed, record) = (_newest(folder / name) for name in ("whole", "killed"))
    largest = max((whole[name].float() - resumed[name].float()).abs().max().item() for name in whole)
    spread = max(tensor.float().abs().max().item() for tensor in whole.values())
    report(steps=steps, resumed_from=reached, largest_difference=largest, largest_weight=spread)
    if record["step"] != steps or largest > ALLOWED * spread:
        raise RuntimeError(f"a resumed run must end where an uninterrupted one does, got weights {largest:.2g} away")


def train_until(file: str, step: int | None) -> None:
    """`python -m training train`, in this process; killed before a step if one is given."""
    from training.__main__ import main
    from training.loop.loop import Loop

    one_step = Loop.one_step

    def killed(loop: Loop) -> float:
        if loop.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return one_step(loop)

    Loop.one_step = killed
    if code := main(["train", "--config", file]):
        raise SystemExit(code)


def prepare_pairs(folder: str, device: str) -> None:
    """Episodes, pairs and cache of the run, and its configuration as base.yaml."""
    from training.cache.write import cache
    from training.data.prepare import prepare
    from training.sections.config import save_config

    place = Path(folder)
    write_episodes(place / "episodes", EPISODES)
    config = configuration(
        place, {"train.batch_size": 2, "train.gradient_accumulation": 1, "train.compile_blocks": False}
    )
    prepare(config)
    cache(config)
    changes = {"device": "cpu" if device == "cpu" else "auto", "save_every": SAVE_EVERY, "keep": 1}
    train = config.train.model_copy(update=changes)
    save_config(config.model_copy(update={"train": train}), place / "base.yaml")


def _prepare(folder: Path, size: Size):
    """Prepare in a separate process: if this one touched the GPU, those that it starts could not use it."""
    from training.sections.config import load_config

    process = multiprocessing.Process(target=prepare_pairs, args=(str(folder), size.device))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the pairs could not be prepared: exit code {process.exitcode}")
    return load_config(folder / "base.yaml")


def _run(out: Path, config, steps: int, killed: int | None = None) -> int:
    """Train in a separate process, and return its exit code.

    Raises:
        RuntimeError: it failed although it was not killed on purpose.
    """
    from training.sections.config import save_config

    file = out.with_suffix(".yaml")
    train = config.train.model_copy(update={"out": out, "max_steps": steps})
    save_config(config.model_copy(update={"train": train}), file)
    process = multiprocessing.Process(target=train_until, args=(str(file), killed))
    process.start()
    process.join()
    if killed is None and process.exitcode:
        raise RuntimeError(f"the training ended with exit code {process.exitcode}")
    return process.exitcode


def _newest(out: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Weights and record of a run's newest checkpoint."""
    from training.loop.checkpoints import latest_checkpoint, load_checkpoint

    path = latest_checkpoint(out)
    if path is None:
        raise RuntimeError(f"the run must have written a checkpoint, got none in {out}")
    parts, record = load_checkpoint(path)
    return parts["weights"], record

"""Trainings that take too long on a CPU, each within its part of the remaining time; a stopped one resumes later."""

from __future__ import annotations

import time
from pathlib import Path

from training.loop.runlog import LOG, read_log
from training.planner.export import export
from training.planner.train import make_loop
from training.sections.config import load_config, save_config

from ..size import Report, Size, UnfinishedError

CONFIG, CACHE, BASE = "config.yaml", "cache", "base"
MARGIN_S = 20.0
"""Time reserved at the end for the last checkpoint and the export [s]; a third of short parts."""
HOUR_S = 3600


def quality(report: Report, size: Size, folder: str) -> None:
    """Train and export according to a folder's configuration.

    Args:
        report: takes figures.
        size: size of the run, with this part's time limit.
        folder: folder with config.yaml; its cache and base are in it too, or where the configuration says.

    Raises:
        UnfinishedError: the time ran out first; a checkpoint was written.
    """
    until = time.monotonic() + size.seconds - min(MARGIN_S, size.seconds / 3)
    config = load_config(Path(folder) / CONFIG, _changes(Path(folder), size))
    loop = make_loop(config)
    loop.resume()
    before, spent = loop.step, loop.seconds
    report(resumed_at=before, steps_of_the_run=loop.section.max_steps)
    save_config(config, loop.run_folder / CONFIG)
    hours = max(1.0, until - time.monotonic()) / HOUR_S
    # a run with a time limit ends within this time, with its rate decayed; any other is stopped and resumed later
    clock = {"max_hours": hours} if loop.section.run_hours is None else {"run_hours": loop.seconds / HOUR_S + hours}
    loop.section = loop.section.model_copy(update=clock)
    finished = loop.run()
    logged = read_log(loop.run_folder) if (loop.run_folder / LOG).is_file() else []  # no log before its first interval
    losses = [line["loss"] for line in logged if "loss" in line]
    done = loop.step - before
    report(step=loop.step, loss=losses[-1] if losses else None, step_s=(loop.seconds - spent) / done if done else None)
    if not finished:
        raise UnfinishedError(f"at step {loop.step} of {loop.section.max_steps}: --resume goes on")
    if config.export is not None:
        report(lora=str(export(config)))


def _changes(folder: Path, size: Size) -> list[str]:
    """Changes that keep everything that is read and written in the run's folder, wherever that is."""
    changes: dict[str, object] = {
        "train.device": "cpu" if size.device == "cpu" else "auto", "train.out": folder / "run",
        "export.run": folder / "run", "export.out": folder / "planner.safetensors",
    }  # fmt: skip
    changes |= {f"train.{name}": folder / name for name in (CACHE, BASE) if (folder / name).is_dir()}
    return [f"{key}={value}" for key, value in changes.items()]

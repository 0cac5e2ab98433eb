"""Prepare trainings for another machine: `python -m benchmarks.gpu.runs SETTINGS.yaml DIR`.

SETTINGS is the configuration of a training, or the settings of a sweep; each training gets a folder `DIR/NAME` with its
config.yaml, its cache, and its base unless that ships with the project. `bench gpu --runs DIR` then trains and exports.
When its results have been copied back into DIR, `python -m training study sweep --config SETTINGS.yaml --out DIR`
executes a sweep's plans and writes its page.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from .parts.parity import PLANNER
from .parts.quality import BASE, CACHE, CONFIG


def prepare_runs(settings_file: Path, out: Path) -> list[Path]:
    """Prepare the runs and return their folders; those that are prepared already are left as they are.

    Raises:
        TrainingError: the file is neither a training's nor a sweep's, or data are missing.
    """
    from training.evaluation.studies.sweep import SweepSettings, runs
    from training.sections.config import load_config
    from training.sections.yaml_text import read_yaml_mapping

    values = read_yaml_mapping(settings_file, "settings file")
    if "variants" not in values:
        return [_prepare(load_config(settings_file), out / settings_file.stem)]
    settings = SweepSettings.model_validate(values)
    return [_prepare(run.config, run.folder) for run in runs(settings, out) if run.variant.trained]


def _prepare(config, folder: Path) -> Path:
    """Make pairs and cache if they are missing, and put what the training reads into its folder."""
    from training.cache.read import MANIFEST
    from training.cache.write import cache
    from training.data.prepare import prepare
    from training.sections.config import save_config

    made = Path(config.section("cache").out)
    if not (made / MANIFEST).is_file():
        if not (config.section("prepare").out / "dataset.json").is_file():
            prepare(config)
        cache(config)
    folder.mkdir(parents=True, exist_ok=True)
    if made.absolute() != (folder / CACHE).absolute():
        shutil.copytree(made, folder / CACHE, dirs_exist_ok=True)
    base = config.section("train").base
    if base.absolute().resolve() != PLANNER.resolve():
        shutil.copytree(base, folder / BASE, dirs_exist_ok=True, ignore=shutil.ignore_patterns("loras"))
    save_config(config, folder / CONFIG)
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m benchmarks.gpu.runs SETTINGS.yaml DIR")
    for folder in prepare_runs(Path(sys.argv[1]), Path(sys.argv[2])):
        print(folder)

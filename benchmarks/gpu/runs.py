"""Prepare a study's trainings for another machine: `python -m benchmarks.gpu.runs SETTINGS.yaml DIR`.

For each planner of a sweep it makes pairs and cache, and writes `DIR/NAME/config.yaml`, as the study itself would have
them in DIR. `bench gpu --runs DIR` then trains and exports; with what it wrote copied back into DIR,
`python -m training study sweep --config SETTINGS.yaml --out DIR` executes the plans and writes the page.
"""

from __future__ import annotations

import sys
from pathlib import Path

from .parts.quality import CONFIG


def prepare_runs(settings_file: Path, out: Path) -> list[Path]:
    """Folders of the runs; what is prepared already is left as it is.

    Raises:
        TrainingError: the settings are no sweep's, or data are missing.
    """
    from training.cache.read import MANIFEST
    from training.cache.write import cache
    from training.data.prepare import prepare
    from training.evaluation.studies.sweep import SweepSettings, config_for
    from training.sections.config import save_config
    from training.sections.yaml_text import read_yaml_mapping

    settings = SweepSettings.model_validate(read_yaml_mapping(settings_file, "settings file"))
    folders = []
    for name, variant in settings.variants.items():
        if not variant.trained:
            continue
        config = config_for(settings, variant, out / name)
        if not (config.section("prepare").out / "dataset.json").is_file():
            prepare(config)
        if not (Path(config.section("cache").out) / MANIFEST).is_file():
            cache(config)
        save_config(config, out / name / CONFIG)
        folders.append(out / name)
    return folders


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m benchmarks.gpu.runs SETTINGS.yaml DIR")
    for folder in prepare_runs(Path(sys.argv[1]), Path(sys.argv[2])):
        print(folder)

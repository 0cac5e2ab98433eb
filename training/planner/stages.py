"""Run the commands from episodes to a planner's file; those whose results exist are skipped."""

from pathlib import Path

from ..cache.read import MANIFEST
from ..cache.write import cache
from ..data.prepare import prepare
from ..errors import TrainingError
from ..sections.config import Config
from .export import export
from .train import train


def make_cache(config: Config) -> None:
    """Prepare and cache, unless that has been done."""
    if not (Path(config.section("prepare").out) / "dataset.json").is_file():
        prepare(config)
    if not (Path(config.section("cache").out) / MANIFEST).is_file():  # `cache` refuses to overwrite a finished one
        cache(config)


def make_lora(config: Config, name: str) -> None:
    """Train, continuing where a previous run stopped, and export.

    Args:
        config: configuration with the sections train and export.
        name: name of the planner, for the message.

    Raises:
        TrainingError: the training was stopped again.
    """
    if not train(config):
        raise TrainingError(f"the training of {name} was stopped: the same command goes on with it")
    export(config)

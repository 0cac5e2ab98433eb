"""Data sets for Train Planner: episodes, pairs and a cache in one folder, made by the project's own commands.

Each part is made once; a stopped run continues where it was.
"""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import comfy.utils
import numpy as np
import yaml

from ....visual_planner.errors import brief
from ....visual_planner.json_text import json_record
from ....visual_planner.planner.spec import PlannerSpec
from ..processes import beside
from . import training_folders
from .training_folders import FROM_RECIPE, MANIFEST, TrainingNodeError
from .training_view import preview, read_picture

TINY_RECIPE = f"tiny{training_folders.BUILT_IN}"
SIMULATED = "simulated"
SOURCES = (SIMULATED, FROM_RECIPE)
_EPISODES, _PAIRS, _SHEET = "episodes", "pairs", "contact_sheet.jpg"
_BAR = 1000
"""Parts of the progress bar per command."""
_PREVIEW_PX = 512
"""Longer side of the sheet that is shown during the run [px]."""
_LARGEST_PX = 512
"""Longest side of a frame that the simulator renders [px]."""
_results = training_folders.Results()


@dataclass(frozen=True)
class Wanted:
    """Values of the node's inputs."""

    recipe: str
    name: str
    source: str
    episodes: int
    held_out: int
    seed: int


def fingerprint(recipe: str | None, name: str | None) -> tuple:
    """See `Results.fingerprint`."""
    return _results.fingerprint(recipe, name)


def make(wanted: Wanted) -> np.ndarray | None:
    """Make what is missing of a data set.

    Returns:
        The contact sheet (H, W, 3) uint8 of its pairs; None if it has been removed.

    Raises:
        TrainingNodeError: the inputs exclude each other, or the data set was made with others.
        BesideError: a command fails.
    """
    recipe, folder = training_folders.recipe_file(wanted.recipe), training_folders.data_folder(wanted.name)
    if wanted.source not in SOURCES:
        raise TrainingNodeError(f"source must be one of {', '.join(SOURCES)}, got {brief(wanted.source)}")
    if wanted.held_out >= wanted.episodes:
        raise TrainingNodeError(f"held_out must be less than episodes ({wanted.episodes}), got {wanted.held_out}")
    settings = {"recipe": training_folders.digest_of(recipe), "source": wanted.source, "episodes": wanted.episodes}
    settings |= {"held_out": wanted.held_out, "seed": wanted.seed if wanted.source == SIMULATED else None}
    training_folders.note_settings(folder, settings)
    sheet = folder / _PAIRS / _SHEET
    _run(commands_for(wanted, recipe, folder), sheet)
    _results.note(wanted.name, folder / MANIFEST)
    return read_picture(sheet) if sheet.exists() else None


def _run(commands: list[tuple[str, ...]], sheet: Path) -> None:
    """Run commands, those of each package in a separate process.

    Mesa, with which episodes are rendered, and Triton, which training imports, crash in one process together.
    """
    bar, before = comfy.utils.ProgressBar(_BAR * max(1, len(commands))), 0

    def look(state: beside.State) -> None:
        part = _BAR * state.done // state.total if state.total else 0
        shown = preview(read_picture(sheet), _PREVIEW_PX) if sheet.exists() else None
        bar.update_absolute(_BAR * (before + max(0, state.stage)) + part, preview=shown)

    for _, group in itertools.groupby(commands, key=lambda command: command[0]):
        together = list(group)
        beside.run(together, look)
        before += len(together)


def commands_for(wanted: Wanted, recipe: Path, folder: Path) -> list[tuple[str, ...]]:
    """The commands that make what is missing."""
    commands: list[tuple[str, ...]] = []
    if (folder / MANIFEST).exists():
        return commands
    simulated = wanted.source == SIMULATED
    pairs = folder / _PAIRS
    prepare = {"out": pairs, "validation_episodes": wanted.held_out, "episodes": wanted.episodes}
    changes = [f"prepare.{key}={_yaml(value)}" for key, value in prepare.items()]
    if simulated:
        section = {"source": str(folder / _EPISODES), "format": "simulated", "processes": 1}
        section |= {key: str(value) if isinstance(value, Path) else value for key, value in prepare.items()}
        changes = [f"prepare={json.dumps(section)}"]  # the recipe's own section is for other episodes
        if not (folder / _EPISODES).exists():
            commands.append(_demonstrate(wanted, recipe, folder))
    if not pairs.exists():
        commands.append(("training", "prepare", "--config", str(recipe), *_sets(changes)))
    changes = [f"cache.data={_yaml(pairs)}", f"cache.out={_yaml(folder / MANIFEST.parent)}"]
    commands.append(("training", "cache", "--config", str(recipe), *_sets(changes)))
    return commands


def _demonstrate(wanted: Wanted, recipe: Path, folder: Path) -> tuple[str, ...]:
    """The command for episodes with as many frames as the recipe's planner has cells, in the size of the cells."""
    spec = _spec(recipe)
    options = {
        "out": folder / _EPISODES, "episodes": wanted.episodes, "seed": wanted.seed, "frames": spec.layout.frames,
        "size": min(_LARGEST_PX, max(spec.cell_height, spec.cell_width)), "keyframes": spec.keyframes,
    }  # fmt: skip
    return (
        "simulation",
        "demonstrate",
        *(part for name, value in options.items() for part in (f"--{name}", str(value))),
    )


def _spec(recipe: Path) -> PlannerSpec:
    try:
        data = yaml.safe_load(recipe.read_bytes())
        return PlannerSpec(**(data.get("spec") or {}))
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        what = " ".join(str(error).split())
        raise TrainingNodeError(f"recipe {recipe} must be a YAML file with a planner's spec: {brief(what)}") from error


def _sets(changes: list[str]) -> tuple[str, ...]:
    return tuple(part for change in changes for part in ("--set", change))


def _yaml(value: object) -> str:
    """A value as one line of YAML; paths are quoted, whatever their names."""
    return json.dumps(str(value) if isinstance(value, Path) else value)


def summary(name: str) -> str:
    """Number of pairs of a finished data set, and its location."""
    folder = training_folders.data_folder(name)
    held_out, count = 0, 0
    for line in (folder / MANIFEST.parent / "pairs.jsonl").read_bytes().splitlines():
        count += 1
        held_out += json_record(line, f"pairs of data set {name}", TrainingNodeError).get("split") == "validation"
    return f"{name}: {count - held_out} pairs to train on, {held_out} held out\n{folder}"

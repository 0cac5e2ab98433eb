"""A run of Train Planner: `training train` and `training export` beside the server, then the LoRA is installed."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ....visual_planner.errors import brief
from ..lora import lora
from ..processes import beside
from ..safetensors_files import read_header
from . import training_folders
from .training_folders import TrainingNodeError
from .training_view import View, figures, newest_pictures, read_log

FILES = ("out", "cache", "base", "lora.base", "lora.init")
"""Keys of the section train that name files or folders: a workflow must not choose them."""
SET_BY_NODE = ("max_steps", "log_every", "validation.every")
"""Keys that the node's own inputs set."""
_CHANGE = re.compile(r"train\.([a-z_0-9]+(?:\.[a-z_0-9]+)*)=(.+)")
_POINTS = 500
"""Approximate number of points of a loss curve."""
_LORA = "lora.safetensors"
_results = training_folders.Results()


@dataclass(frozen=True)
class Wanted:
    """Values of the node's inputs."""

    recipe: str
    data: str
    name: str
    steps: int
    validate_every: int
    start_lora: str
    changes: str


@dataclass(frozen=True)
class Done:
    """A finished run.

    Attributes:
        lora_name: its name in the loaders' lists.
        picture: loss curve and newest plans (H, W, 3) uint8.
        plans: grids (H, W, 3) uint8 of the newest validation; empty if there was none.
        text: the result in a few lines.
    """

    lora_name: str
    picture: np.ndarray
    plans: list[np.ndarray]
    text: str


def fingerprint(recipe: str | None, name: str | None) -> tuple:
    """See `Results.fingerprint`."""
    return _results.fingerprint(recipe, name)


def train(wanted: Wanted) -> Done:
    """Train to the last step, from the newest checkpoint of the run if there is one, and install the LoRA.

    Raises:
        TrainingNodeError: the inputs are not allowed, or another file has the LoRA's name.
        BesideError: a command fails.
        InterruptProcessingException: the user has cancelled; the steps so far are saved.
    """
    import comfy.model_management as management

    run = training_folders.run_folder(wanted.name)
    commands = commands_for(wanted, run)
    training_folders.check_free(run)
    if management.get_torch_device().type != "cpu":  # the training needs that memory
        management.unload_all_models()
        management.soft_empty_cache()
    view = View(run, wanted.name, wanted.steps)
    beside.run(commands, view.look)
    name = training_folders.install(run / _LORA, run)
    _results.note(wanted.name, training_folders.installed_file(run))
    step = int(read_header(run / _LORA, f"LoRA {wanted.name}").metadata.get("visual_planner.steps", 0))
    return Done(name, view.draw(step), newest_pictures(run, beside=False), _summary(wanted, run, step, name))


def commands_for(wanted: Wanted, run: Path) -> list[tuple[str, ...]]:
    """The commands of a run.

    Raises:
        TrainingNodeError: recipe, data, LoRA or changes are not allowed.
    """
    recipe, cache = training_folders.recipe_file(wanted.recipe), training_folders.cache_of(wanted.data)
    changes = allowed_changes(wanted.changes)
    settings: dict[str, object] = {
        "train.out": run,
        "train.max_steps": wanted.steps,
        "train.log_every": max(1, wanted.steps // _POINTS),
        "train.validation.every": wanted.validate_every,
        "export.run": run,
        "export.out": run / _LORA,
    }
    if cache is not None:
        settings["train.cache"] = cache
    if wanted.start_lora != lora.NONE:
        settings["train.lora.init"] = lora.lora_path(wanted.start_lora)
    own = [f"{key}={json.dumps(str(v) if isinstance(v, Path) else v)}" for key, v in settings.items()]
    sets = [part for change in (*changes, *own) for part in ("--set", change)]
    return [("training", command, "--config", str(recipe), *sets) for command in ("train", "export")]


def allowed_changes(text: str) -> list[str]:
    """Changes to the recipe, one per line; empty lines and those that begin with # are left out.

    Raises:
        TrainingNodeError: a line is not a change, or changes a file or what another input sets.
    """
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("#"):
            continue
        change = _CHANGE.fullmatch(line)
        if change is None:
            raise TrainingNodeError(f"changes must be lines such as train.batch_size=2, got {brief(line)}")
        for key in (*FILES, *SET_BY_NODE):
            if f"{key}.".startswith(f"{change[1]}.") or change[1].startswith(f"{key}."):
                why = "names files, which only the recipe may" if key in FILES else "is set by the node"
                raise TrainingNodeError(f"changes must leave out train.{key}, which {why}, got {brief(line)}")
        found.append(line)
    return found


def _summary(wanted: Wanted, run: Path, step: int, name: str) -> str:
    return f"step {step} of {wanted.steps}: {figures(read_log(run))}\ninstalled as {name}\n{run}"

"""What a closed loop evaluates and with what, determined before the planner's weights are loaded."""

import argparse
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from visual_planner.errors import brief
from visual_planner.planner.spec import PlannerSpec
from worlds.registry import world_class

from ...errors import TrainingError
from ...files import ROOT, shown
from ...model.pipeline import lora_of, lora_spec
from ...model.readout import WEIGHTS, open_readout
from ..rows.shards import base_files, digest_of, stat_of
from .options import settings_of
from .settings import Settings

_NOT_IN_ROWS = ("batch_size",)
"""Settings that do not affect a row."""


class Run(tuple):
    """(seed, task, camera) of a scene."""

    @property
    def task(self) -> str:
        """Its task."""
        return self[1]


@dataclass(frozen=True)
class Loop:
    """What is evaluated, and with what.

    Args:
        options: options of the command line.
        settings: the settings that they give, with the world's and the planner's own choices filled in.
        planner: folder of the planner.
        lora: its LoRA.
        readout: folder of the read-out.
        spec: spec of the planner.
    """

    options: argparse.Namespace
    settings: Settings
    planner: Path
    lora: Path
    readout: Path
    spec: PlannerSpec

    @property
    def told(self) -> dict:
        """Paths of planner and read-out, as results record them."""
        return {name: shown(getattr(self, name)) for name in ("planner", "lora", "readout")}

    @cached_property
    def batches(self) -> list[list[Run]]:
        """The scenes that are planned at once; they stay together whichever process plans them."""
        runs, size = [Run(entry) for entry in self.settings.runs()], self.settings.batch_size
        return [runs[start : start + size] for start in range(0, len(runs), size)]


def open_loop(options: argparse.Namespace) -> Loop:
    """Everything but the weights of the planner."""
    settings, kind = settings_of(options), world_class(options.world)
    planner = options.planner or ROOT / kind.planner
    lora = lora_of(planner, options.lora)
    spec = lora_spec(lora)
    settings = replace(settings, modes=modes_of(options.mode, spec.modes, lora))
    if options.keyframes is None and spec.keyframes == "shape":
        settings = replace(settings, keyframes="shape")
    if spec.cell_height != spec.cell_width:
        raise TrainingError(f"a world's frames are square, but {lora} plans {spec.cell_height}x{spec.cell_width}")
    readout = options.readout or ROOT / kind.readout
    open_readout(readout)  # fails early if something is wrong with it
    return Loop(options, settings, planner, lora, readout, spec)


def modes_of(wanted: str, known: tuple[str, ...], lora: Path) -> tuple[str, ...]:
    """The modes to plan in: the named ones, comma-separated, or all that the planner has.

    Raises:
        TrainingError: the planner was not trained in a named mode.
    """
    if wanted == "all":
        return known
    named = tuple(dict.fromkeys(name.strip() for name in wanted.split(",")))
    if unknown := [name for name in named if name not in known]:
        raise TrainingError(f"--mode must be some of {', '.join(known)} for {lora}, got {brief(', '.join(unknown))}")
    return named


def made_from(loop: Loop) -> dict:
    """What rows depend on, in a form that this machine can check quickly."""
    options, settings = loop.options, loop.settings
    chosen = {name: value for name, value in settings.told().items() if name not in _NOT_IN_ROWS}
    stamps = [stat_of(file) for file in (loop.lora, loop.readout / WEIGHTS)]
    return {"settings": chosen, **loop.told, "weights": stamps, "baselines": [options.no_baselines, options.no_base]}


def made_from_anywhere(loop: Loop) -> dict:
    """What rows depend on, the same on every machine: contents, not paths and times; also batch size (for rounding)."""
    return {
        **{f"setting {name}": value for name, value in loop.settings.told().items()},
        "--no-baselines": loop.options.no_baselines,
        "--no-base": loop.options.no_base,
        "the LoRA": digest_of(loop.lora),
        "the read-out": digest_of(loop.readout / WEIGHTS),
        **base_files(loop.planner, digest_of),
    }

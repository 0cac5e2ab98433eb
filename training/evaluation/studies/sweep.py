"""Planners trained differently, each judged by execution: data, order, ids, tokens, one episode.

Every variant is a training configuration with some values changed; the finished parts of a stopped study are kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from simulation.camera import camera_of
from simulation.episode import draw_request
from visual_planner.planner.spec import PlannerSpec
from worlds.jaco import request_of
from worlds.protocol import World
from worlds.registry import open_world

from ...data.episodes import EpisodeSet
from ...errors import TrainingError
from ...files import file_name, read_json, read_json_lines, write_json
from ...loop.runlog import read_log
from ...model.pipeline import open_planner
from ...model.readout import open_readout
from ...planner.stages import make_cache, make_lora
from ...sections.config import Config, load_config
from ...sections.data import Section
from ..closed_loop.evaluation import bounds, draw_all, evaluate_planner
from ..closed_loop.requests import Asked, asked_of
from ..statistics import bootstrap
from .base import NotNegative, Study, StudySettings
from .sweep_page import MEASURED, page, plot


class Variant(Section):
    """One planner of the sweep."""

    changes: dict[str, Any] = Field(default_factory=dict, description="section.key \u2192 value of the configuration")
    x: float | None = Field(None, description="position on the horizontal axis; all variants or none")
    scenes: Literal["unseen", "training"] = Field(
        "unseen", description="training: judge on the scenes of the training episodes, repeated if there are few"
    )
    trained: bool = Field(True, description="false: judge the planner that the others start from (train.lora.base)")


class SweepSettings(StudySettings):
    """Settings of this study."""

    title: str = Field(description="title of the page")
    question: str = Field(description="one or two sentences below the title")
    limits: str = Field(description="limits of the results")
    training: Path = Field(description="configuration with prepare, cache, train and export")
    compare_loss: bool = Field(
        False,
        description="also compare the training losses (where all variants see the same examples in the same order)",
    )
    axis: str = Field("", description="name of the horizontal axis, with variants that have x")
    seeds: tuple[NotNegative, ...] = Field(
        (),
        description="train.seed of a variant's runs, one run with each (default: one, with the configuration's own)",
    )
    changes: dict[str, Any] = Field(default_factory=dict, description="section.key \u2192 value, in every variant")
    variants: dict[str, Variant] = Field(min_length=1, description="by name")


def measure(settings: SweepSettings, out: Path) -> dict:
    """Train what is not trained yet, execute what is not executed yet.

    Raises:
        TrainingError: a variant's training was stopped; the same command continues it.
    """
    places = [variant.x is not None for variant in settings.variants.values()]
    if any(places) != all(places):
        raise TrainingError("variants: all must have x, or none of them")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    rows: dict[str, list[dict]] = {}
    trained: list[tuple[dict, Config]] = []  # variants that differ only in their scenes share a planner
    for run in runs(settings, out):
        config = next((config for changes, config in trained if changes == run.changes), run.config)
        trained.append((run.changes, config))
        finished, variant = run.folder / "closed_loop.json", run.variant
        told = {"all": settings.changes, **variant.model_dump(mode="json")}
        if finished.is_file() and read_json(finished, "results").get("variant") == told:
            row = read_json(finished, "results")
        else:
            row = {"variant": told, **execute(settings, variant, config, planner_of(variant, config, run.folder.name))}
            write_json(finished, row)
        if settings.compare_loss and variant.trained:
            row |= {"loss": losses(config)}
        rows.setdefault(run.name, []).append(row)
    return {"variants": {name: together(own) for name, own in rows.items()}}


@dataclass(frozen=True)
class Run:
    """One training of the sweep, or the planner that the others start from.

    Args:
        name: name of the variant.
        variant: the variant.
        folder: where its run and its planner are written.
        changes: what makes its planner another than those of the other runs.
        config: its configuration.
    """

    name: str
    variant: Variant
    folder: Path
    changes: dict[str, Any]
    config: Config


def runs(settings: SweepSettings, out: Path) -> Iterator[Run]:
    """All runs, variant by variant; with several seeds, those of a variant share pairs and cache, in its first folder.

    Raises:
        TrainingError: a variant's name cannot be that of a folder, or a configuration is wrong.
    """
    for name, variant in settings.variants.items():
        file_name(name, "variants: a name, which is also that of a folder,")
        seeds = settings.seeds if variant.trained else ()
        folders = [out / f"{name}, seed {seed}" for seed in seeds] or [out / name]
        for folder, seed in zip(folders, seeds or [None], strict=True):
            changes = variant.changes if seed is None else {**variant.changes, "train.seed": seed}
            yield Run(name, variant, folder, changes, _config(settings, changes, folder, folders[0]))


def _config(settings: SweepSettings, changes: dict[str, Any], folder: Path, data: Path) -> Config:
    """The training configuration of a run that writes to `folder`, with pairs and cache in `data`."""
    places = {
        "prepare.out": data / "pairs", "cache.data": data / "pairs", "cache.out": data / "cache",
        "train.cache": data / "cache", "train.out": folder / "run", "export.run": folder / "run",
        "export.out": folder / "planner.safetensors",
    }  # fmt: skip
    values = {**settings.changes, **changes, **places}
    return load_config(settings.training, [f"{key}={value}" for key, value in values.items()])


def together(rows: list[dict]) -> dict:
    """The row of a variant from those of its runs, which planned and acted in the same scenes.

    Success and errors of a scene become means over the runs; intervals are over scenes; `runs` has each run's rates.
    """
    if len(rows) == 1:
        return rows[0]
    made = {**rows[0], "runs": [row["success"] for row in rows]}
    for mode in rows[0]["success"]:
        scenes = [
            {"seed": same[0]["seed"]} | {key: float(np.mean([one[key] for one in same])) for key in MEASURED}
            for same in zip(*(row["scenes"][mode] for row in rows), strict=True)
        ]
        low, high = bootstrap(np.array([scene["success"] for scene in scenes]))
        done, count = (sum(row["success"][mode][key] for row in rows) for key in ("successes", "n"))
        rate = {"successes": done, "n": count, "rate": done / count, "low": low, "high": high}
        made["success"] = made["success"] | {mode: rate}
        made["scenes"] = made["scenes"] | {mode: scenes}
        made["hand_error_mm"] = made["hand_error_mm"] | {mode: hand_error(scenes)}
    if "loss" in rows[0]:
        made["loss"] = np.mean([row["loss"] for row in rows], axis=0).tolist()
    return made


def planner_of(variant: Variant, config: Config, name: str) -> Path:
    """The variant's LoRA; runs the commands whose results do not exist yet.

    Raises:
        TrainingError: its training was stopped, or it is not to be trained and has no initial LoRA.
    """
    if not variant.trained:
        start = config.section("train").lora.base
        if start is None:
            raise TrainingError(f"variant {name} is not trained: train.lora.base must name the planner to judge")
        return start
    done = config.section("export").out
    if not done.is_file():
        train_variant(config, name)
    return done


def train_variant(config: Config, name: str) -> None:
    """Prepare, cache, train and export, continuing where a previous run stopped."""
    make_cache(config)
    make_lora(config, f"variant {name}")


def losses(config: Config) -> list[tuple[int, float]]:
    """Steps and training losses of a variant's log."""
    return [(line["step"], line["loss"]) for line in read_log(config.section("train").out) if "loss" in line]


def execute(settings: SweepSettings, variant: Variant, config: Config, lora: Path) -> dict:
    """Rates of a variant's planner in every mode, with bounds and baselines of its scenes."""
    planner, _ = open_planner(config.section("train").base, lora)
    net = open_readout(settings.readout)
    modes = tuple(mode for mode in settings.modes if mode in planner.spec.modes)
    with open_world(settings.world, planner.spec.cell_height) as world:
        asked = requests(settings, variant, config, world, planner.spec)
        loop = settings.model_copy(update={"modes": modes}).closed_loop()
        rates = evaluate_planner(planner, asked, world, net, loop)
        scenes = {mode: by_scene(rows, asked) for mode, rows in rates["plans"].items()}
        errors = {mode: hand_error(rows) for mode, rows in scenes.items()}
        return {"success": rates["success"], "hand_error_mm": errors, "scenes": scenes, **bounds(asked, world, net)}


def by_scene(rows: list[dict], asked: list[Asked]) -> list[dict]:
    """For each request: whether it succeeded, and the plan's mean gripper error [mm].

    The first frame is given and left out.
    """
    result = []
    for row, item in zip(rows, asked, strict=True):
        places = np.asarray(row["plans"][0]["end_effector_m"])
        away = np.linalg.norm(places - item.keyframes[:, :3], axis=1)[1:]
        result.append({"seed": row["seed"], "success": row["success"], "hand_error_mm": float(1000 * away.mean())})
    return result


def hand_error(scenes: list[dict]) -> dict:
    """Mean over scenes, with its interval."""
    values = np.array([scene["hand_error_mm"] for scene in scenes])
    low, high = bootstrap(values)
    return {"mean": float(values.mean()), "low": low, "high": high}


def requests(settings: SweepSettings, variant: Variant, config: Config, world: World, spec: PlannerSpec) -> list[Asked]:
    """Unseen scenes, or those of the variant's training episodes, with as many frames as the planner's plans.

    The latter are repeated with other noise until there are as many as requested.
    """
    if variant.scenes == "unseen":
        return draw_all(world, settings.closed_loop(keyframes=spec.keyframes), spec.layout.frames)
    section = config.section("prepare")
    lines = read_json_lines(section.out / "pairs.jsonl", "pairs")
    trained = dict.fromkeys(line["episode"] for _, line in lines if line["split"] == "train")
    records = {episode.id: episode.record for episode in EpisodeSet.open(section.source).episodes}
    chosen = [records[name] for name in trained][: settings.scenes]
    drawn = (draw_request(r["seed"], (r["task"],), "train", 0.0, camera_of(r)) for r in chosen)
    known = [asked_of(world, request_of(request), spec.layout.frames, spec.keyframes) for request in drawn]
    rounds = (divmod(number, len(known)) for number in range(settings.scenes))
    return [replace(known[place], seed=known[place].seed + again) for again, place in rounds]


STUDY = Study(SweepSettings, measure, plot, page, ("jaco",))

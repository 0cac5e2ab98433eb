"""Planners that are trained differently, each judged by execution: data, order, ids, tokens, one episode.

Every variant is a training configuration with some values changed; what a stopped study has finished is kept.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from simulation.world import World

from ..cache import cache
from ..cache_reader import MANIFEST
from ..closed_loop.command import bounds, difference, evaluate_planner
from ..closed_loop.requests import Asked, draw, seeds_and_tasks
from ..config import Config, load_config
from ..data_config import Section
from ..episodes import EpisodeSet
from ..errors import TrainingError
from ..export import export
from ..files import read_json, read_json_lines, write_json
from ..pipeline import open_planner
from ..prepare import prepare
from ..readout.weights import open_readout
from ..statistics import bootstrap
from ..train import train
from .base import SERIES, Study, StudySettings, bars, change_cell, figure, markdown_table, method_lines, rate_cell


class Variant(Section):
    """One planner of the sweep."""

    changes: dict[str, Any] = Field(default_factory=dict, description="section.key → value of the configuration")
    x: float | None = Field(None, description="place on the horizontal axis; all variants or none")
    scenes: Literal["unseen", "training"] = Field(
        "unseen", description="training: judge on the very scenes of the training episodes, again and again if few"
    )


class SweepSettings(StudySettings):
    """Settings of this study."""

    title: str = Field(description="of the page")
    question: str = Field(description="one or two sentences below the title")
    limits: str = Field(description="what the figures do not say")
    training: Path = Field(description="configuration with prepare, cache, train and export")
    axis: str = Field("", description="name of the horizontal axis, with variants that have x")
    changes: dict[str, Any] = Field(default_factory=dict, description="section.key → value, in every variant")
    variants: dict[str, Variant] = Field(min_length=1, description="by name")


def measure(settings: SweepSettings, out: Path) -> dict:
    """Train what is not trained yet, execute what is not executed yet.

    Raises:
        TrainingError: a variant's training was stopped: the same command goes on with it.
    """
    places = [variant.x is not None for variant in settings.variants.values()]
    if any(places) != all(places):
        raise TrainingError("variants: all must have x, or none of them")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    result: dict = {"variants": {}}
    trained: list[tuple[dict, Config]] = []  # variants that differ in their scenes only share a planner
    for name, variant in settings.variants.items():
        own = config_for(settings, variant, out / name)
        config = next((config for changes, config in trained if changes == variant.changes), own)
        trained.append((variant.changes, config))
        finished = out / name / "closed_loop.json"
        changes = {"all": settings.changes, **variant.model_dump(mode="json")}
        if finished.is_file() and read_json(finished, "results").get("variant") == changes:
            result["variants"][name] = read_json(finished, "results")
            continue
        train_variant(config, name)
        row = {"variant": changes, **execute(settings, variant, config)}
        write_json(finished, row)
        result["variants"][name] = row
    return result


def config_for(settings: SweepSettings, variant: Variant, folder: Path) -> Config:
    """The training configuration of a variant, with everything that it writes in `folder`."""
    places = {
        "prepare.out": folder / "pairs", "cache.data": folder / "pairs", "cache.out": folder / "cache",
        "train.cache": folder / "cache", "train.out": folder / "run", "export.run": folder / "run",
        "export.out": folder / "planner.safetensors",
    }  # fmt: skip
    changes = {**settings.changes, **variant.changes, **places}
    return load_config(settings.training, [f"{key}={value}" for key, value in changes.items()])


def train_variant(config: Config, name: str) -> None:
    """Run those commands whose results are not there."""
    done = config.section("export").out
    if done.is_file():
        return
    if not (config.section("prepare").out / "dataset.json").is_file():
        prepare(config)
    if not (Path(config.section("cache").out) / MANIFEST).is_file():  # a finished cache is refused
        cache(config)
    train(config)
    state = sorted((config.section("train").out / "checkpoints").glob("[0-9]*"))
    if not state or int(state[-1].name) < config.section("train").max_steps:
        raise TrainingError(f"the training of variant {name} was stopped: the same command goes on with it")
    export(config)


def execute(settings: SweepSettings, variant: Variant, config: Config) -> dict:
    """Rates of a variant's planner in every mode, with bounds and baselines of its scenes."""
    planner, _ = open_planner(config.section("train").base, config.section("export").out)
    net = open_readout(settings.readout)
    modes = tuple(mode for mode in settings.modes if mode in planner.spec.modes)
    with World(planner.spec.cell_height) as world:
        asked = requests(settings, variant, config, world, planner.spec.layout.frames)
        loop = settings.model_copy(update={"modes": modes}).closed_loop()
        rates = evaluate_planner(planner, asked, world, net, loop)
        scenes = {mode: by_scene(rows, asked) for mode, rows in rates["plans"].items()}
        errors = {mode: hand_error(rows) for mode, rows in scenes.items()}
        return {"success": rates["success"], "hand_error_mm": errors, "scenes": scenes, **bounds(asked, world, net)}


def by_scene(rows: list[dict], asked: list[Asked]) -> list[dict]:
    """Of each request: whether it was done, and how far the plan's hand is from the demonstration's, on average [mm].

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


def against(variant: dict, first: dict, mode: str) -> dict | None:
    """Differences of a variant from the first one on the same scenes, with their intervals; None on other scenes."""
    own, other = variant["scenes"][mode], first["scenes"][mode]
    if [scene["seed"] for scene in own] != [scene["seed"] for scene in other]:
        return None
    return {
        name: difference([scene[name] for scene in own], [scene[name] for scene in other])
        for name in ("success", "hand_error_mm")
    }


def requests(settings: SweepSettings, variant: Variant, config: Config, world: World, frames: int) -> list[Asked]:
    """Unseen scenes, or those of the episodes that the variant was trained on, in so many frames.

    The latter come again with other noise until there are as many as asked for.
    """
    if variant.scenes == "unseen":
        wanted = seeds_and_tasks(settings.first_seed, settings.scenes)
        return [draw(world, seed, task, settings.wordings, settings.camera_jitter_m, frames) for seed, task in wanted]
    section = config.section("prepare")
    lines = read_json_lines(section.out / "pairs.jsonl", "pairs")
    trained = dict.fromkeys(line["episode"] for _, line in lines if line["split"] == "train")
    records = {episode.id: episode.record for episode in EpisodeSet.open(section.source).episodes}
    chosen = [records[name] for name in trained][: settings.scenes]
    known = [draw(world, record["seed"], record["task"], "train", 0.0, frames) for record in chosen]
    rounds = (divmod(number, len(known)) for number in range(settings.scenes))
    return [replace(known[place], seed=known[place].seed + again) for again, place in rounds]


def plot(result: dict):
    """Success over the variants: a curve a mode where they have places on an axis, else bars."""
    variants, settings = result["variants"], result["settings"]
    modes = list(dict.fromkeys(mode for row in variants.values() for mode in row["success"]))
    if all(row["variant"]["x"] is not None for row in variants.values()):
        made, (axis,) = figure(6.4, 3.8)
        for mode in modes:
            points = [
                (row["variant"]["x"], row["success"][mode]) for row in variants.values() if mode in row["success"]
            ]
            x = [place for place, _ in points]
            axis.fill_between(
                x, [r["low"] for _, r in points], [r["high"] for _, r in points], color=SERIES[mode], alpha=0.15
            )
            axis.plot(x, [r["rate"] for _, r in points], "o-", color=SERIES[mode])
            axis.text(x[-1], points[-1][1]["rate"], f"  {mode}", color=SERIES[mode], va="center")
        axis.set_xscale("log")
        axis.set_xticks(x, [f"{place:g}" for place in x])
        axis.minorticks_off()
        axis.margins(x=0.15)
        axis.set(ylim=(0, 1), xlabel=settings["axis"], ylabel="requests carried out")
        return made
    made, axes = figure(2.0 + 1.1 * len(variants) * len(modes), 3.6, len(modes))
    for axis, mode in zip(axes, modes, strict=True):
        rows = {name: row["success"][mode] for name, row in variants.items() if mode in row["success"]}
        bars(axis, rows, dict.fromkeys(rows, SERIES[mode]))
        axis.set_title(mode)
    return made


def page(result: dict) -> str:
    """The study's page."""
    settings = result["settings"]
    modes = list(dict.fromkeys(mode for row in result["variants"].values() for mode in row["success"]))
    rows = [
        [name, *(rate_cell(row["success"][mode]) if mode in row["success"] else "-" for mode in modes),
         rate_cell(row["bounds"]["true_frames"]), rate_cell(row["baselines"]["static"])]
        for name, row in result["variants"].items()
    ]  # fmt: skip
    changes = "\n".join(_described(name, row["variant"]) for name, row in result["variants"].items())
    hands = [
        [name, *(_millimetres(row["hand_error_mm"][mode]) if mode in row["hand_error_mm"] else "-" for mode in modes)]
        for name, row in result["variants"].items()
    ]
    compared = _compared(result["variants"], modes)
    return f"""# {settings["title"]}

{settings["question"]}

![Success of the variants](PLOT)

{markdown_table(["variant", *modes, "true frames", "static plan"], rows)}

How far the plans' hand, as the read-out sees it, is from the demonstration's [mm, mean of all frames but the first]:

{markdown_table(["variant", *modes], hands)}
{compared}
## Method
{method_lines(settings)} Trained with `{settings["training"]}` and these changes:

{_described("all", {"changes": settings["changes"], "scenes": "unseen"})}
{changes}

## Limits
{settings["limits"]}
"""


def _millimetres(row: dict) -> str:
    """`23 (21 to 25)`."""
    return f"{row['mean']:.1f} ({row['low']:.1f} to {row['high']:.1f})"


def _compared(variants: dict[str, dict], modes: list[str]) -> str:
    """A table of differences from the first variant; nothing where no scenes are the same."""
    (base, first), *others = variants.items()
    rows = []
    for name, row in others:
        for mode in (mode for mode in modes if mode in row["scenes"] and mode in first["scenes"]):
            found = against(row, first, mode)
            if found is not None:
                done, hand = found["success"], found["hand_error_mm"]
                rows.append([
                    name, mode, change_cell(done),
                    f"{hand['difference']:+.1f} mm ({hand['low']:+.1f} to {hand['high']:+.1f})",
                ])  # fmt: skip
    if not rows:
        return ""
    head = ["variant", "mode", "carried out", "hand error"]
    return f"\nDifferences from *{base}* on the same scenes:\n\n{markdown_table(head, rows)}\n"


def _described(name: str, variant: dict) -> str:
    """A line of a page about a variant."""
    changes = ", ".join(f"`{key}: {value}`" for key, value in variant["changes"].items()) or "as configured"
    scenes = ", judged on its training scenes" if variant["scenes"] == "training" else ""
    return f"- **{name}**: {changes}{scenes}"


STUDY = Study(SweepSettings, measure, plot, page)

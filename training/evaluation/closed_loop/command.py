"""`python -m training evaluate --closed-loop`: success of plans in a world, beside bounds and baselines."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from runtime.parts import Part
from visual_planner.planner.prompts import parts_of
from worlds.protocol import World
from worlds.registry import open_world, world_class

from ...errors import TrainingError
from ...files import write_json
from ...model.pipeline import PlannerPipeline
from ...model.readout import open_readout
from ...sections.output import hold, hold_part
from ...sections.sharding import ALL, asked_of, divide
from ...sections.sharding import Asked as Processes
from ..rows.journal import Journal, lines
from ..rows.shards import ROWS, ShardOfRows, check_rows, forget_rows
from .evaluation import bound_rates, bound_rows, draw_all, plan_and_execute, planner_rates, planner_rows
from .loop import Loop, Run, made_from, made_from_anywhere, open_loop
from .options import parse
from .pictures import Strips
from .rates import rate, with_groups
from .requests import Asked
from .settings import Settings
from .table import table
from .trial import carry_out

COMMAND = "evaluate --closed-loop"
FORMAT = "visual_planner.closed_loop"
PROTOCOL = (
    "frames -> read-out (place and gripper of each frame) -> keyframes -> the world's executor -> "
    "the task's check; no scene is left out; 95% intervals: Wilson for rates, "
    "bootstrap over scenes for differences; the path drawn in modes trajectory and both is that of the scene's "
    "scripted demonstration; on_path (and success, with follow_path): the end effector is kept on it, and "
    "the frames say only height and gripper; true keyframes: those of the demonstration; true frames: its pictures "
    "through the read-out; autoencoder: the same after the planner's autoencoder; static: the first frame "
    "repeated; other_scene: keyframes of the next scene of the same task, executed without looking; no_lora: the base "
    "model alone, given the same"
)


def run(options: argparse.Namespace, asked: Processes = ALL) -> dict | None:
    """Evaluate and write the JSON file; returns what is in it.

    If it is stopped, the same command continues it: finished scenes are kept beside the file.

    Args:
        options: options of the command line.
        asked: a shard of the scenes, or finished shards to merge.

    Raises:
        TrainingError: planner, read-out or settings cannot be used, or a shard is missing.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    loop = open_loop(options)
    alone = asked == ALL and os.environ.get("WORLD_SIZE", "1") == "1"
    if not alone and options.json is None:
        raise TrainingError("--json must name a file where several processes evaluate: shards lie beside it")
    told = {} if alone else made_from_anywhere(loop)
    return divide(
        COMMAND,
        asked,
        lambda process: _make_part(loop, process.part, told),
        lambda count: _merge(loop, count, told),
        lambda process: _run_alone(loop),
    )


def _run_alone(loop: Loop) -> dict:
    journal = Journal(_journal_file(loop.options.json), made_from(loop))
    _evaluate(loop, loop.batches, journal)
    result = _result(loop, journal.rows)
    journal.remove()
    return result


def _make_part(loop: Loop, part: Part, told: dict) -> None:
    shard = ShardOfRows(loop.options.json, part, told, COMMAND)
    if not shard.finished:
        _evaluate(loop, part.of(loop.batches), shard.journal)
        shard.finish()


def _merge(loop: Loop, count: int, told: dict) -> dict:
    folders = [folder for folder, _ in check_rows(loop.options.json, count, told, COMMAND)]
    result = _result(loop, {run: rows for folder in folders for run, rows in lines(folder / ROWS)})
    forget_rows(loop.options.json)
    return result


def _evaluate(loop: Loop, batches: Sequence[list[Run]], journal: Journal) -> None:
    """Plan and execute the batches that the journal does not have yet.

    A batch of which it has only a part is planned again as a whole: a smaller batch could round differently.
    """
    options, settings = loop.options, loop.settings
    waiting = [batch for batch in batches if any(entry not in journal.rows for entry in batch)]
    total, left = sum(map(len, batches)), sum(map(len, waiting))
    if left < total:
        print(f"resuming: {total - left} of {total} scenes are finished")
    if not waiting:
        return
    planner, net, base = PlannerPipeline.load(loop.planner, loop.lora), open_readout(loop.readout), None
    if not options.no_baselines and not options.no_base:
        base = PlannerPipeline.load(loop.planner, None, loop.spec)
    with (
        open_world(settings.world, loop.spec.cell_height, settings.look) as world,
        tqdm(total=total, initial=total - left, desc="scenes", unit="scene") as bar,
    ):
        strips = options.pictures and Strips(options.pictures)
        look = strips and partial(strips.add, world=world, follow_path=settings.follow_path)
        for part in waiting:
            asked = draw_all(world, settings, loop.spec.layout.frames, part)
            rows = {"plans": planner_rows(planner, asked, world, net, settings, look)}
            if not options.no_baselines:
                rows |= _baseline_rows(planner, base, asked, part, world, net, settings)
            journal.add([(entry, _of_scene(rows, place)) for place, entry in enumerate(part)])
            bar.update(len(part))
        if strips:
            strips.sheet(settings.modes, [entry for batch in batches for entry in batch])


def _result(loop: Loop, rows: dict) -> dict:
    """Write and print the figures from the rows of all scenes."""
    settings = loop.settings
    eyes = [task for task in world_class(settings.world).needs_eyes if task in settings.tasks]
    result = {"format": FORMAT, "version": 1, "protocol": PROTOCOL, "settings": settings.told(), **loop.told}
    result |= {"steps": settings.steps or loop.spec.execution_steps}
    result |= {"replanning": settings.rule} if settings.disturb or settings.departed_m else {}
    result |= {"needs_eyes": eyes}
    result |= summary(rows, [run for batch in loop.batches for run in batch], eyes)
    for mode, mode_rows in result["plans"].items():
        # only printed, since the written results must be the same each time
        took = [row["seconds_a_plan"] for row in mode_rows]
        print(f"{mode}: {sum(took) / len(took):.3g} s for each plan")
        result["plans"][mode] = [{k: v for k, v in row.items() if k != "seconds_a_plan"} for row in mode_rows]
    if loop.options.json is not None:
        write_json(loop.options.json, result)
    print(table(result))
    return result


def _journal_file(results: Path | None) -> Path | None:
    return None if results is None else results.with_name(f".{results.name}.runs.jsonl")


def _baseline_rows(
    planner: PlannerPipeline, base: PlannerPipeline | None, asked: list[Asked], part: list[Run], world: World, net,
    settings: Settings,
) -> dict:  # fmt: skip
    """Rows of bounds and baselines of some scenes."""
    rows = {"bounds": bound_rows(asked, world, net, planner, any(parts_of(mode).path for mode in settings.modes))}
    if world.needs_eyes:
        rows["bounds"]["other_scene"] = [
            carry_out(_other_scene(world, entry, settings, len(item.truth)), item, world)
            for item, entry in zip(asked, part, strict=True)
        ]
    if base is not None:
        once = replace(settings, best_of=1, replan=0, replans=0, departed_m=0.0, until_good=1)
        rows["no_lora"] = {
            mode: [row["plans"][0]["success"] for row in plan_and_execute(base, asked, mode, world, net, once)]
            for mode in settings.modes
        }
    return rows


def _other_scene(world: World, entry: Run, settings: Settings, frames: int):
    """Keyframes of the next successful demonstration by seed, cyclically."""
    seed, task, camera = entry
    seeds = sorted({other for other, name, _ in settings.runs() if name == task} | {seed + 1})
    place = seeds.index(seed)
    for other in [*seeds[place + 1 :], *seeds[:place]]:
        request = world.draw(other, task, settings.wordings, settings.viewpoint(camera))
        shown = world.demonstrate(request, frames, settings.keyframes)
        if shown.success:
            return shown.keyframes
    return shown.keyframes


def _of_scene(rows: dict, place: int) -> dict:
    """One scene's part of the rows."""
    kept = {"plans": {mode: mode_rows[place] for mode, mode_rows in rows["plans"].items()}}
    for group in ("bounds", "no_lora"):
        if group in rows:
            kept[group] = {name: done[place] for name, done in rows[group].items()}
    return kept


def summary(rows: dict, runs: list[Run], needs_eyes: list[str]) -> dict:
    """Rates of all scenes, and the plans' rows in the order of the scenes."""
    first = rows[runs[0]]

    def column(group: str, name: str) -> list:
        return [rows[entry][group][name] for entry in runs]

    def grouped(done: list, asked: list) -> dict:
        return with_groups(rate(done, asked), done, asked, needs_eyes)

    plans = {mode: column("plans", mode) for mode in first["plans"]}
    result = {**planner_rates(plans, runs, grouped), "plans": plans}
    if "bounds" in first:
        result |= bound_rates({name: column("bounds", name) for name in first["bounds"]}, runs, grouped)
    if "no_lora" in first:
        result["baselines"]["no_lora"] = {mode: grouped(column("no_lora", mode), runs) for mode in first["no_lora"]}
    return result


def main(arguments: list[str]) -> None:
    """Run the command on the arguments after `evaluate`."""
    options = parse(arguments)
    asked = asked_of(options)
    part = None if options.json is None else asked.part
    with hold(options.json, COMMAND) if part is None else hold_part(options.json, part, COMMAND):
        run(options, asked)

"""`python -m training evaluate --closed-loop`: success of plans in a world, beside bounds and baselines."""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from worlds.protocol import World
from worlds.registry import open_world, world_class

from ...errors import TrainingError
from ...files import ROOT, shown, write_json
from ...model.pipeline import PlannerPipeline, open_planner
from ...model.readout import WEIGHTS, open_readout
from ...sections.output import hold
from .evaluation import bound_rates, bound_rows, draw_all, plan_and_execute, planner_rates, planner_rows
from .journal import Journal
from .options import parse, settings_of
from .rates import rate, with_groups
from .requests import Asked
from .settings import Settings
from .table import table
from .trial import carry_out

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
_NOT_IN_ROWS = ("batch_size",)
"""Settings that do not decide what a row is."""


class Run(tuple):
    """(seed, task, camera) of a scene."""

    @property
    def task(self) -> str:
        """Its task."""
        return self[1]


def run(options: argparse.Namespace) -> dict:
    """Evaluate and write the JSON file; returns what is in it.

    Stopped, the same command goes on: finished scenes are kept beside the file.

    Raises:
        TrainingError: planner, read-out or settings cannot be used.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    settings, kind = settings_of(options), world_class(options.world)
    planner, lora = open_planner(options.planner or ROOT / kind.planner, options.lora)
    readout = options.readout or ROOT / kind.readout
    spec, net = planner.spec, open_readout(readout)
    settings = replace(settings, modes=modes_of(options.mode, spec.modes, lora))
    if options.keyframes is None and spec.keyframes == "shape":
        settings = replace(settings, keyframes="shape")
    if spec.cell_height != spec.cell_width:
        raise TrainingError(f"a world's frames are square, but {lora} plans {spec.cell_height}x{spec.cell_width}")
    used = {"planner": options.planner or ROOT / kind.planner, "lora": lora, "readout": readout}
    told = {name: shown(path) for name, path in used.items()}
    base = None
    if not options.no_baselines and not options.no_base:
        base = PlannerPipeline.load(used["planner"], None, spec)
    journal = Journal(_journal_file(options.json), _made_from(options, settings, told, [lora, readout / WEIGHTS]))
    runs = [Run(entry) for entry in settings.runs()]
    with open_world(settings.world, spec.cell_height, settings.look) as world:
        waiting = [entry for entry in runs if entry not in journal.rows]
        if len(waiting) < len(runs):
            print(f"resuming: {len(runs) - len(waiting)} of {len(runs)} scenes are finished")
        parts = [
            waiting[start : start + settings.batch_size] for start in range(0, len(waiting), settings.batch_size)
        ]  # fmt: skip
        with tqdm(total=len(runs), initial=len(runs) - len(waiting), desc="scenes", unit="scene") as bar:
            for part in parts:
                asked = draw_all(world, settings, spec.layout.frames, part)
                rows = {"plans": planner_rows(planner, asked, world, net, settings)}
                if not options.no_baselines:
                    rows |= _baseline_rows(planner, base, asked, part, world, net, settings)
                journal.add([(entry, _of_scene(rows, place)) for place, entry in enumerate(part)])
                bar.update(len(part))
    result = {"format": FORMAT, "version": 1, "protocol": PROTOCOL, "settings": settings.told(), **told}
    result |= {"steps": settings.steps or spec.execution_steps}
    result |= {"replanning": settings.rule} if settings.disturb or settings.departed_m else {}
    result |= {"needs_eyes": [task for task in kind.needs_eyes if task in settings.tasks]}
    result |= summary(journal.rows, runs, result["needs_eyes"])
    if options.json is not None:
        write_json(options.json, result)
    journal.remove()
    print(table(result))
    return result


def modes_of(wanted: str, known: tuple[str, ...], lora: Path) -> tuple[str, ...]:
    """The modes to plan in: the one that is named, or all that the planner has.

    Raises:
        TrainingError: it has not been trained in that one.
    """
    if wanted == "all":
        return known
    if wanted not in known:
        raise TrainingError(f"--mode must be one of {', '.join(known)} for {lora}, got {wanted}")
    return (wanted,)


def _journal_file(results: Path | None) -> Path | None:
    return None if results is None else results.with_name(f".{results.name}.runs.jsonl")


def _made_from(options: argparse.Namespace, settings: Settings, told: dict, weights: list[Path]) -> dict:
    chosen = {name: value for name, value in settings.told().items() if name not in _NOT_IN_ROWS}
    stamps = [[file.stat().st_size, file.stat().st_mtime_ns] for file in weights]
    return {"settings": chosen, **told, "weights": stamps, "baselines": [options.no_baselines, options.no_base]}


def _baseline_rows(
    planner: PlannerPipeline, base: PlannerPipeline | None, asked: list[Asked], part: list[Run], world: World, net,
    settings: Settings,
) -> dict:  # fmt: skip
    """Rows of bounds and baselines of some scenes."""
    rows = {"bounds": bound_rows(asked, world, net, planner, settings.modes != ("text",))}
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
    """Keyframes of the next seed's demonstration, in a circle; of one that succeeds."""
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

    plans = {mode: column("plans", mode) for mode in first["plans"]}
    result = {**planner_rates(plans, runs), "plans": plans}
    if "bounds" in first:
        done = {name: column("bounds", name) for name in first["bounds"]}
        result |= bound_rates(done, runs)
        for group in ("bounds", "baselines"):
            for name, row in result[group].items():
                result[group][name] = with_groups(row, done[name], runs, needs_eyes)
    if "no_lora" in first:
        result["baselines"]["no_lora"] = {
            mode: with_groups(rate(column("no_lora", mode), runs), column("no_lora", mode), runs, needs_eyes)
            for mode in first["no_lora"]
        }
    for mode, mode_rows in plans.items():
        once = [row["success"] for row in mode_rows]
        again = [row.get("replanned", row)["success"] for row in mode_rows]
        for group, done in (("success", again), ("once", once)):
            if group in result:
                result[group][mode] = with_groups(result[group][mode], done, runs, needs_eyes)
    return result


def main(arguments: list[str]) -> None:
    """Run the command on the arguments after `evaluate`."""
    options = parse(arguments)
    with hold(options.json, "evaluate --closed-loop"):
        run(options)

"""Rounds of planning, executing and further training, until held-out success no longer rises.

The idea is VideoAgent's (Soni et al., arXiv 2410.10076): a planner that trains on its own executed successes
improves without further demonstrations. The training data are what really happened: the frames as executed, with the
requested instruction and the path that the end effector really took.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from visual_planner.execution.readout import ReadoutNet
from worlds.protocol import World
from worlds.registry import open_world, world_class

from ...errors import TrainingError
from ...files import ROOT, read_json, replacing, write_json
from ...model.pipeline import PlannerPipeline
from ...model.readout import open_readout
from ...planner.stages import make_cache, make_lora
from ...sections.config import Config
from ...sections.improve import ImproveSection
from ..charts import SERIES, figure
from ..closed_loop.evaluation import draw_all, plan_and_execute, rate
from ..closed_loop.settings import Settings
from .collect import EXECUTED, FAILED, Outcome, in_turn, try_plans, write_outcomes

RESULTS, BEST, PLOT = "improve.json", "best.safetensors", "improve.png"
EVALUATION_SEEDS = 1000
"""Number of seeds, from a world's first evaluation seed on, that are reserved for evaluation."""
_MAY_CHANGE = ("rounds", "batch_size", "out")


@dataclass
class Round:
    """One round.

    Args:
        number: from 1; 0 is the planner to start from.
        folder: folder of its data sets, caches, run and LoRA.
        lora: its planner.
        episodes: number of episodes from its own scenes that it was trained on, by data set.
        success: held-out rates by mode.
    """

    number: int
    folder: Path
    lora: Path
    episodes: dict[str, int]
    success: dict[str, dict]

    @property
    def mean(self) -> float:
        """Mean of the modes' held-out success."""
        return float(np.mean([row["rate"] for row in self.success.values()]))

    def as_json(self) -> dict:
        """Its entry in the results."""
        return {"round": self.number, "episodes": self.episodes, "success": self.success, "mean": round(self.mean, 4)}


def improve(config: Config) -> Path:
    """Run the rounds; results, plot and the best LoRA go to `improve.out`. The same command continues a stopped run.

    Returns:
        The best LoRA.

    Raises:
        TrainingError: seeds are reserved for evaluation, settings differ from those of the rounds in the folder, or a
            round has no episode to train on.
    """
    section: ImproveSection = config.section("improve")
    check_seeds(section)
    out = Path(section.out)
    settings = _settings(config, section)
    rounds = _finished(out, settings, section)
    net = open_readout(section.readout or ROOT / world_class(section.world).readout)
    if not rounds:
        rounds.append(_judged(config, section, net, 0, out / "round_00", Path(section.lora), {}))
        _write(out, settings, rounds)
    while len(rounds) <= section.rounds and (len(rounds) == 1 or rounds[-1].mean > max(r.mean for r in rounds[:-1])):
        rounds.append(_round(config, section, net, rounds))
        _write(out, settings, rounds)
    best = max(rounds, key=lambda one: one.mean)
    with replacing(out / BEST) as temporary:
        shutil.copyfile(best.lora, temporary)
    print(table(rounds))
    print(f"best: round {best.number}, {out / BEST}")
    return out / BEST


def check_seeds(section: ImproveSection) -> None:
    """Check that no seed is reserved for evaluation and that scenes to train on do not also decide when to stop.

    Raises:
        TrainingError: a seed is reserved, or the two sets of scenes overlap.
    """
    first = world_class(section.world).seeds
    kept = range(first, first + EVALUATION_SEEDS)
    collected = range(section.first_seed, section.first_seed + section.rounds * section.scenes)
    held_out = range(section.held_out_seed, section.held_out_seed + section.held_out_scenes)
    for name, seeds in (("first_seed", collected), ("held_out_seed", held_out)):
        if _overlap(seeds, kept):
            raise TrainingError(
                f"improve.{name}: seeds {kept.start} to {kept.stop - 1} are evaluation's in world {section.world}, "
                f"got {seeds.start} to {seeds.stop - 1}"
            )
    if _overlap(collected, held_out):
        raise TrainingError(
            f"improve.held_out_seed: seeds {held_out.start} to {held_out.stop - 1} are also trained on "
            f"({collected.start} to {collected.stop - 1})"
        )


def _overlap(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop


def _round(config: Config, section: ImproveSection, net: ReadoutNet, rounds: list[Round]) -> Round:
    """Collect with the last round's planner, train it further, and measure."""
    number, before = len(rounds), rounds[-1]
    folder = Path(section.out) / f"round_{number:02d}"
    counted = folder / "episodes.json"
    if not counted.is_file():
        write_json(counted, _collect(config, section, net, number, folder, before.lora))
    episodes = read_json(counted, "episodes of a round")
    for name, count in episodes.items():
        if count:
            make_cache(_with_data(config, folder / name))
    found = {name: [f for f in _folders(section, number) if (f / name).is_dir()] for name in (EXECUTED, FAILED)}
    if not any(found.values()):
        raise TrainingError(
            f"improve: no plan of {section.scenes} scenes succeeded, and no demonstration: nothing to train on"
        )
    own = _with_run(config, section, folder, before.lora, found)
    if not Path(own.export.out).is_file():
        make_lora(own, f"round {number}")
    return _judged(config, section, net, number, folder, Path(own.export.out), episodes)


def _folders(section: ImproveSection, number: int) -> list[Path]:
    return [Path(section.out) / f"round_{one:02d}" for one in range(1, number + 1)]


def _collect(
    config: Config, section: ImproveSection, net: ReadoutNet, number: int, folder: Path, lora: Path
) -> dict[str, int]:
    """Plan and execute in the round's scenes, and write the outcomes."""
    planner = PlannerPipeline.load(config.section("train").base, lora)
    first = section.first_seed + (number - 1) * section.scenes
    settings = _loop_settings(section, planner, first, section.scenes)
    with open_world(section.world, planner.spec.cell_height, settings.look) as world:
        outcomes = _outcomes(planner, section, settings, net, world, f"round {number}")
        return write_outcomes(folder, outcomes, world, section.failed > 0)


def _outcomes(
    planner: PlannerPipeline, section: ImproveSection, settings: Settings, net: ReadoutNet, world: World, name: str
) -> list[Outcome]:
    """Outcomes of all scenes, each planned in one mode."""
    entries, outcomes = list(in_turn(settings.runs(), settings.modes)), []
    with tqdm(total=len(entries), desc=f"{name}: scenes", unit="scene", disable=None) as bar:
        for mode in settings.modes:
            runs = [run for run, own in entries if own == mode]
            for start in range(0, len(runs), section.batch_size):
                part = runs[start : start + section.batch_size]
                asked = draw_all(world, settings, planner.spec.layout.frames, part)
                outcomes += try_plans(planner, asked, mode, world, net, section.plans, section.batch_size)
                bar.update(len(part))
                bar.set_postfix_str(f"{sum(one.frames is not None for one in outcomes)} succeeded", refresh=False)
    return outcomes


def _judged(
    config: Config, section: ImproveSection, net: ReadoutNet, number: int, folder: Path, lora: Path, episodes: dict
) -> Round:
    """The round with its held-out success."""
    planner = PlannerPipeline.load(config.section("train").base, lora)
    settings = _loop_settings(section, planner, section.held_out_seed, section.held_out_scenes)
    with open_world(section.world, planner.spec.cell_height, settings.look) as world:
        asked = draw_all(world, settings, planner.spec.layout.frames)
        success = {}
        for mode in settings.modes:
            rows = plan_and_execute(planner, asked, mode, world, net, settings)
            success[mode] = rate([row["success"] for row in rows], asked)
    return Round(number, folder, lora, episodes, success)


def _loop_settings(section: ImproveSection, planner: PlannerPipeline, first: int, scenes: int) -> Settings:
    modes = tuple(section.modes) or planner.spec.modes
    if unknown := [mode for mode in modes if mode not in planner.spec.modes]:
        raise TrainingError(f"improve.modes must be some of {', '.join(planner.spec.modes)}, got {', '.join(unknown)}")
    return Settings(
        modes=modes, first_seed=first, scenes=scenes, wordings=section.wordings, batch_size=section.batch_size,
        world=section.world, keyframes="shape" if planner.spec.keyframes == "shape" else "",
    )  # fmt: skip


def _with_data(config: Config, data: Path) -> Config:
    """The configuration to prepare and cache a round's data set; all of it is trained on."""
    pairs, cache = data.with_name(f"{data.name}_pairs"), _cache_of(data)
    prepare = config.section("prepare").model_copy(
        update={
            "source": data, "out": pairs, "format": "simulated", "validation_episodes": 0, "subsets": [],
            "episodes": None, "frames": "uniform", "later_starts": 0.0, "overlay": "auto",
        }
    )  # fmt: skip
    section = config.section("cache").model_copy(update={"data": pairs, "out": cache})
    return config.model_copy(update={"prepare": prepare, "cache": section})


def _cache_of(data: Path) -> Path:
    return data.with_name(f"{data.name}_cache")


def _with_run(
    config: Config, section: ImproveSection, folder: Path, lora: Path, found: dict[str, list[Path]]
) -> Config:
    """The configuration to train a round's planner: earlier caches and those of all rounds, each with its weight."""
    train = config.section("train")
    weights = {name: section.earlier * share for name, share in _shares(train.cache).items()}
    for name, weight in ((EXECUTED, section.executed), (FAILED, section.failed)):
        weights |= {str(_cache_of(one / name)): weight / len(found[name]) for one in found[name]}
    weights = {name: weight for name, weight in weights.items() if weight > 0}
    if not weights:
        raise TrainingError("improve: earlier, executed and failed leave nothing to train on: give one a weight")
    changed = train.model_copy(
        update={
            "cache": weights, "out": folder / "run",
            "lora": train.lora.model_copy(update={"init": lora}),
        }
    )  # fmt: skip
    export = config.section("export").model_copy(update={"run": folder / "run", "out": folder / "planner.safetensors"})
    return config.model_copy(update={"train": changed, "export": export})


def _shares(cache: object) -> dict[str, float]:
    """Fraction of the sampling weight of each of the configuration's caches."""
    if isinstance(cache, dict):
        total = sum(cache.values())
        return {str(name): weight / total for name, weight in cache.items()}
    names = cache if isinstance(cache, list) else [cache]
    return {str(name): 1 / len(names) for name in names}


def _settings(config: Config, section: ImproveSection) -> dict:
    """The settings that the rounds depend on, as JSON."""
    own = {n: v for n, v in section.model_dump(mode="json").items() if n not in _MAY_CHANGE}
    return {"improve": own, "train": config.section("train").model_dump(mode="json")}


def _finished(out: Path, settings: dict, section: ImproveSection) -> list[Round]:
    """The rounds that the folder holds.

    Raises:
        TrainingError: they were made with other settings.
    """
    if not (out / RESULTS).is_file():
        return []
    kept = read_json(out / RESULTS, "results of improve")
    for part, values in settings.items():
        before = kept.get("settings", {}).get(part, {})
        for name in values.keys() | before.keys():
            if values.get(name) != before.get(name):
                raise TrainingError(
                    f"{part}.{name} must be {before.get(name)}, as in the rounds of {out}, got {values.get(name)}: "
                    "use another folder, or delete it"
                )
    rounds = []
    for entry in kept["rounds"]:
        number, folder = entry["round"], out / f"round_{entry['round']:02d}"
        lora = folder / "planner.safetensors" if number else Path(section.lora)
        rounds.append(Round(number, folder, lora, entry["episodes"], entry["success"]))
    return rounds


def _write(out: Path, settings: dict, rounds: list[Round]) -> None:
    entries = [one.as_json() for one in rounds]
    write_json(out / RESULTS, {"format": "visual_planner.improve", "settings": settings, "rounds": entries})
    with replacing(out / PLOT) as temporary:
        plot(rounds).savefig(temporary, format="png", dpi=120)


def plot(rounds: list[Round]):
    """Held-out success over rounds, a line per mode with its intervals, as a matplotlib figure."""
    made, (axis,) = figure(5.0, 3.2)
    for place, mode in enumerate(rounds[0].success):
        rows, shift = [one.success[mode] for one in rounds], 0.04 * (place - 1)
        numbers = np.arange(len(rounds)) + shift
        axis.plot(numbers, [row["rate"] for row in rows], "o-", color=SERIES[mode], label=mode)
        axis.vlines(numbers, [row["low"] for row in rows], [row["high"] for row in rows], color=SERIES[mode])
    axis.set_xticks(range(len(rounds)))
    axis.set_xlabel("round")
    axis.set_ylabel("held-out success")
    axis.set_ylim(0, 1.03)
    axis.legend(frameon=False)
    return made


def table(rounds: list[Round]) -> str:
    """The rounds as text."""
    lines = []
    for one in rounds:
        rates = ", ".join(
            f"{mode} {row['successes']}/{row['n']} ({row['low']:.0%} to {row['high']:.0%})"
            for mode, row in one.success.items()
        )
        counts = ", ".join(f"{count} {name}" for name, count in one.episodes.items()) or "start"
        lines.append(f"round {one.number} ({counts}): held-out success {rates}")
    return "\n".join(lines)

"""Measure plans of unseen scenes against what really happened there, with baselines and intervals.

Each mode is compared with `static` (the first frame repeated), `no_lora` (the base model given the same condition
tokens and prompt) and `bound` (the true frames through the autoencoder: no plan can score better). Scenes are planned
in batches, which the processes of `accelerate launch` or shards divide; the results are the same either way.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from visual_planner.grid.frame import to_bytes
from visual_planner.planner.spec import PlannerSpec

from ..errors import TrainingError
from ..files import write_json
from ..model.pipeline import PlannerPipeline, lora_spec
from ..model.sampling import draw_noise
from ..sections.config import Config
from ..sections.result import EvaluateSection
from ..sections.sharding import ALL, Asked, Process, device_of, divide
from .colours import HUE_TOLERANCE_DEG
from .figures import row_of, static_plan, summary, table
from .perceptual.distances import Perceptual
from .rows.shards import (
    Batch,
    ShardOfRows,
    add_batch,
    base_files,
    check_rows,
    digest_of,
    features_of,
    forget_rows,
    keep_picture,
    rows_of,
    stat_of,
    write_rows,
    write_sheet,
)
from .scenes import Scene, open_scenes

PROTOCOL = (
    "the first frame is given and excluded from every metric",
    "PSNR and SSIM (7x7 window, mean over channels) per frame, then mean over frames and scenes",
    "motion ratio: mean absolute difference of successive frames, plan / ground truth, median over scenes",
    "end effector (simulated scenes): distance [px] between its colour blobs in plan and ground truth; ADE: mean "
    "over the frames where the ground truth shows it, FDE: last frame; one that is not found counts with the static "
    "plan's error",
    "moved most: push, pick and place scenes in which the requested object is displaced most, and by at least 2 px",
    "colour kept (simulated scenes): pick and place scenes in which the held object is found in every frame where the "
    f"truth shows it, its hue at most {HUE_TOLERANCE_DEG:g} degrees from that of the first frame",
    "checks: visual_planner.diagnostics (static, motion, seams, drift, ghosting), all passed",
    "intervals: 95%, bootstrap over scenes (2000 draws), Wilson for rates; p values: paired Wilcoxon against static",
)


Make = Callable[[list[tuple[int, Scene]]], list[np.ndarray]]
"""(number, scene) of some scenes -> their plans (F, h, w, 3) uint8."""
_AFTERWARDS = {"out", "threads", "source", "base", "lora", "lpips", "fvd"}
"""Settings that rows do not depend on, and paths, whose contents are compared instead."""


def evaluate(config: Config, asked: Asked = ALL) -> dict | None:
    """Write `evaluate.out`/metrics.json and pictures of plans beside the truth; returns the figures.

    If it is stopped, the same command continues it: finished batches are kept beside the results.

    Args:
        config: the configuration, of which the section `evaluate` is used.
        asked: a shard of the batches, or finished shards to merge.

    Raises:
        TrainingError: there are no scenes, base, LoRA or weights cannot be used, or a shard is missing.
    """
    section: EvaluateSection = config.section("evaluate")
    if section.threads:
        torch.set_num_threads(section.threads)
    spec = lora_spec(section.lora)
    scenes = open_scenes(section.source, section.scenes, spec)
    if not scenes:
        raise TrainingError(f"evaluate.source {section.source} contains no scene")
    alone = asked == ALL and os.environ.get("WORLD_SIZE", "1") == "1"
    made_from = _made_from(section, len(scenes), stat_of if alone else digest_of)
    return divide(
        "evaluate",
        asked,
        lambda process: _make(section, spec, scenes, process, made_from),
        lambda count: _merge(section, spec, count, made_from),
    )


def _made_from(section: EvaluateSection, scenes: int, stamp: Callable[[Path], object]) -> dict:
    """Everything that the rows depend on; `stamp` identifies a file's content."""
    told = {f"evaluate.{key}": value for key, value in section.model_dump(mode="json", exclude=_AFTERWARDS).items()}
    told |= {"evaluate.scenes": scenes, "the LoRA": stamp(Path(section.lora))}
    for name in ("lpips", "fvd"):
        file = getattr(section, name)
        told |= {} if file is None else {f"weights of evaluate.{name}": stamp(Path(file))}
    told |= base_files(Path(section.base), stamp)
    for name in ("dataset.json", "episodes.jsonl", "pairs.jsonl", "manifest.json"):
        told |= {f"source: {name}": stamp(file)} if (file := Path(section.source) / name).is_file() else {}
    return told


def _make(
    section: EvaluateSection, spec: PlannerSpec, scenes: list[Callable[[], Scene]], process: Process, made_from: dict
) -> None:
    """Plan and measure the batches of a part that are not finished yet."""
    shard = ShardOfRows(Path(section.out), process.part, made_from, "evaluate")
    if shard.finished:
        return
    size = section.batch_size
    own = process.part.of([range(start, min(start + size, len(scenes))) for start in range(0, len(scenes), size)])
    waiting = [numbers for numbers in own if (numbers[0] // size,) not in shard.journal.rows]
    if len(waiting) < len(own):
        print(f"resuming: {len(own) - len(waiting)} of {len(own)} batches are finished")
    if waiting:
        device = torch.device(device_of(process))
        makers = _makers(section, spec, device)
        perceptual = Perceptual(section.lpips, section.fvd, device)
        for numbers in tqdm(waiting, desc="batches", initial=len(own) - len(waiting), total=len(own)):
            held = [(number, scenes[number]()) for number in numbers]
            add_batch(shard, numbers[0] // size, _measure(held, makers, perceptual, spec, shard.folder, section))
    shard.finish()


def _makers(section: EvaluateSection, spec: PlannerSpec, device: torch.device) -> dict[str, Make]:
    planner = PlannerPipeline.load(section.base, section.lora, None, section.dtype, device)
    makers: dict[str, Make] = {
        "static": lambda part: [static_plan(scene) for _, scene in part],
        "bound": lambda part: [planner.through_autoencoder(scene.truth) for _, scene in part],
    }
    for mode in spec.modes:
        makers[mode] = _maker(planner, mode, section)
    if section.baselines:
        base = PlannerPipeline.load(section.base, None, spec, section.dtype, device)
        makers |= {f"no_lora_{mode}": _maker(base, mode, section) for mode in spec.modes}
    return makers


def _names(section: EvaluateSection, spec: PlannerSpec) -> list[str]:
    """Names of `_makers` without loading a weight."""
    return ["static", "bound", *spec.modes, *(f"no_lora_{mode}" for mode in spec.modes if section.baselines)]


def _measure(
    scenes: list[tuple[int, Scene]], makers: dict[str, Make], perceptual: Perceptual, spec: PlannerSpec, folder: Path,
    section: EvaluateSection,
) -> Batch:  # fmt: skip
    """Plan the scenes of a batch with every maker, and measure the plans."""
    rows, features = {}, {}
    for name, make in makers.items():
        mode = name.removeprefix("no_lora_")
        asked = [(number, scene) for number, scene in scenes if mode not in spec.modes or mode in scene.asked]
        plans = make(asked) if asked else []
        rows[name] = [
            {**row_of(scene, plan), "number": number} | perceptual.row(plan, scene.truth)
            for (number, scene), plan in zip(asked, plans, strict=True)
        ]
        features[name] = [values.tolist() for values in perceptual.features(plans)]
        if name in spec.modes:
            for (number, scene), plan in zip(asked, plans, strict=True):
                keep_picture(folder, name, number, scene.truth, plan, section.pictures)
    return Batch(rows, features, [values.tolist() for values in perceptual.features([s.truth for _, s in scenes])])


def _merge(section: EvaluateSection, spec: PlannerSpec, count: int, made_from: dict) -> dict:
    """Figures and pictures from the rows of all parts."""
    out = Path(section.out)
    folders = [folder for folder, _ in check_rows(out, count, made_from, "evaluate")]
    perceptual = Perceptual(section.lpips, section.fvd)
    result: dict = {
        "protocol": [*PROTOCOL, *perceptual.protocol(spec.layout.frames)],
        "source": str(section.source),
        "lora": str(section.lora),
        "seed": section.seed,
        "steps": section.steps or spec.steps,
        "cfg": spec.cfg if section.cfg is None else section.cfg,
        "spec": spec.to_metadata(),
    }
    static, truth = rows_of(folders, "static"), features_of(folders, None)
    for name in _names(section, spec):
        if rows := rows_of(folders, name):
            kept = {row["number"] for row in rows}
            distance = perceptual.distance(features_of(folders, name), truth)
            result[name] = summary(rows, [row for row in static if row["number"] in kept]) | distance
    for mode in spec.modes:
        write_sheet(out / f"{mode}.png", folders, mode, section.pictures)
    result["scenes"] = len(static)
    write_json(out / "metrics.json", result)
    write_rows(out / "scenes.json", _names(section, spec), lambda name: rows_of(folders, name))
    forget_rows(out)
    print("\n".join(f"  {line}" for line in result["protocol"]))
    print(table(result))
    return result


def _maker(planner: PlannerPipeline, mode: str, section: EvaluateSection) -> Make:
    def make(part: list[tuple[int, Scene]]) -> list[np.ndarray]:
        pictures = np.stack([scene.asked[mode][0] for _, scene in part])
        prompts = [scene.asked[mode][1] for _, scene in part]
        noise = draw_noise(planner.spec, [section.seed + number for number, _ in part])
        made = planner.plan(pictures, prompts, steps=section.steps, cfg=section.cfg, noise=noise)
        return list(to_bytes(made))

    return make

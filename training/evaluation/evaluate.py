"""Plans of unseen scenes against what really happened there, with baselines and intervals.

Beside each mode stand: `static` (the first frame repeated), `no_lora` (the base model given the same condition tokens
and prompt) and `bound` (the true frames through the autoencoder: no plan can be measured better). Started with
`accelerate launch`, the processes share the scenes; the figures are the same.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from PIL import Image
from tqdm import tqdm

from visual_planner.grid.frame import to_bytes

from ..errors import TrainingError
from ..files import replacing, write_json
from ..model.pipeline import PlannerPipeline
from ..model.sampling import draw_noise
from ..sections.config import Config
from ..sections.result import EvaluateSection
from .colours import HUE_TOLERANCE_DEG
from .figures import row_of, static_plan, summary, table
from .perceptual import Perceptual
from .scenes import Scene, read_scenes

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
"""(number, scene) of some scenes → their plans (F, h, w, 3) uint8."""


def evaluate(config: Config) -> dict:
    """Write `evaluate.out`/metrics.json and pictures of plans beside the truth; returns the figures.

    Raises:
        TrainingError: no scenes, or base, LoRA or weights cannot be used.
    """
    section: EvaluateSection = config.section("evaluate")
    if section.threads:
        torch.set_num_threads(section.threads)
    state = PartialState(cpu=not torch.cuda.is_available())
    planner = PlannerPipeline.load(section.base, section.lora, None, section.dtype, state.device)
    spec = planner.spec
    own = read_scenes(section.source, section.scenes, spec, (state.process_index, state.num_processes))
    perceptual = Perceptual(section.lpips, section.fvd, state.device)
    makers: dict[str, Make] = {
        "static": lambda part: [static_plan(scene) for _, scene in part],
        "bound": lambda part: [planner.through_autoencoder(scene.truth) for _, scene in part],
    }
    for mode in spec.modes:
        makers[mode] = _maker(planner, mode, section)
    if section.baselines:
        base = PlannerPipeline.load(section.base, None, spec, section.dtype, state.device)
        makers |= {f"no_lora_{mode}": _maker(base, mode, section) for mode in spec.modes}

    result: dict = {
        "protocol": [*PROTOCOL, *perceptual.protocol(spec.layout.frames)],
        "source": str(section.source),
        "lora": str(section.lora),
        "seed": section.seed,
        "steps": section.steps or spec.steps,
        "cfg": spec.cfg if section.cfg is None else section.cfg,
        "spec": spec.to_metadata(),
    }
    rows: dict[str, list[dict]] = {}
    truth_features = perceptual.features([scene.truth for _, scene in own])
    for name, make in makers.items():
        mode = name.removeprefix("no_lora_")
        asked = [(number, scene) for number, scene in own if mode not in spec.modes or mode in scene.asked]
        parts = [asked[start : start + section.batch_size] for start in range(0, len(asked), section.batch_size)]
        made = [plan for part in tqdm(parts, desc=name) for plan in make(part)]
        plans = [(number, scene, plan) for (number, scene), plan in zip(asked, made, strict=True)]
        found = [{**row_of(scene, plan), "number": n} | perceptual.row(plan, scene.truth) for n, scene, plan in plans]
        rows[name] = sorted(gather_object(found), key=lambda row: row["number"])
        features = perceptual.features([plan for _, _, plan in plans])
        distance = perceptual.distance(gather_object(features), gather_object(truth_features))
        if state.is_main_process and rows[name]:
            kept = {row["number"] for row in rows[name]}
            still = [row for row in rows["static"] if row["number"] in kept]
            result[name] = summary(rows[name], still) | distance
        if name in spec.modes and plans and state.is_main_process:
            _save_sheet(Path(section.out) / f"{name}.png", [(s.truth, p) for _, s, p in plans[: section.pictures]])
    if state.is_main_process:
        if not rows["static"]:
            raise TrainingError(f"evaluate.source {section.source} contains no scene")
        result["scenes"] = len(rows["static"])
        write_json(Path(section.out) / "metrics.json", result)
        write_json(Path(section.out) / "scenes.json", rows)
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


def _save_sheet(path: Path, pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Truth and plan of each scene, one above the other, frames side by side."""
    rows = [np.concatenate(list(frames), axis=1) for pair in pairs for frames in pair]
    with replacing(path) as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary, "png")

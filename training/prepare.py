"""Episodes → pairs of condition and target grids with prompts, for each mode of the planner.

text: the first frame as it is, and the instruction; trajectory: the first frame with the end effector's path drawn
on it, and a fixed sentence; both: the drawn path and the instruction.
"""

import json
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from visual_planner.grid import assemble_grid, condition_grid
from visual_planner.overlay import draw_overlay
from visual_planner.prompts import build_prompt
from visual_planner.spec import PlannerSpec
from visual_planner.trajectory import Path as DrawnPath
from visual_planner.trajectory import Point, Trajectory

from .config import Config, PrepareSection
from .episodes import Episode, EpisodeSet
from .errors import TrainingError
from .files import write_json, write_text

FORMAT = "visual_planner.pairs"
_CONTROL_POINTS = 17
"""Points of the recorded path that are drawn: enough to follow it, few enough for a smooth line."""


def episode_trajectory(record: dict, height: int, width: int) -> Trajectory:
    """The end effector's path of an episode, with times, cut at the frame's edge.

    Args:
        record: the episode's line; `path_px` holds (x, y, t).
        height: of a frame [px].
        width: of a frame [px].
    """
    path = np.asarray(record["path_px"], float)
    keep = np.linspace(0, len(path) - 1, _CONTROL_POINTS).round().astype(int)
    points = tuple(Point(float(x), float(y), float(t)) for x, y, t in path[keep])
    return Trajectory(width, height, (DrawnPath("gripper", points, "polyline"),)).clipped("clamp")


def make_pair(episode: Episode, mode: str, spec: PlannerSpec) -> tuple[np.ndarray, np.ndarray, str]:
    """Condition grid, target grid (H, W, 3 uint8) and prompt of one episode in one mode.

    Raises:
        TrainingError: the frames have another size or number than the spec's cells.
    """
    frames = episode.load_frames()
    expected = (spec.layout.frames, spec.cell_height, spec.cell_width, 3)
    if frames.shape != expected:
        raise TrainingError(f"episode {episode.id} has frames of shape {frames.shape}, the spec asks for {expected}")
    first = frames[0].copy()
    if mode != "text":
        trajectory = episode_trajectory(episode.record, spec.cell_height, spec.cell_width)
        first = draw_overlay(first, trajectory, spec.overlay, color_by=spec.overlay_color_by)
    condition = condition_grid(torch.from_numpy(first)[None], spec.layout)[0].numpy()
    target = assemble_grid(torch.from_numpy(frames), spec.layout)[0].numpy()
    return condition, target, build_prompt(mode, episode.record["instruction"], spec)


def prepare(config: Config) -> None:
    """Write the folder of pairs: dataset.json, pairs.jsonl, conditions/ and targets/."""
    section: PrepareSection = config.section("prepare")
    spec = config.planner_spec()
    data = EpisodeSet.open(section.source)
    if section.validation_episodes >= len(data.episodes):
        raise TrainingError(
            f"prepare.validation_episodes is {section.validation_episodes}, but {section.source} has only "
            f"{len(data.episodes)} episodes"
        )
    out = Path(section.out)
    if out.exists():
        raise TrainingError(f"prepare.out {out} exists already: remove it or choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        for name in ("conditions", "targets"):
            (temporary / name).mkdir()
        work = partial(_write_episode, temporary, spec)
        # spawn: a process forked from one that runs torch's threads may hang
        with ProcessPoolExecutor(section.processes, mp_context=get_context("spawn")) as pool:
            results = pool.map(work, data.episodes, chunksize=16) if section.processes > 1 else map(work, data.episodes)
            groups = list(tqdm(results, total=len(data.episodes), desc="pairs"))
        first_validation = len(data.episodes) - section.validation_episodes
        lines = [
            json.dumps({**pair, "split": "train" if number < first_validation else "validation"})
            for number, group in enumerate(groups)
            for pair in group
        ]
        write_text(temporary / "pairs.jsonl", "\n".join(lines) + "\n")
        write_json(
            temporary / "dataset.json",
            {"format": FORMAT, "version": 1, "spec": asdict(spec), "pairs": len(lines), "source": data.info},
        )
        temporary.chmod(0o755)
        temporary.rename(out)
    except OSError as error:
        raise TrainingError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"{out}: {len(lines)} pairs of {len(data.episodes)} episodes")


def _write_episode(folder: Path, spec: PlannerSpec, episode: Episode) -> list[dict]:
    """Write the pictures of one episode and return its lines; trajectory and both share a condition picture."""
    pairs, drawn = [], set()
    target_name = f"targets/{episode.id}.png"
    for mode in spec.modes:
        condition, target, prompt = make_pair(episode, mode, spec)
        kind = "clean" if mode == "text" else "overlay"
        name = f"conditions/{episode.id}_{kind}.png"
        if kind not in drawn:
            Image.fromarray(condition).save(folder / name, compress_level=1)
            drawn.add(kind)
        if not pairs:
            Image.fromarray(target).save(folder / target_name, compress_level=1)
        pairs.append(
            {
                "id": f"{episode.id}_{mode}",
                "episode": episode.id,
                "mode": mode,
                "source": name,
                "target": target_name,
                "text": prompt,
            }
        )
    return pairs

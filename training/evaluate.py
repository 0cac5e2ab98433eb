"""Plans of unseen scenes against what really happened there, with baselines and intervals.

Frame 1 is given and therefore left out of every figure. Beside each mode stand: `static` (the first frame
repeated), `no_lora` (the base model given the same condition tokens and prompt) and `bound` (the true frames
through the autoencoder: no plan can be measured better).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage.metrics import structural_similarity
from tqdm import tqdm

from visual_planner.overlay import draw_overlay
from visual_planner.prompts import build_prompt
from visual_planner.spec import PlannerSpec

from .config import Config, EvaluateSection
from .episodes import Episode, EpisodeSet
from .files import replacing, write_json
from .latents import decode_latents, encode_cells
from .measure import hand_positions, motion, moved_most
from .pipeline import PlannerPipeline
from .prepare import episode_trajectory
from .statistics import better_than, bootstrap, wilson

PROTOCOL = (
    "frames 2 to 9 only; PSNR and SSIM (7x7 window, per frame, mean over channels) against the simulated truth; "
    "hand error: distance of the hand's colour blob in plan and truth, over frames where the truth shows it, a hand "
    "that is not found counted with the static baseline's error; moved most: push, pick and place scenes whose asked "
    "object is displaced most, and by 2 px at least"
)
_MOVING = ("push", "pick", "place")


def evaluate(config: Config) -> None:
    """Write `evaluate.out`/metrics.json and pictures of plans beside the truth."""
    section: EvaluateSection = config.section("evaluate")
    if section.threads:
        torch.set_num_threads(section.threads)
    episodes = list(EpisodeSet.open(section.source).episodes)[: section.scenes]
    truth = np.stack([episode.load_frames() for episode in episodes])
    planner = PlannerPipeline.load(section.base, section.lora)
    base = PlannerPipeline.load(section.base, None, planner.spec) if section.baselines else None
    result = {
        "protocol": PROTOCOL,
        "scenes": len(episodes),
        "seed": section.seed,
        "steps": section.steps or planner.spec.steps,
    }
    static = np.repeat(truth[:, :1], truth.shape[1], axis=1)
    result["static"] = score(static, truth, episodes)
    result["bound"] = score(_through_vae(planner, truth), truth, episodes)
    out = Path(section.out)
    for mode in planner.spec.modes:
        plans = make_plans(planner, episodes, truth[:, 0], mode, section)
        result[mode] = score(plans, truth, episodes)
        _save_sheet(out / f"{mode}.png", truth[: section.pictures], plans[: section.pictures])
        if base is not None:
            unplanned = make_plans(base, episodes, truth[:, 0], mode, section)
            result[f"no_lora_{mode}"] = score(unplanned, truth, episodes)
    write_json(out / "metrics.json", result)
    print(table(result))


def make_plans(
    planner: PlannerPipeline, episodes: list[Episode], first: np.ndarray, mode: str, section: EvaluateSection
) -> np.ndarray:
    """Plans (N, F, h, w, 3) uint8 of the episodes' scenes in one mode."""
    frames, prompts = [], []
    for episode, frame in zip(episodes, first, strict=True):
        picture, prompt = planner_input(episode.record, frame, mode, planner.spec)
        frames.append(picture)
        prompts.append(prompt)
    plans = []
    for start in tqdm(range(0, len(frames), section.batch_size), desc=mode):
        part = slice(start, start + section.batch_size)
        made = planner.plan(np.stack(frames[part]), prompts[part], seed=section.seed + start, steps=section.steps)
        plans.append((made * 255).round().byte().numpy())
    return np.concatenate(plans)


def planner_input(record: dict, frame: np.ndarray, mode: str, spec: PlannerSpec) -> tuple[np.ndarray, str]:
    """First frame (with its overlay, where the mode has one) and prompt of an episode."""
    picture = np.ascontiguousarray(frame)
    if mode != "text":
        trajectory = episode_trajectory(record, *frame.shape[:2])
        picture = draw_overlay(picture, trajectory, spec.overlay, color_by=spec.overlay_color_by)
    return picture, build_prompt(mode, record["instruction"], spec)


def score(plans: np.ndarray, truth: np.ndarray, episodes: list[Episode]) -> dict:
    """Figures of plans (N, F, h, w, 3 uint8) against the truth; tests against the static baseline are paired."""
    static = np.repeat(truth[:, :1], truth.shape[1], axis=1)
    ssim, still_ssim = _per_scene(_ssim, plans, truth), _per_scene(_ssim, static, truth)
    psnr, still_psnr = _per_scene(_psnr, plans, truth), _per_scene(_psnr, static, truth)
    errors, found = _hand_errors(plans, truth, static)
    ratio = np.array([motion(plan) / max(motion(real), 1e-6) for plan, real in zip(plans, truth, strict=True)])
    asked = [
        moved_most(plan, [item["color"] for item in episode.record["objects"]]) == episode.record["target"].split()[0]
        for plan, episode in zip(plans, episodes, strict=True)
        if episode.record["task"] in _MOVING
    ]
    return {
        "ssim": _with_interval(ssim),
        "psnr_db": _with_interval(psnr),
        "ssim_above_static_p": better_than(ssim, still_ssim),
        "psnr_above_static_p": better_than(psnr, still_psnr),
        "motion_ratio": _with_interval(ratio, np.median),
        "hand_error_px": {"median": float(np.median(errors)), "mean": float(errors.mean()),
                          "interval_of_median": bootstrap(errors.mean(axis=1), np.median)},
        "hand_found": float(found),
        "moved_most": {"successes": int(sum(asked)), "n": len(asked), "rate": sum(asked) / max(1, len(asked)),
                       "interval": wilson(sum(asked), len(asked))},
    }  # fmt: skip


def _per_scene(measure: Callable, plans: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.array(
        [
            np.mean([measure(p, t) for p, t in zip(plan[1:], real[1:], strict=True)])
            for plan, real in zip(plans, truth, strict=True)
        ]
    )


def _ssim(plan: np.ndarray, truth: np.ndarray) -> float:
    return structural_similarity(plan, truth, channel_axis=2)


def _psnr(plan: np.ndarray, truth: np.ndarray) -> float:
    error = np.square(plan.astype(np.float64) - truth).mean() / 255**2
    return float(-10 * np.log10(max(error, 1e-10)))


def _hand_errors(plans: np.ndarray, truth: np.ndarray, static: np.ndarray) -> tuple[np.ndarray, float]:
    """Errors (N, F-1) [px] and the share of frames in which the plan shows a hand."""
    places = [np.stack([hand_positions(scene) for scene in group])[:, 1:] for group in (plans, truth, static)]
    planned, real, still = places
    error = np.linalg.norm(planned - real, axis=-1)
    fallback = np.linalg.norm(still - real, axis=-1)
    visible = ~np.isnan(real[..., 0])
    found = ~np.isnan(planned[..., 0])
    error = np.where(found, error, fallback)
    error = np.where(visible, error, 0.0)
    return np.nan_to_num(error), found[visible].mean()


def _with_interval(values: np.ndarray, statistic: Callable = np.mean) -> dict:
    return {"value": float(statistic(values)), "interval": bootstrap(values, statistic)}


def _through_vae(planner: PlannerPipeline, truth: np.ndarray) -> np.ndarray:
    decoded = []
    for frames in truth:
        latents = encode_cells(planner.vae, frames, planner.spec.layout)
        decoded.append(planner.slice(decode_latents(planner.vae, latents))[0])
    return (torch.stack(decoded) * 255).round().byte().numpy()


def _save_sheet(path: Path, truth: np.ndarray, plans: np.ndarray) -> None:
    """Truth and plan of each scene, one above the other, frames side by side."""
    rows = [np.concatenate(list(frames), axis=1) for pair in zip(truth, plans, strict=True) for frames in pair]
    with replacing(path) as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary, "png")


def table(result: dict) -> str:
    """The figures as a text table."""
    lines = [
        f"{'':20}{'PSNR dB':>9}{'SSIM':>7}{'motion':>8}{'hand px median':>16}{'mean':>7}{'found':>7}{'moved most':>13}"
    ]
    for name, row in result.items():
        if isinstance(row, dict):
            hand, moved = row["hand_error_px"], row["moved_most"]
            lines.append(
                f"{name:20}{row['psnr_db']['value']:9.2f}{row['ssim']['value']:7.3f}{row['motion_ratio']['value']:8.2f}"
                f"{hand['median']:16.2f}{hand['mean']:7.2f}{row['hand_found']:7.0%}{moved['successes']:7d}/{moved['n']:<3d}{moved['rate']:.0%}"
            )
    return "\n".join(lines)

"""Measure the read-out on episodes that it was not trained on, and write its model card."""

from pathlib import Path

import numpy as np

from visual_planner.execution.readout import TOLERANCE_M, ReadoutNet, read_frames
from worlds.registry import WORLDS, world_class

from ..evaluation.statistics import bootstrap, wilson
from ..files import read_json, write_json, write_text
from ..sections.planner import ReadoutSection
from .data import Frames
from .degrade import degrade
from .planned import planned_pictures

METRICS = "metrics.json"
_PLANNED_EPISODES = 64
"Number of held-out episodes that are regenerated per metric; each takes a whole sampling run."
_KEPT = (1.0, 0.5, 0.0)
"Fractions of the sampler's steps that are skipped: all (the autoencoder alone), half of them, none (a whole plan)."


def measure(net: ReadoutNet, frames: Frames, section: ReadoutSection) -> dict:
    """Metrics on unchanged frames ("clean", also by source), degraded ones ("degraded"), and a planner's versions.

    The fewer of the sampler's steps are skipped, the more the plan's own error counts; with none skipped, it is an
    ordinary plan.
    """
    rng = np.random.default_rng(section.seed + 1)
    count = len(frames.gripper)
    degraded = np.stack([degrade(frames.pictures[i], frames.pictures[max(0, i - 1)], rng) for i in range(count)])
    figures = {"clean": score(net, frames, frames.pictures)}
    if len(section.source) > 1:
        for number, path in enumerate(section.source):
            chosen = np.flatnonzero(np.array(frames.source)[frames.episode] == number)
            if len(chosen):
                part = frames.part(chosen)
                figures[f"clean, of {path.name}"] = score(net, part, part.pictures)
    for name, chosen in frames.of_cameras().items():
        if len(chosen):
            part = frames.part(chosen)
            figures[f"clean, camera {name}"] = score(net, part, part.pictures)
    figures["degraded"] = score(net, frames, degraded)
    if section.planner is not None:
        few = section.planner.model_copy(update={"episodes": min(section.planner.episodes, _PLANNED_EPISODES)})
        for kept in _KEPT:
            made = planned_pictures(frames, few, section.seed + 1, kept)
            numbers = sorted(made)
            pictures = np.stack([made[number] for number in numbers])
            figures[f"planned, {kept:.0%} of the steps kept"] = score(net, frames.part(np.array(numbers)), pictures)
    return figures


def score(net: ReadoutNet, frames: Frames, pictures: np.ndarray) -> dict:
    """Errors in space and in the gripper's state, with intervals over episodes, and calibration of the confidence.

    Frames of an episode are much alike, so intervals are taken over episodes, not over frames. A gripper between
    0.25 and 0.75 is moving and is not counted.
    """
    places, gripper, confidence = [], [], []
    for number in np.unique(frames.episode):
        chosen = np.flatnonzero(frames.episode == number)
        reading = read_frames(net, pictures[chosen], frames.views[number] if frames.views else None)
        places.append(reading.positions_m)
        gripper.append(reading.gripper)
        confidence.append(reading.confidence)
    order = np.concatenate([np.flatnonzero(frames.episode == number) for number in np.unique(frames.episode)])
    error = 1000 * np.linalg.norm(np.concatenate(places) - frames.places_m[order], axis=1)
    per_axis = 1000 * np.abs(np.concatenate(places) - frames.places_m[order])
    truth, episodes = frames.gripper[order], frames.episode[order]
    settled = np.abs(truth - 0.5) >= 0.25
    right = (np.concatenate(gripper) >= 0.5) == (truth >= 0.5)
    medians = np.array([np.median(error[episodes == number]) for number in np.unique(episodes)])
    within = float((error < 1000 * TOLERANCE_M).mean())
    good, n = int(right[settled].sum()), int(settled.sum())
    return {
        "frames": len(error),
        "episodes": len(medians),
        "error_mm": {
            "median": float(np.median(error)),
            "mean": float(error.mean()),
            "p95": float(np.quantile(error, 0.95)),
            "interval_of_median": bootstrap(medians, np.median),
            "mean_x_y_z": per_axis.mean(axis=0).round(2).tolist(),
        },
        "gripper": {"right": good, "n": n, "rate": good / max(1, n), "interval": wilson(good, n)},
        "confidence": {"mean": float(np.concatenate(confidence).mean()), "share_within_tolerance": within},
    }


def write_card(
    folder: Path,
    figures: dict,
    section: ReadoutSection,
    steps: int,
    frames: int,
    parameters: int,
    before: list[dict],
) -> None:
    """Write `metrics.json` and `README.md` beside the weights; `before` are the records of earlier training."""
    training = {"steps": steps, "batch_size": section.batch_size, "frames": frames, "parameters": parameters,
                "sources": [str(path) for path in section.source], "autoencoder": section.vae is not None,
                "planner_share": section.planner.share if section.planner else 0.0, "before": before}  # fmt: skip
    write_json(folder / METRICS, {"training": training, "held_out": figures})
    rows = [
        f"| {name} | {row['error_mm']['median']:.1f} ({row['error_mm']['interval_of_median'][0]:.1f} to "
        f"{row['error_mm']['interval_of_median'][1]:.1f}) | {row['error_mm']['mean']:.1f} | "
        f"{row['error_mm']['p95']:.1f} | {row['gripper']['rate']:.1%} ({row['gripper']['interval'][0]:.1%} to "
        f"{row['gripper']['interval'][1]:.1%}) | {row['confidence']['mean']:.2f} / "
        f"{row['confidence']['share_within_tolerance']:.2f} |"
        for name, row in figures.items()
    ]
    defects = "blur, ghosts, noise, colours, remnants of paths" + (
        ", the tiny planner's autoencoder with noisy latents" if section.vae is not None else ""
    )
    of_planner = section.planner and (
        f"{section.planner.share:.0%} of each batch were frames of {section.planner.episodes} episodes that a planner "
        f"(`{section.planner.folder}`) had regenerated from an intermediate noise level, with the ground truth still "
        "known."
    )
    start = "scratch" if section.init is None else "weights that had been trained before"
    earlier = ", ".join(
        f"{part['steps']} of {part['batch_size']} with {part.get('planner_share', 0.0):.0%} of a planner's frames"
        for part in before
    )
    write_text(folder / "README.md", _CARD.format(
        arm=arm_of(section), parameters=parameters, steps=steps, start=start, batch=section.batch_size, frames=frames,
        defects=defects,
        planner=of_planner or "No planner's output was used.",
        earlier=f"\nBefore that, steps of frames: {earlier}." if earlier else "",
        episodes=figures["clean"]["episodes"], tolerance=1000 * TOLERANCE_M, rows="\n".join(rows),
    ))  # fmt: skip


def arm_of(section: ReadoutSection) -> str:
    """The arm's name for the model card, according to the sources' world."""
    names = {read_json(path / "dataset.json", "data set").get("world", "jaco") if (path / "dataset.json").is_file()
             else "" for path in section.source}  # fmt: skip
    known = [world_class(name).title for name in sorted(names) if name in WORLDS]
    return " and ".join(known) if len(known) == len(names) else "the arm of its sources"


_CARD = """# Read-out of {arm}

A convolutional network of {parameters:,} weights.
It takes frames in time order and outputs for each the end effector's position (x, y, z) [m], how far the gripper is \
closed, and the expected error.
Trained from {start} for {steps} steps of {batch} on {frames:,} frames of the simulator, degraded like generated \
frames ({defects}).
{planner}{earlier}

On {episodes} held-out episodes (the median's interval is over episodes; share: fraction of errors below \
{tolerance:.0f} mm, which the confidence should predict):

| frames | median error [mm] (95% interval) | mean | 95th percentile | gripper right | confidence / share |
|---|---|---|---|---|---|
{rows}

Confidence is the expected fraction of errors below {tolerance:.0f} mm, learnt on the training frames.
A generated frame can have faults that no training frame had (a gripper in two places, an impossible pose of the \
arm), and may then be read with too much confidence.
"planned": regenerated by the planner from an intermediate noise level; with 0% of the steps kept it is a whole plan, \
whose own deviation from the demonstration is part of the error.

Made for {arm} and its scenes; a camera in another place is given as a view, and is read best if the training data \
include frames from there.
Train another with `python -m training readout --config FILE`; see docs/guides/execute.md.
"""

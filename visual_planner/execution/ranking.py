"""Best of N: which of several plans for one request looks most like one that works, judged by its frames alone.

A plan's score is the mean of its parts, each in [0, 1], 1 best: how closely the gripper follows the drawn path
(if one was drawn), how sure the read-out is of what it sees, on average and where it is least sure, and how clearly
the gripper can be told open from closed. A plan in which nothing moves scores 0. Of everything measured on
executed plans, these parts distinguished failing from working ones (docs/studies/failure_detection.md); seams, ghosts
and drift did not, and jumps hardly did. With three or more plans for one request, each has one more part: how far the
others agree with it, since each failing plan fails in its own way (the same idea selects text answers: Wang et al.,
"Self-Consistency Improves Chain of Thought Reasoning in Language Models", arXiv 2203.11171). Nothing here knows
whether the request was fulfilled.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..checks.diagnostics import Report
from ..errors import PlannerError
from .keyframes import gripper_states
from .readout import Reading

PATH_SCALE = 0.05
"A mean distance from the path of this fraction of the frame's side scores exp(-1)."
AGREEMENT_SCALE_M = 0.03
"Two plans whose end effectors are this far apart on average agree by exp(-1)."
LEAST_TO_AGREE = 3
"Number of plans from which an outlier can be identified: two plans can only agree with each other."
MOVES = ("static", "motion")
"Checks of `diagnostics` that a plan must pass to get a score above 0."
GOOD_PATH, GOOD_SURE = 0.489, 0.853
"""Value of a part from which a plan looks good: the path's if one was drawn, otherwise the mean confidence's.

The thresholds that the study of failure detection takes from its data (docs/studies/failure_detection.md). The path
distinguishes failing from working plans well (AUC 0.93), the confidence by itself poorly (0.71).
"""


@dataclass(frozen=True)
class Score:
    """How good one plan looks.

    Args:
        parts: value of each part by name, in [0, 1], 1 best.
        moves: whether anything moves.
    """

    parts: dict[str, float]
    moves: bool = True

    @property
    def total(self) -> float:
        """Mean of the parts, 0 where nothing moves."""
        return float(np.mean(list(self.parts.values()))) if self.moves else 0.0

    def text(self) -> str:
        """One line."""
        return f"{self.total:.3f}  (" + ", ".join(f"{name} {value:.2f}" for name, value in self.parts.items()) + ")"


def score_plan(reading: Reading, report: Report, path_norm: np.ndarray | None = None) -> Score:
    """Score one plan by itself.

    Args:
        reading: reading of its frames.
        report: its diagnostics.
        path_norm: the requested places (F, 2) at the frames' times, as fractions of the frame's sides; None: none.

    Raises:
        PlannerError: a path of another length than the plan.
    """
    parts = {}
    if path_norm is not None:
        parts["path"] = path_adherence(reading, path_norm)
    parts["sure"] = float(np.mean(reading.confidence))
    parts["least sure"] = float(np.min(reading.confidence))
    parts["gripper"] = _gripper(reading)
    return Score(parts, moves=all(check.ok for check in report.checks if check.name in MOVES))


def is_good(score: Score) -> bool:
    """Whether a plan looks good enough to be executed, by `GOOD_PATH` or `GOOD_SURE`; never if nothing moves."""
    if not score.moves:
        return False
    return score.parts["path"] >= GOOD_PATH if "path" in score.parts else score.parts["sure"] >= GOOD_SURE


def compare(scores: list[Score], readings: list[Reading]) -> list[Score]:
    """Add to the scores of plans for one request how far the others agree with each; unchanged for fewer than three.

    Two plans agree by exp(-d / `AGREEMENT_SCALE_M`), d being their grippers' mean distance [m] at the same frame; a
    plan's part is the mean over the others. The first frame is given and left out.
    """
    if len(scores) < LEAST_TO_AGREE:
        return scores
    places = np.stack([reading.positions_m for reading in readings])[:, 1:]
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1).mean(axis=-1)
    others = (np.exp(-apart / AGREEMENT_SCALE_M).sum(axis=1) - 1) / (len(scores) - 1)
    return [
        replace(score, parts={**score.parts, "agreement": float(share)})
        for score, share in zip(scores, others, strict=True)
    ]


def path_adherence(reading: Reading, path_norm: np.ndarray) -> float:
    """exp(-d / `PATH_SCALE`), d being the mean distance in the picture between the read-out and the requested places.

    The first frame is given and left out.

    Raises:
        PlannerError: a path of another length, or a read-out without a camera.
    """
    asked = np.asarray(path_norm, dtype=np.float64)
    if asked.shape != reading.picture_norm.shape:
        raise PlannerError(f"the path must give {reading.picture_norm.shape} places, got {asked.shape}")
    if not np.isfinite(reading.picture_norm).all():
        raise PlannerError("this read-out has no camera, so its places cannot be compared with a drawn path")
    distance = np.linalg.norm(reading.picture_norm - asked, axis=1)[1:].mean()
    return float(np.exp(-distance / PATH_SCALE))


def order_of(scores: list[Score]) -> list[int]:
    """Numbers of the plans, best first; ties keep their order."""
    return sorted(range(len(scores)), key=lambda number: -scores[number].total)


def _gripper(reading: Reading) -> float:
    """How certain the gripper's states are: mean probability of the likeliest sequence, 0.5 to 1 as 0 to 1."""
    states = gripper_states(reading.gripper)
    shares = np.where(states == 1, reading.gripper, 1 - reading.gripper)
    return float(np.clip(2 * shares.mean() - 1, 0.0, 1.0))

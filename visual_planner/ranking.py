"""Best of N: which of several plans for one request looks most like one that works, judged by its frames alone.

A plan's score is the mean of its parts, each in [0, 1], 1 best: how closely the read-out hand keeps to the drawn path
(where one was drawn), how many checks of `diagnostics` pass and how clearly, and how plausible the read-out is (sure of
what it sees, no jumps, starts where the arm stands). Nothing here knows whether the request was carried out.
"""

from dataclasses import dataclass

import numpy as np

from .actions import gripper_states
from .diagnostics import Report
from .errors import PlannerError
from .readout import Reading

PATH_SCALE = 0.05
"""A mean distance from the path of this share of the frame's side scores exp(-1)."""
JUMP_M = 0.12
"""From one frame to the next an arm moves no farther than about this [m]; what is beyond counts as a jump."""
START_M = 0.03
"""A plan that starts this far from where the arm stands [m] scores exp(-1) for its start."""


@dataclass(frozen=True)
class Score:
    """How good one plan looks.

    Args:
        total: mean of the parts.
        parts: by name, each in [0, 1], 1 best.
    """

    total: float
    parts: dict[str, float]

    def text(self) -> str:
        """One line."""
        return f"{self.total:.3f}  (" + ", ".join(f"{name} {value:.2f}" for name, value in self.parts.items()) + ")"


def score_plan(
    reading: Reading,
    report: Report,
    path_norm: np.ndarray | None = None,
    start_m: np.ndarray | None = None,
) -> Score:
    """Score one plan.

    Args:
        reading: what was read off its frames.
        report: its diagnostics.
        path_norm: the asked places (F, 2) at the frames' times, in shares of the frame's width and height; None: none.
        start_m: where the tool stands before the plan starts (3,) [m]; None: unknown.

    Raises:
        PlannerError: a path of another length than the plan.
    """
    parts = {}
    if path_norm is not None:
        parts["path"] = path_adherence(reading, path_norm)
    parts["checks"] = float(np.mean([_margin(check) for check in report.checks]))
    parts["sure"] = float(np.mean(reading.confidence))
    parts["smooth"] = smoothness(reading)
    parts["gripper"] = _gripper(reading)
    if start_m is not None:
        parts["start"] = float(np.exp(-np.linalg.norm(reading.positions_m[0] - np.asarray(start_m)) / START_M))
    return Score(float(np.mean(list(parts.values()))), parts)


def path_adherence(reading: Reading, path_norm: np.ndarray) -> float:
    """exp(-d / `PATH_SCALE`), d the mean distance in the picture between the read-out and the asked places.

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


def smoothness(reading: Reading) -> float:
    """1 where no step between frames is longer than `JUMP_M`, less the longer the jumps beyond it are."""
    steps = np.linalg.norm(np.diff(reading.positions_m, axis=0), axis=1)
    return float(np.exp(-np.maximum(steps - JUMP_M, 0.0).sum() / JUMP_M))


def order_of(scores: list[Score]) -> list[int]:
    """Numbers of the plans, best first; equal ones in their own order."""
    return sorted(range(len(scores)), key=lambda number: -scores[number].total)


def _gripper(reading: Reading) -> float:
    """How clearly the gripper's states can be told: mean probability of the likeliest sequence, 0.5 to 1 as 0 to 1."""
    states = gripper_states(reading.gripper)
    shares = np.where(states == 1, reading.gripper, 1 - reading.gripper)
    return float(np.clip(2 * shares.mean() - 1, 0.0, 1.0))


def _margin(check) -> float:
    """0.5 at a check's threshold, towards 1 on its good side and towards 0 on the other."""
    good = check.value / max(check.threshold, 1e-9)
    ratio = good if check.bound == "at least" else 1 / max(good, 1e-9)
    return float(ratio / (1 + ratio))

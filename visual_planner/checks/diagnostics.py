"""Does a plan look sound? Checks for the known failures of generated grids.

Each check is a pure function of the frames that returns one number with a bound, and says in one line what it found.
They judge the picture alone: a plan that passes them all may still miss its goal; only execution tells.

Except for seams, which live in single pixels, checks look at frames reduced to a shorter side of 64 px and smoothed
with a 3x3 mean, so that noise and codec ripple do not count and the bounds hold for every frame size. The bounds were
set between true episodes of the simulated arm (also blurred and noisy ones) and the same episodes degraded on purpose.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch

from ..errors import ImageError, TrajectoryError
from ..grid.frame import to_rgb
from .defects import changed, ghosts, reduced, seam_excess


@dataclass(frozen=True)
class Rule:
    """Bound of a check and its messages, which take the value as `v`."""

    threshold: float
    bound: str
    good: str
    bad: str


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "static": Rule(0.01, "at least", "{v:.1%} of the picture changes", "the plan is static, {v:.1%} changes"),
        "motion": Rule(0.004, "at least", "frames differ by {v:.4f}", "hardly any motion, frames differ by {v:.4f}"),
        "seams": Rule(
            0.08, "at most", "cell borders are clean, step {v:.3f}", "a seam runs along a cell, step {v:.3f}"
        ),
        "drift": Rule(
            0.05,
            "at most",
            "the first cell keeps the given first frame, RMS {v:.3f}",
            "the first cell departs from the given first frame, RMS {v:.3f}",
        ),
        "ghosting": Rule(
            0.06,
            "at most",
            "moving parts are solid, {v:.1%} half-transparent",
            "{v:.1%} of a frame's moving parts are half-transparent",
        ),
        "path": Rule(
            0.05,
            "at most",
            "motion follows the trajectory, {v:.1%} of the frame's side away",
            "motion leaves the trajectory, {v:.1%} of the frame's side away",
        ),
    }
)
'What each check requires. "at least" or "at most": the good side of the threshold.'


@dataclass(frozen=True)
class Check:
    """Outcome of one check.

    Args:
        name: name of the check.
        value: measured value.
        threshold: its bound.
        ok: whether the value keeps the bound.
        message: one line in words.
        bound: "at least" or "at most": which side of the threshold is good.
    """

    name: str
    value: float
    threshold: float
    ok: bool
    message: str
    bound: str = "at most"


@dataclass(frozen=True)
class Report:
    """Outcomes of all checks that were made.

    Args:
        checks: outcomes in the order in which they are shown.
    """

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.ok for check in self.checks)

    def as_dict(self) -> dict:
        """Plain object for JSON."""
        return {
            "ok": self.ok,
            "checks": {
                check.name: {
                    "ok": check.ok,
                    "value": check.value,
                    "bound": check.bound,
                    "threshold": check.threshold,
                    "message": check.message,
                }
                for check in self.checks
            },
        }

    def text(self) -> str:
        """One line per check."""
        return "\n".join(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.message}" for check in self.checks)


def diagnose(
    frames: "torch.Tensor | np.ndarray",
    first_frame: "torch.Tensor | np.ndarray | None" = None,
    trajectory_points: "torch.Tensor | np.ndarray | None" = None,
) -> Report:
    """Check the frames of one plan.

    Args:
        frames: (F, h, w, 3), in time order, F >= 2; floats in [0, 1] or any form `fit_frame` takes.
        first_frame: (h, w, 3) or (1, h, w, 3), the given first frame; None leaves the drift check out.
        trajectory_points: (F, 2) or (F, paths, 2), requested places per frame [px of these frames], such as
            `DrawnPath.resample(F)` gives; None leaves the path check out.

    Raises:
        ImageError: fewer than two frames, or a first frame of another size.
        TrajectoryError: points of another shape.
    """
    pictures = _pictures(frames)
    small = reduced(pictures)
    first = None if first_frame is None else _first(first_frame, pictures)
    values = {"static": static_share(small), "motion": mean_motion(small), "seams": seam_step(pictures, first)}
    if first is not None:
        values["drift"] = first_frame_drift(small, reduced(first))
    values["ghosting"] = ghost_share(small)
    if trajectory_points is not None:
        scale = small.shape[-1] / pictures.shape[-1], small.shape[-2] / pictures.shape[-2]
        values["path"] = path_distance(small, _points(trajectory_points, len(pictures)) * np.array(scale))
    return Report(tuple(judge(name, value) for name, value in values.items()))


def static_share(frames: torch.Tensor) -> float:
    """Largest fraction of the picture that differs from the first frame in any later one: 0 = nothing ever moves.

    Args:
        frames: (F, 3, h, w), reduced.
    """
    return float(changed(frames[1:], frames[:1]).float().mean(dim=(1, 2)).max())


def mean_motion(frames: torch.Tensor) -> float:
    """Mean absolute difference between neighbouring frames, differences below 0.04 (noise) counted as 0.

    Args:
        frames: (F, 3, h, w), reduced.
    """
    difference = (frames[1:] - frames[:-1]).abs()
    return float(torch.where(difference > 0.04, difference, torch.zeros(())).mean())


def seam_step(frames: torch.Tensor, first_frame: torch.Tensor | None = None) -> float:
    """Height of the strongest straight step along the border of a cell; see `seam_excess`.

    Args:
        frames: (F, 3, h, w) at full size.
        first_frame: (1, 3, h, w) at full size, the given one; None: the plan's own first cell.
    """
    excesses = seam_excess(frames, frames[:1] if first_frame is None else first_frame)
    return max(float(excess.max()) for excess in excesses)


def first_frame_drift(frames: torch.Tensor, first_frame: torch.Tensor) -> float:
    """Root mean square difference between the plan's first cell and the given first frame.

    Args:
        frames: (F, 3, h, w), reduced.
        first_frame: (1, 3, h, w), reduced.
    """
    return float((frames[:1] - first_frame).square().mean().sqrt())


def ghost_share(frames: torch.Tensor) -> float:
    """Largest fraction of a frame's moving parts that are double exposures; see `ghosts`.

    The fraction is of the pixels where the blended pictures differ, but of at least 2% of the picture.

    Args:
        frames: (F, 3, h, w), reduced.
    """
    shares = (
        float(found.sum() / max(float(moving.sum()), 0.02 * moving.numel()))
        for groups in ghosts(frames)
        for found, moving in groups
    )
    return max(shares)


def path_distance(frames: torch.Tensor, points: np.ndarray) -> float:
    """Median distance from the requested place to the nearest changed pixel, as a fraction of the shorter side.

    Frames whose requested place is still within a tenth of the shorter side of the start are left out: there the arm
    hides its own change. A plan without any change has distance 1.

    Args:
        frames: (F, 3, h, w), reduced.
        points: (F, paths, 2) requested places [px of these frames].
    """
    side = min(frames.shape[-2:])
    moved = changed(frames, frames[:1]).numpy()
    distances = []
    for t in range(1, len(frames)):
        ys, xs = np.nonzero(moved[t])
        for place, start in zip(points[t], points[0], strict=True):
            if math.dist(place, start) >= 0.1 * side:
                near = np.hypot(xs + 0.5 - place[0], ys + 0.5 - place[1]).min() / side if len(xs) else 1.0
                distances.append(min(float(near), 1.0))
    return float(np.median(distances)) if distances else 0.0


def judge(name: str, value: float) -> Check:
    """Verdict on the measured value of a check, by its rule in `RULES`."""
    rule = RULES[name]
    ok = value >= rule.threshold if rule.bound == "at least" else value <= rule.threshold
    text = (rule.good if ok else rule.bad).format(v=value)
    return Check(name, value, rule.threshold, ok, f"{text} ({rule.bound} {rule.threshold:g})", rule.bound)


def draw_report(frames: "torch.Tensor | np.ndarray", report: Report) -> np.ndarray:
    """Contact sheet: the frames in time order with their numbers, and the verdicts below.

    Args:
        frames: (F, h, w, 3), as for `diagnose`.
        report: what `diagnose` returned for them.

    Returns:
        (H, W, 3) float32 in [0, 1].
    """
    from .contact_sheet import draw_sheet

    lines = [(check.ok, f"{check.name}: {check.message}") for check in report.checks]
    return draw_sheet(to_rgb(frames).numpy(), lines)


def _pictures(frames: "torch.Tensor | np.ndarray") -> torch.Tensor:
    pictures = to_rgb(frames).permute(0, 3, 1, 2).cpu()
    if len(pictures) < 2 or min(pictures.shape[-2:]) < 8:
        raise ImageError(
            f"frames must be at least 2 pictures of at least 8 x 8 px, got shape {tuple(np.shape(frames))}"
        )
    return pictures


def _first(first_frame: "torch.Tensor | np.ndarray", pictures: torch.Tensor) -> torch.Tensor:
    first = to_rgb(first_frame).permute(0, 3, 1, 2).cpu()
    if first.shape[0] != 1 or first.shape[-2:] != pictures.shape[-2:]:
        height, width = pictures.shape[-2:]
        raise ImageError(
            f"first_frame must be one picture of the frames' size, {height} high x {width} wide, "
            f"got shape {tuple(np.shape(first_frame))}"
        )
    return first


def _points(points: "torch.Tensor | np.ndarray", count: int) -> np.ndarray:
    places = np.asarray(points, dtype=np.float64)
    places = places[:, None] if places.ndim == 2 else places
    if places.ndim != 3 or places.shape[0] != count or places.shape[2] != 2 or not np.isfinite(places).all():
        raise TrajectoryError(
            f"trajectory_points must be finite, of shape ({count}, 2) or ({count}, paths, 2), got {np.shape(points)}"
        )
    return places

"""Longer plans: several plans one after the other, each starting from a frame of the one before.

A plan of F frames passes its frame F - overlap to the next plan as first frame, so plan n (from 0) starts at frame
n * (F - overlap) of the joined sequence. With overlap 1 that is the last frame. A larger overlap starts before
the end, where plans are least reliable; of the frames that both plans have, the earlier plan's are dropped ("drop") or
both are blended ("crossfade").
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..errors import ChainError, brief
from ..grid.layout import whole_number
from ..trajectory.curves import resample_by
from ..trajectory.path import DrawnPath
from ..trajectory.trajectory import Trajectory
from .spec import PlannerSpec

JOINS = ("drop", "crossfade")
"drop: of the frames that two plans share, those of the later plan are shown; crossfade: both are blended."
AUTO, PATH_EACH, ONE_PATH = "auto", "a path for each plan", "cut in time"
PATH_USES = (AUTO, PATH_EACH, ONE_PATH)
"auto: as many paths as plans are assigned one to each, a single one is cut in time; a path for each plan: in "
"order; cut\nin time: the whole drawing runs from the start of the joined sequence to its end, and each plan gets "
"its part."
MAX_PLANS = 64
_SAME_TIME = 1e-9
"Points of a path closer in time than this to a cut snap to it."


@dataclass(frozen=True)
class PlanRequest:
    """Request for one plan of a chain.

    Args:
        mode: one of `prompts.MODES`.
        instruction: what the robot should do; empty in trajectory mode.
        trajectory: path for this plan alone, its times from 0 to 1 within the plan; None in text mode.
    """

    mode: str
    instruction: str
    trajectory: Trajectory | None


def requests_of(
    instructions: str,
    trajectory: Trajectory | None,
    plans: int,
    use: str,
    overlap: int,
    spec: PlannerSpec,
) -> tuple[PlanRequest, ...]:
    """Request for each plan of a chain.

    Args:
        instructions: one per line; empty lines do not count. A single one applies to all plans.
        trajectory: paths of all plans; see `PATH_USES`.
        plans: number of plans; 0: as many as instructions, and without any, as paths.
        use: one of `PATH_USES`.
        overlap: frames that a plan shares with the next one.
        spec: the planner's record: its frames, and what it can be asked.

    Raises:
        ChainError: nothing is asked for, numbers that do not match, or a mode that the planner was not trained in.
    """
    check_overlap(overlap, spec.layout.frames)
    lines = [line.strip() for line in instructions.splitlines() if line.strip()]
    if not lines and trajectory is None:
        raise ChainError("instructions must have at least one line (or a trajectory must be connected), got none")
    mode = "text" if trajectory is None else "both" if lines else "trajectory"
    if mode not in spec.modes:
        asked = {"text": "instructions alone", "trajectory": "a trajectory alone", "both": "instructions with a path"}
        raise ChainError(f"this planner was trained for mode {', '.join(spec.modes)}: it cannot take {asked[mode]}")
    count = plans or len(lines) or _plans_drawn(trajectory, use)
    if not 1 <= count <= MAX_PLANS:
        raise ChainError(f"plans must be 1 to {MAX_PLANS}, got {count}")
    if len(lines) not in (0, 1, count):
        raise ChainError(f"instructions must have one line, or one for each of {count} plans, got {len(lines)}")
    said = lines if len(lines) == count else [*lines, ""][:1] * count
    drawn = [None] * count if trajectory is None else share_paths(trajectory, count, spec.layout.frames, overlap, use)
    return tuple(PlanRequest(mode, *asked) for asked in zip(said, drawn, strict=True))


def share_paths(trajectory: Trajectory, count: int, frames: int, overlap: int, use: str) -> list[Trajectory]:
    """Give each of `count` plans of `frames` frames its part of a trajectory.

    Raises:
        ChainError: paths that do not fit the number of plans; unknown `use`.
    """
    if use not in PATH_USES:
        raise ChainError(f"paths must be one of {', '.join(PATH_USES)}, got {brief(use)}")
    drawn = len(trajectory.paths)
    if use == PATH_EACH or (use == AUTO and drawn == count):
        if drawn != count:
            raise ChainError(f"trajectory must have a path for each of {count} plans, got {drawn}: or cut it in time")
        return [Trajectory(trajectory.width, trajectory.height, (path,)) for path in trajectory.paths]
    if use == AUTO and drawn != 1:
        raise ChainError(f"trajectory must have 1 path or one for each of {count} plans, got {drawn}")
    last = joined_length(count, frames, overlap) - 1
    starts = [number * (frames - overlap) for number in range(count)]
    return [cut_in_time(trajectory, start / last, (start + frames - 1) / last) for start in starts]


def cut_in_time(trajectory: Trajectory, start: float, end: float) -> Trajectory:
    """The part of a trajectory between two times in [0, 1], with its times rescaled to 0 to 1.

    Before a path begins its point rests at the start, after the path is over at its end.
    """
    return Trajectory(
        trajectory.width, trajectory.height, tuple(_cut_path(path, start, end) for path in trajectory.paths)
    )


def _cut_path(path: DrawnPath, start: float, end: float) -> DrawnPath:
    points, times = path.polyline()
    inside = (times > start + _SAME_TIME) & (times < end - _SAME_TIME)
    wanted = np.concatenate([[start], times[inside], [end]])
    x, y = resample_by(times, wanted, points[:, 0], points[:, 1])
    moments = (wanted - start) / (end - start)
    return DrawnPath.from_array(np.column_stack([x, y, moments]).tolist(), path.name)


def _plans_drawn(trajectory: Trajectory | None, use: str) -> int:
    return len(trajectory.paths) if trajectory is not None and use != ONE_PATH else 1


def check_overlap(overlap: int, frames: int) -> int:
    """Return the overlap if plans of `frames` frames can have it.

    Raises:
        ChainError: it is less than 1, or leaves nothing of a plan.
    """
    if frames < 2:
        raise ChainError(f"plans must have at least 2 frames to be chained, got {frames}")
    if whole_number(overlap, "overlap", error=ChainError) >= frames:
        raise ChainError(f"overlap must be 1 to {frames - 1} for plans of {frames} frames, got {overlap}")
    return overlap


def joined_length(count: int, frames: int, overlap: int) -> int:
    """Number of frames of `count` joined plans."""
    return count * frames - (count - 1) * overlap


def frames_shown(number: int, count: int, frames: int, overlap: int, join: str) -> tuple[int, int]:
    """First and last frame of the joined sequence, counted from 1, that shows plan `number` (from 0)."""
    start = number * (frames - overlap)
    dropped = overlap - 1 if join == "drop" and number < count - 1 else 0
    return start + (2 if number else 1), start + frames - dropped


def join_plans(before: torch.Tensor, after: torch.Tensor, overlap: int = 1, join: str = "drop") -> torch.Tensor:
    """Join a plan to what came before it, without showing the shared frame twice.

    The shared frame is `before`'s: `after`'s is only a copy of it through the model.

    Args:
        before: (N, h, w, C), one plan or several joined ones.
        after: (F, h, w, C), the plan that started from frame N - overlap of `before`.
        overlap: frames that both have; 1: the last frame of `before` is the first one of `after`.
        join: one of `JOINS`.

    Returns:
        (N + F - overlap, h, w, C), same dtype and device.

    Raises:
        ChainError: frames of different sizes, an overlap out of range, or an unknown `join`.
    """
    if join not in JOINS:
        raise ChainError(f"join must be one of {', '.join(JOINS)}, got {brief(join)}")
    if before.ndim != 4 or after.ndim != 4 or before.shape[1:] != after.shape[1:]:
        sizes = (" x ".join(map(str, frames.shape[1:])) for frames in (before, after))
        raise ChainError("before and after must have frames of one size (h x w x C), got {} and {}".format(*sizes))
    check_overlap(overlap, min(len(before), len(after)))
    after = after.to(before)
    kept = before[: len(before) - overlap + 1]
    if join == "drop" or overlap == 1:
        return torch.cat([kept, after[1:]])
    share = torch.arange(1, overlap, dtype=before.dtype, device=before.device)[:, None, None, None] / overlap
    blended = (1.0 - share) * before[len(kept) :] + share * after[1:overlap]
    return torch.cat([kept, blended, after[overlap:]])

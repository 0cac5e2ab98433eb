"""Pictures and sequences for looking at a plan: with its trajectory, beside the truth, with its defects marked."""

import numpy as np
import torch
import torch.nn.functional as functional

from ..errors import ImageError
from ..grid.frame import to_rgb
from ..trajectory.overlay import draw_overlay
from ..trajectory.trajectory import Trajectory
from .defects import changed, ghosts, reduced, seam_excess
from .diagnostics import RULES

MARKS = {"ghosting": (1.0, 0.0, 1.0), "drift": (0.0, 1.0, 1.0), "seams": (1.0, 1.0, 0.0)}
"""Colour of each defect: ghosts magenta, drift of the first frame cyan, seams yellow."""
_GAP = 4  # between plan and truth [px]


def play_order(count: int, hold_first: int = 0, hold_last: int = 0, ping_pong: bool = False) -> list[int]:
    """Frame numbers in the order in which they are shown.

    Args:
        count: number of frames.
        hold_first: how many more times the first frame is shown.
        hold_last: how many more times the last frame is shown.
        ping_pong: continue backwards to the second frame, so that a loop runs back and forth.
    """
    order = [0] * hold_first + list(range(count)) + [count - 1] * hold_last
    return order + list(range(count - 2, 0, -1)) if ping_pong else order


def side_by_side(plan: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Plan (F, h, w, 3) left, truth right; the shorter one stays at its last frame.

    Raises:
        ImageError: frames of different sizes.
    """
    plan, truth = to_rgb(plan), to_rgb(truth)
    if plan.shape[1:] != truth.shape[1:]:
        raise ImageError(
            f"truth must have frames of the plan's size, {plan.shape[1]} high x {plan.shape[2]} wide, "
            f"got {truth.shape[1]} x {truth.shape[2]}"
        )
    count = max(len(plan), len(truth))
    left, right = (frames[[min(t, len(frames) - 1) for t in range(count)]] for frames in (plan, truth))
    return torch.cat([left, left.new_ones(count, left.shape[1], _GAP, 3), right], dim=2)


def with_trajectory(frames: torch.Tensor, trajectory: Trajectory) -> torch.Tensor:
    """Frames (F, h, w, 3) with the path on each."""
    frames = to_rgb(frames)
    fitted = trajectory.scaled(frames.shape[2], frames.shape[1])
    drawn = [draw_overlay(frame, fitted, thickness=1.0) for frame in frames.cpu().numpy()]
    return torch.from_numpy(np.stack(drawn))


def defect_masks(frames: torch.Tensor, first_frame: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Where the plan's defects are, by the rules of `diagnostics`: a mask (F, h, w) for each of `MARKS`.

    Args:
        frames: (F, h, w, 3), one plan in time order.
        first_frame: (1, h, w, 3), the given one, of the frames' size; None: the first cell cannot drift.
    """
    pictures = to_rgb(frames).permute(0, 3, 1, 2).cpu()
    small = reduced(pictures)
    first = None if first_frame is None else to_rgb(first_frame).permute(0, 3, 1, 2).cpu()
    drift = torch.zeros(small.shape[0], *small.shape[-2:], dtype=torch.bool)
    if first is not None:
        drift[0] = changed(small[:1], reduced(first))[0]
    seams = _seams(pictures, pictures[:1] if first is None else first)
    return {
        "ghosting": _enlarged(_ghosts(small), pictures.shape[-2:]),
        "drift": _enlarged(drift, pictures.shape[-2:]),
        "seams": seams,
    }


def mark_defects(frames: torch.Tensor, first_frame: torch.Tensor | None = None) -> torch.Tensor:
    """Frames (F, h, w, 3) with their defects in the colours of `MARKS`."""
    marked = to_rgb(frames).cpu().clone()
    for name, mask in defect_masks(frames, first_frame).items():
        color = torch.tensor(MARKS[name])
        marked[mask] = color if name == "seams" else 0.4 * marked[mask] + 0.6 * color
    return marked


def _ghosts(small: torch.Tensor) -> torch.Tensor:
    found = torch.zeros(small.shape[0], *small.shape[-2:], dtype=torch.bool)
    for t, groups in enumerate(ghosts(small), 1):
        found[t] = torch.stack([masks for masks, _ in groups]).any(dim=0)
    return found


def _seams(pictures: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """Lines of pixels near a cell's border whose step is too high."""
    columns, rows = (
        functional.pad(excess > RULES["seams"].threshold, (0, 1))  # a step lies between a line and the next
        for excess in seam_excess(pictures, first)
    )
    return columns[:, None, :] | rows[:, :, None]


def _enlarged(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return functional.interpolate(mask[:, None].float(), size=tuple(size), mode="nearest")[:, 0] > 0.5

"""Where the end effector's path comes from, for planners that follow a drawn path: one module per kind.

Each kind gives a trajectory in pixels of the source's own frames; its times are those of the chosen frames in the plan.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from visual_planner.planner.prompts import parts_of
from visual_planner.planner.spec import PlannerSpec
from visual_planner.trajectory.overlay import draw_overlay
from visual_planner.trajectory.trajectory import Trajectory

from ...errors import TrainingError
from ..sources import Entry, Source
from . import cvat, drawn, projected, recorded, tracked


class OverlayMaker(Protocol):
    """Returns the path of an episode."""

    of_whole: bool
    """Whether the path is that of the whole episode, whichever frames are chosen."""

    def __call__(self, source: Source, entry: Entry, chosen: np.ndarray, size: tuple[int, int]) -> Trajectory:
        """Trajectory on a frame.

        Args:
            source: the episode's source.
            entry: the episode.
            chosen: (K,) numbers of the chosen frames.
            size: (h, w) of the frame [px].
        """


_KINDS = {
    "recorded": recorded.RecordedPaths,
    "cameras": projected.ProjectedPaths,
    "tracked": tracked.TrackedPaths,
    "drawn": drawn.DrawnPaths,
    "cvat": cvat.CvatPaths,
}
_NEEDS = {
    "cameras": "a JSON file with camera matrices",
    "tracked": "a JSON file with one click per episode, or a folder of masks",
    "drawn": "a folder of trajectory JSON files, or JSON lines",
    "cvat": "an XML file, or a folder with one per episode",
}


def with_path(first: np.ndarray, trajectory: Trajectory | None, spec: PlannerSpec) -> np.ndarray:
    """First frame (h, w, 3) uint8 as a planner is shown it: the path drawn in its style, or none; a new array."""
    if trajectory is None:
        return first.copy()
    return draw_overlay(first, trajectory, spec.overlay, color_by=spec.overlay_color_by)


def shown_picture(
    mode: str, first: np.ndarray, trajectory: Trajectory | None, goal: np.ndarray, spec: PlannerSpec
) -> np.ndarray:
    """Picture that a planner is shown in a mode: the first frame, with the mode's path and goal.

    Args:
        mode: one of `prompts.MODES`.
        first: (h, w, 3) uint8.
        trajectory: path on the first frame; None: nothing is drawn.
        goal: (h, w, 3) uint8.
        spec: the planner, for the style of the path.

    Returns:
        (h, w, 3) uint8, or (h, 2w, 3) with the goal to the right, as `PlannerPipeline.condition` takes it.
    """
    parts = parts_of(mode)
    picture = with_path(first, trajectory if parts.path else None, spec)
    return np.concatenate([picture, goal], axis=1) if parts.goal else picture


def open_overlay(
    kind: str, source: Source, data: Path | None, states: str, modes: Sequence[str]
) -> OverlayMaker | None:
    """Open the overlay that supplies paths; None if no mode draws any, none is named and the source has none itself.

    Args:
        kind: as `prepare.overlay`.
        source: the episodes.
        data: as `prepare.overlay_data`.
        states: as `prepare.states`.
        modes: the planner's modes.

    Raises:
        TrainingError: a mode needs paths and there is nothing to take them from, or `data` is wrong.
    """
    drawn_modes = [mode for mode in modes if parts_of(mode).path]
    recorded = kind == "auto" and source.has_paths
    named = kind not in ("auto", "none")  # also without such modes: pairs say where the end effector is
    if source.ready_grids or not (drawn_modes or recorded or named):
        return None
    if kind == "auto":
        kind = "recorded" if recorded else "none"
    if kind == "none":
        raise TrainingError(
            f"modes {', '.join(drawn_modes)} need a path, but the source has none: choose prepare.overlay from "
            f"{', '.join(_KINDS)}, or spec.modes without them"
        )
    if kind in _NEEDS and (data is None or not data.exists()):
        raise TrainingError(f"prepare.overlay {kind} needs prepare.overlay_data: {_NEEDS[kind]}, got {data}")
    return _KINDS[kind](data, states)

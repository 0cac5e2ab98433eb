"""Requests in unseen scenes: a planner's input, and what a scripted demonstration really did there."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from visual_planner.execution.camera import View
from visual_planner.planner.spec import PlannerSpec
from visual_planner.trajectory.trajectory import Trajectory
from worlds.protocol import USUAL_VIEW, Request, Viewpoint, World

from ...data.overlays import shown_picture
from ...data.overlays.recorded import timed_trajectory


@dataclass(frozen=True)
class Asked:
    """One request in one scene.

    Args:
        request: scene, task and camera.
        seed: seed of its plans' noise; the scene's, unless the request is planned again.
        first: first frame (h, w, 3) uint8.
        trajectory: the demonstration's path in the first frame, with times.
        truth: frames of the demonstration (F, h, w, 3) uint8, as many as a plan has.
        keyframes: its end effector places [m] and gripper states (F, 4).
        spacing: one of `keyframe_choice.RULES`: how these and the frames of its plans are spaced.
    """

    request: Request
    seed: int
    first: np.ndarray
    trajectory: Trajectory
    truth: np.ndarray
    keyframes: np.ndarray
    spacing: str = ""

    @property
    def task(self) -> str:
        """The scene's task."""
        return self.request.task

    @property
    def instruction(self) -> str:
        """The task in words."""
        return self.request.instruction

    @property
    def view(self) -> View:
        """The camera in the read-out's form."""
        return self.request.view

    def places_norm(self, count: int) -> np.ndarray:
        """The drawn path at the times of `count` frames (count, 2), in fractions of the frame's sides."""
        height, width = self.first.shape[:2]
        return self.trajectory.resample(count)[:, 0] / (width, height)

    def later(
        self, first: np.ndarray, passed: float, tool_px: np.ndarray,
        bend: Callable[[np.ndarray], np.ndarray] = lambda path: path,
    ) -> "Asked":  # fmt: skip
        """The same request at a later moment: the rest of the path, from where the end effector is now.

        Args:
            first: picture of this moment (h, w, 3) uint8.
            passed: fraction of the path's time that is over, below 1.
            tool_px: place of the end effector in the picture (2,) [px].
            bend: changes the rest of the path (P, 2), in fractions of the frame's sides.
        """
        size = (first.shape[1], first.shape[0])
        points = np.array([(p.x, p.y, p.t) for p in self.trajectory.paths[0].points], float)
        rest = points[points[:, 2] > passed + 1e-6]
        places = np.concatenate([[tool_px], bend(rest[:, :2] / size) * size])
        times = np.concatenate([[0.0], (rest[:, 2] - passed) / (1.0 - passed)])
        left = timed_trajectory(places, times, first.shape[:2]).clipped("clamp")
        return replace(self, first=first, trajectory=left)


def draw(
    world: World,
    seed: int,
    task: str,
    wordings: str = "",
    viewpoint: Viewpoint = USUAL_VIEW,
    frames: int = 9,
    spacing: str = "",
    disturb: tuple[str, ...] = (),
    strength: float = 1.0,
) -> Asked:
    """The request of a seed, with its demonstration in `frames` frames; a demonstration that fails is not replaced.

    Disturbances (kinds and strength, see `World.disturbed`) happen in attempts at it, not in its demonstration.
    """
    request = world.draw(seed, task, wordings, viewpoint)
    return asked_of(world, world.disturbed(request, disturb, strength) if disturb else request, frames, spacing)


def asked_of(world: World, request: Request, frames: int = 9, spacing: str = "") -> Asked:
    """A request with its demonstration."""
    shown = world.demonstrate(request, frames, spacing)
    places, times = shown.path_px[:, :2], shown.path_px[:, 2]
    path = timed_trajectory(places, times, shown.frames.shape[1:3]).clipped("clamp")
    first = shown.frames[0] if request.disturbance is None else world.first_frame(request)
    return Asked(request, request.seed, first, path, shown.frames, shown.keyframes, spacing)


@dataclass(frozen=True)
class Wording:
    """How a request is put to the planner; the default is how it was trained.

    Args:
        template: put the instruction into the planner's sentence.
        overlay: draw the path, in the modes that have one.
        guidance: embedded guidance; None: the planner's own.
        instruction: replaces the request's own.
    """

    template: bool = True
    overlay: bool = True
    guidance: float | None = None
    instruction: str | None = None


def planner_input(asked: Asked, mode: str, spec: PlannerSpec, wording: Wording | None = None) -> tuple[np.ndarray, str]:
    """Picture for the planner (see `shown_picture`), and prompt; the goal is the demonstration's last frame."""
    wording = wording or Wording()
    words = asked.instruction if wording.instruction is None else wording.instruction
    picture = shown_picture(mode, asked.first, asked.trajectory if wording.overlay else None, asked.truth[-1], spec)
    return picture, spec.prompt(mode, words) if wording.template else words

"""Requests in unseen scenes: what a planner is given, and what a scripted demonstration really did there."""

from dataclasses import dataclass, replace

import numpy as np

from simulation.camera import FRONT, Camera
from simulation.episode import demonstrate
from simulation.motion import FRAMES
from simulation.scene import SceneSpec
from simulation.tasks import TASKS, Task
from simulation.world import World
from visual_planner.execution.camera import View
from visual_planner.planner.spec import PlannerSpec
from visual_planner.trajectory.trajectory import Trajectory

from ...data.overlays import with_path
from ...data.overlays.recorded import episode_trajectory, timed_trajectory


@dataclass(frozen=True)
class Asked:
    """One request in one scene.

    Args:
        seed: of the scene; the noise of its plans is drawn from it too.
        scene: objects, plate and start.
        task: what is to be done.
        instruction: the same in words.
        camera: that sees the scene.
        first: first frame (h, w, 3) uint8.
        trajectory: the demonstration's path in the first frame, with times.
        truth: frames of the demonstration (F, h, w, 3) uint8, as many as a plan has.
        keyframes: its tool places [m] and gripper states (F, 4).
    """

    seed: int
    scene: SceneSpec
    task: Task
    instruction: str
    camera: Camera
    first: np.ndarray
    trajectory: Trajectory
    truth: np.ndarray
    keyframes: np.ndarray

    @property
    def view(self) -> View:
        """The camera as the read-out takes it."""
        return View(self.camera.eye, self.camera.rays(*self.first.shape[:2]))

    def places_norm(self, count: int) -> np.ndarray:
        """The drawn path at the times of `count` frames (count, 2), in fractions of the frame's sides."""
        height, width = self.first.shape[:2]
        return self.trajectory.resample(count)[:, 0] / (width, height)

    def later(self, first: np.ndarray, passed: float, tool_px: np.ndarray) -> "Asked":
        """The same request seen later: what is left of the path, from where the end effector is now.

        Args:
            first: picture of this moment (h, w, 3) uint8.
            passed: fraction of the path's time that is over, below 1.
            tool_px: where the end effector is in it (2,) [px].
        """
        points = np.array([(p.x, p.y, p.t) for p in self.trajectory.paths[0].points], float)
        rest = points[points[:, 2] > passed + 1e-6]
        places = np.concatenate([[tool_px], rest[:, :2]])
        times = np.concatenate([[0.0], (rest[:, 2] - passed) / (1.0 - passed)])
        left = timed_trajectory(places, times, first.shape[:2]).clipped("clamp")
        return replace(self, first=first, trajectory=left)


def draw(
    world: World,
    seed: int,
    task: str,
    wordings: str,
    camera_jitter_m: float,
    frames: int = FRAMES,
    camera: Camera = FRONT,
) -> Asked:
    """The request of a seed, with its demonstration in so many frames; a demonstration that fails is not replaced.

    The camera is where it stands without jitter.
    """
    episode = demonstrate(world, seed, (task,), wordings, camera_jitter_m, frames, camera=camera)
    trajectory = episode_trajectory(episode.record(str(seed)), *episode.frames.shape[1:3])
    keyframes = np.concatenate([episode.tool_m, episode.gripper[:, None]], axis=1)
    return Asked(
        seed, episode.scene, episode.task, episode.instruction, episode.camera, episode.frames[0], trajectory,
        episode.frames, keyframes,
    )  # fmt: skip


def seeds_and_tasks(first_seed: int, scenes: int, tasks: tuple[str, ...] = TASKS) -> list[tuple[int, str]]:
    """Seeds that follow each other, tasks in turn."""
    return [(first_seed + number, tasks[number % len(tasks)]) for number in range(scenes)]


@dataclass(frozen=True)
class Wording:
    """How a request is put to the planner; the default is how it was trained.

    Args:
        template: put the instruction into the planner's sentence.
        overlay: draw the path, in the modes that have one.
        guidance: embedded guidance; None: the planner's own.
        instruction: said instead of the request's own.
    """

    template: bool = True
    overlay: bool = True
    guidance: float | None = None
    instruction: str | None = None


def planner_input(asked: Asked, mode: str, spec: PlannerSpec, wording: Wording | None = None) -> tuple[np.ndarray, str]:
    """First frame (h, w, 3) uint8, with its overlay where the mode has one, and prompt."""
    wording = wording or Wording()
    words = asked.instruction if wording.instruction is None else wording.instruction
    picture = with_path(asked.first, asked.trajectory if mode != "text" and wording.overlay else None, spec)
    return picture, spec.prompt(mode, words) if wording.template else words

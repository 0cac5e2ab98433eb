"""Execute a plan: keyframes of the end effector become actions, physics runs, and the task's check judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from .camera import Camera
from .disturbances import Event, Interference
from .errors import SimulationError
from .joint_trajectory import JointLimits, JointTrajectory, plan_actions
from .motion import FRAMES
from .scene import SceneSpec
from .tasks import Task, Trace, is_done
from .toolpath import steps_between, steps_between_each
from .world import World

# Where the arm may be sent (x, y, z) [m]; any lower, its fingertips would be pressed into the table.
WORKSPACE_M = ((0.22, 0.60), (-0.28, 0.28), (0.04, 0.34))
LIMITS = ("clamp", "error")


@dataclass(frozen=True)
class Execution:
    """Outcome of a plan.

    Attributes:
        success: whether the request was fulfilled.
        frames: pictures (F, H, W, 3) uint8 when the arm had completed each keyframe; (0,) without pictures.
        tool_m: where the tool was at these moments (F, 3) [m].
        objects_m: where the objects were at these moments (F, objects, 3) [m].
        moved_m: how far each object is from its start at the end (objects,) [m].
        tracking_error_m: mean distance of the tool from its keyframe, all but the first [m].
        start_error_m: distance of the plan's first keyframe from where the arm really started [m].
        clamped: how many keyframes were outside the workspace and were moved to its edge.
        actions: the joint trajectory that was executed.
    """

    success: bool
    frames: np.ndarray
    tool_m: np.ndarray
    objects_m: np.ndarray
    moved_m: np.ndarray
    tracking_error_m: float
    start_error_m: float
    clamped: int
    actions: JointTrajectory


def check_keyframes(keyframes, limit: str = "clamp", frames: int | None = FRAMES) -> tuple[np.ndarray, int]:
    """Check keyframes and bring them into the workspace.

    Args:
        keyframes: (frames, 4) numbers: x, y, z [m] and gripper [0 open, 1 closed].
        limit: what to do outside the workspace: "clamp" or "error".
        frames: how many keyframes there must be; None: two or more.

    Returns:
        Keyframes (frames, 4) float64, and how many of them were changed.

    Raises:
        SimulationError: wrong shape, NaN, or a keyframe out of the workspace with limit="error".
    """
    if limit not in LIMITS:
        raise SimulationError(f"limit must be one of {', '.join(LIMITS)}, got {limit!r}")
    try:
        values = np.array(keyframes, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SimulationError(
            f"keyframes must be numbers ({frames or 'F'}, 4): x, y, z in m and gripper 0..1; {error}"
        ) from error
    if values.ndim != 2 or values.shape[1] != 4 or len(values) < 2 or len(values) != (frames or len(values)):
        count = "F from 2" if frames is None else max(frames, 2)
        raise SimulationError(
            f"keyframes must have shape ({count}, 4): x, y, z in m and gripper 0..1, got {values.shape}"
        )
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(axis=1)))
        raise SimulationError(f"keyframes must be finite, got {values[row].tolist()} at keyframe {row}")
    low, high = np.array([*WORKSPACE_M, (0.0, 1.0)]).T
    limited = np.clip(values, low, high)
    outside = np.abs(limited - values).max(axis=1) > 1e-9
    if limit == "error" and outside.any():
        row = int(np.argmax(outside))
        raise SimulationError(
            f"keyframe {row} is out of reach: {values[row].round(3).tolist()}, must lie between "
            f"{low.tolist()} and {high.tolist()} (x, y, z in m, gripper)"
        )
    return limited, int(outside.sum())


class Rollout:
    """One attempt at a request: the scene is set up, then any number of plans are executed one after the other.

    Args:
        world: the table, with pictures or without.
        scene: the scene, from ``draw_task``.
        task: the request to judge by, from ``draw_task``.
        camera: the camera of the pictures (default: the unmoved one).
        limits: limits of the arm's joints (default: Kinova's).
        plan_frames: frames of a whole plan, from which the interval between its keyframes follows.
        spacing: "time": they are evenly spaced; "shape": as far apart in time as in space.
        events: what disturbs the attempt, by its name in ``disturbances.KINDS``.

    Attributes:
        steps: control steps since the start.
    """

    def __init__(
        self,
        world: World,
        scene: SceneSpec,
        task: Task,
        camera: Camera | None = None,
        limits: JointLimits | None = None,
        plan_frames: int = FRAMES,
        spacing: str = "time",
        events: Mapping[str, Event] | None = None,
    ) -> None:
        self.world, self.scene, self.task, self.limits = world, scene, task, limits
        self.plan_frames, self.by_shape = plan_frames, spacing == "shape"
        world.reset(scene, 0.0, camera)
        self.gripper, self.steps = 0.0, 0
        self.interference = Interference(world, scene, task, events) if events else None
        self._traces: list[Trace] = []

    def carry_out(
        self, keyframes: np.ndarray, watch: Callable[[int], bool] | None = None
    ) -> tuple[Trace, list[np.ndarray], JointTrajectory]:
        """Execute checked keyframes (F, 4), F >= 2; the first is replaced by the arm's actual place.

        Args:
            keyframes: the plan.
            watch: called with the number of a completed keyframe; True: stop there. The world must have pictures.

        Returns:
            The trace, the pictures when each keyframe was completed (none if the world has none), and the actions.
        """
        plan = np.array(keyframes, dtype=np.float64)
        plan[0] = (*self.world.tool(), self.gripper)
        spans = steps_between_each(plan, self.plan_frames, True) if self.by_shape else steps_between(self.plan_frames)
        actions = plan_actions(self.world.arm, plan, self.world.joints, self.limits, spans)
        number_of, before = {int(step): number for number, step in enumerate(actions.keyframe_steps)}, self.steps

        def stop(step: int) -> bool:
            self.steps = before + step
            return watch(number_of[step])

        trace, frames = self.world.follow(
            actions.commands(), actions.keyframe_steps, joints=True, disturb=self.interference,
            watch=None if watch is None else stop,
        )  # fmt: skip
        taken = len(trace.tool_m) - 1
        self.steps = before + taken
        self.gripper = float(plan[max(number for step, number in number_of.items() if step <= taken), 3])
        self._traces.append(trace)
        return trace, frames, actions

    @property
    def success(self) -> bool:
        """Whether the request is fulfilled, judged by everything that has happened so far; False if nothing has."""
        if not self._traces:
            return False
        tool = np.concatenate([trace.tool_m for trace in self._traces])
        objects = np.concatenate([trace.objects_m for trace in self._traces])
        if self.interference is None:
            return is_done(self.task, self.scene, Trace(tool, objects))
        scene = replace(self.scene, plate_m=tuple(self.interference.plate_m))
        return is_done(self.task, scene, Trace(tool, objects), self.interference.carried_m)


def execute(
    keyframes,
    scene: SceneSpec,
    task: Task,
    world: World | None = None,
    camera: Camera | None = None,
    limit: str = "clamp",
    joint_limits: JointLimits | None = None,
    plan_frames: int = FRAMES,
    spacing: str = "time",
) -> Execution:
    """Execute a plan in a scene and say whether the request was fulfilled.

    The arm starts where the scene says; the first keyframe only tells how far off the plan begins.

    Args:
        keyframes: (F, 4) numbers, F from 2: x, y, z [m] of the tool and gripper [0 open, 1 closed].
        scene: the scene, from ``draw_task``.
        task: the request to judge by, from ``draw_task``.
        world: a table to reuse, with pictures or without; None makes one without pictures.
        camera: the camera of the pictures (default: the unmoved one).
        limit: what to do with keyframes outside the workspace: "clamp" (counted in the result) or "error".
        joint_limits: limits of the arm's joints (default: Kinova's).
        plan_frames: frames of a whole plan, from which the interval between its keyframes follows.
        spacing: spacing of the keyframes, see ``Rollout``.

    Raises:
        SimulationError: bad keyframes.
    """
    plan, clamped = check_keyframes(keyframes, limit, None)
    if world is None:
        with World(size=None) as own:
            return execute(keyframes, scene, task, own, camera, limit, joint_limits, plan_frames, spacing)
    rollout = Rollout(world, scene, task, camera, joint_limits, plan_frames, spacing)
    start_error = float(np.linalg.norm(np.asarray(keyframes, dtype=np.float64)[0, :3] - world.tool()))
    trace, pictures, actions = rollout.carry_out(plan)
    done = list(actions.keyframe_steps)
    tool, objects = trace.tool_m[done], trace.objects_m[done]
    return Execution(
        success=rollout.success,
        frames=np.array(pictures),
        tool_m=tool,
        objects_m=objects,
        moved_m=np.linalg.norm(objects[-1] - objects[0], axis=-1),
        tracking_error_m=float(np.linalg.norm(tool[1:] - plan[1:, :3], axis=-1).mean()),
        start_error_m=start_error,
        clamped=clamped,
        actions=actions,
    )

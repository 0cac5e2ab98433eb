"""Execution of a plan: keyframes of the end effector become commands, physics answers, the task's check judges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .camera import Camera
from .errors import SimulationError
from .model import CONTROL_HZ
from .motion import FRAMES
from .scene import SceneSpec
from .tasks import Task, is_done
from .world import STEPS_PER_FRAME, World

# A grasp needs time, whatever the plan's rhythm: so long the arm waits while the gripper opens or closes [s].
GRIPPER_SECONDS = 0.4
_DWELL_STEPS = round(GRIPPER_SECONDS * CONTROL_HZ)
# Where the arm may be sent (x, y, z) [m]; lower, its fingertips would be pressed into the table.
WORKSPACE_M = ((0.22, 0.60), (-0.28, 0.28), (0.04, 0.34))
LIMITS = ("clamp", "error")


@dataclass(frozen=True)
class Execution:
    """What became of a plan.

    Attributes:
        success: whether the request was carried out.
        frames: pictures (9, H, W, 3) uint8 when the arm had done each keyframe; (0,) without pictures.
        tool_m: where the tool was then (9, 3) [m].
        objects_m: where the objects were then (9, objects, 3) [m].
        moved_m: how far each object is from its start at the end (objects,) [m].
        tracking_error_m: mean distance of the tool from its keyframe, frames 2 to 9 [m].
        start_error_m: distance of the plan's first keyframe from where the arm really started [m].
        clamped: how many keyframes were outside the workspace and were moved to its edge.
    """

    success: bool
    frames: np.ndarray
    tool_m: np.ndarray
    objects_m: np.ndarray
    moved_m: np.ndarray
    tracking_error_m: float
    start_error_m: float
    clamped: int


def check_keyframes(keyframes, limit: str = "clamp") -> tuple[np.ndarray, int]:
    """Check keyframes and bring them into the workspace.

    Args:
        keyframes: (9, 4) numbers: x, y, z [m] and gripper [0 open, 1 closed].
        limit: what to do outside the workspace: "clamp" or "error".

    Returns:
        keyframes (9, 4) float64, and how many of them were changed.

    Raises:
        SimulationError: wrong shape, NaN, or a keyframe out of the workspace with limit="error".
    """
    if limit not in LIMITS:
        raise SimulationError(f"limit must be one of {', '.join(LIMITS)}, got {limit!r}")
    try:
        values = np.array(keyframes, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SimulationError(f"keyframes must be numbers (9, 4): x, y, z in m and gripper 0..1; {error}") from error
    if values.shape != (FRAMES, 4):
        raise SimulationError(f"keyframes must have shape (9, 4): x, y, z in m and gripper 0..1, got {values.shape}")
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


def monotone_slopes(values: np.ndarray) -> np.ndarray:
    """Return slopes (N, C) for a cubic Hermite curve through rows (N, C) at unit steps that never overshoots.

    Formula: harmonic mean of the neighbouring differences, zero where they change sign (Fritsch and Butland, 1984);
    zero at both ends, where the arm rests.
    """
    before, after = np.diff(values, axis=0)[:-1], np.diff(values, axis=0)[1:]
    product = before * after
    total = before + after
    inner = np.where(product > 0, 2.0 * product / np.where(product > 0, total, 1.0), 0.0)
    rest = np.zeros((1, values.shape[1]))
    return np.concatenate([rest, inner, rest])


def commands(keyframes: np.ndarray) -> tuple[list[tuple[np.ndarray, float]], list[int]]:
    """Turn keyframes (9, 4) into commands, one a control step, and the steps at which each keyframe is done.

    Between keyframes the tool follows a monotone cubic curve. Where the gripper switches, the arm stands still for
    ``GRIPPER_SECONDS``: an opening hand lets go before it leaves, a closing hand closes after it has arrived.
    """
    places, gripper = keyframes[:, :3], keyframes[:, 3]
    closed = gripper >= 0.5
    slopes = monotone_slopes(places)
    switches = np.flatnonzero(closed[1:] != closed[:-1])
    for k in switches:  # the arm stands still there, so the curve must stop there
        slopes[k + 1 if closed[k + 1] else k] = 0.0
    steps: list[tuple[np.ndarray, float]] = []
    done = [0]
    for k in range(FRAMES - 1):
        switch, start, end = k in switches, gripper[k], gripper[k + 1]
        ramp = [float(start + (end - start) * min(1.0, 2 * (i + 1) / _DWELL_STEPS)) for i in range(_DWELL_STEPS)]
        if switch and not closed[k + 1]:
            steps += [(places[k], value) for value in ramp]
        for i in range(1, STEPS_PER_FRAME + 1):
            s = i / STEPS_PER_FRAME
            hold = (start if closed[k + 1] else end) if switch else start + s * (end - start)
            steps.append((_hermite(places[k], places[k + 1], slopes[k], slopes[k + 1], s), float(hold)))
        if switch and closed[k + 1]:
            steps += [(places[k + 1], value) for value in ramp]
        done.append(len(steps))
    return steps, done


def _hermite(a, b, slope_a, slope_b, s: float) -> np.ndarray:
    """Return the cubic Hermite curve from ``a`` to ``b`` at s in [0, 1]."""
    return (
        (1 + 2 * s) * (1 - s) ** 2 * a + s * (1 - s) ** 2 * slope_a + s**2 * (3 - 2 * s) * b + s**2 * (s - 1) * slope_b
    )


def execute(
    keyframes,
    scene: SceneSpec,
    task: Task,
    world: World | None = None,
    camera: Camera | None = None,
    limit: str = "clamp",
) -> Execution:
    """Carry out a plan in a scene and say whether the request was done.

    The arm starts where the scene says; the first keyframe only tells how far off the plan begins.

    Args:
        keyframes: (9, 4) numbers: x, y, z [m] of the tool and gripper [0 open, 1 closed].
        scene: the scene, from ``draw_task``.
        task: the request to judge by, from ``draw_task``.
        world: a table to use again, with pictures or without; None makes one without pictures.
        camera: the camera of the pictures (default: the unmoved one).
        limit: what to do with keyframes outside the workspace: "clamp" (counted in the answer) or "error".

    Raises:
        SimulationError: bad keyframes.
    """
    plan, clamped = check_keyframes(keyframes, limit)
    if world is None:
        with World(size=None) as own:
            return execute(keyframes, scene, task, own, camera, limit)
    world.reset(scene, 0.0, camera)
    start = world.tool()
    start_error = float(np.linalg.norm(np.asarray(keyframes, dtype=np.float64)[0, :3] - start))
    plan[0] = (*start, 0.0)
    steps, done = commands(plan)
    trace, frames = world.follow(steps, done)
    tool, objects = trace.tool_m[done], trace.objects_m[done]
    return Execution(
        success=is_done(task, scene, trace),
        frames=np.array(frames),
        tool_m=tool,
        objects_m=objects,
        moved_m=np.linalg.norm(objects[-1] - objects[0], axis=-1),
        tracking_error_m=float(np.linalg.norm(tool[1:] - plan[1:, :3], axis=-1).mean()),
        start_error_m=start_error,
        clamped=clamped,
    )

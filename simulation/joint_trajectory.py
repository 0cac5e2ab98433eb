"""Actions: keyframes of the tool -> a smooth trajectory of the arm's joints within limits, 50 samples per second."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from .errors import SimulationError, UnreachableError
from .kinematics import POINTING_DOWN, ArmKinematics
from .model import ARM_JOINTS, CONTROL_HZ
from .shared import brief
from .toolpath import STEPS_PER_FRAME, commands, hermite

FORMAT = "visual_planner.actions"
VERSION = 1
_DT = 1.0 / CONTROL_HZ
# The solver must be more accurate than execution needs: its remaining errors would look like acceleration.
_IK_ITERATIONS, _IK_TOLERANCE, _IK_FAILED = 40, 1e-6, 0.02
_ROUNDS = 8
_SMOOTH_STEPS = 9


@dataclass(frozen=True)
class JointLimits:
    """Limits of the joints.

    Attributes:
        velocity_rad_s: largest speed of each joint (6,) [rad/s]; Kinova's for the Jaco: 36 and 48 degrees/s.
        acceleration_rad_s2: largest acceleration of each joint (6,) [rad/s^2]; Kinova publishes none.
    """

    velocity_rad_s: tuple[float, ...] = tuple(np.radians([36.0] * 3 + [48.0] * 3).tolist())
    acceleration_rad_s2: tuple[float, ...] = (6.0,) * 6

    def __post_init__(self) -> None:
        for name in ("velocity_rad_s", "acceleration_rad_s2"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            if values.shape != (len(ARM_JOINTS),) or not (np.isfinite(values) & (values > 0)).all():
                raise SimulationError(
                    f"{name} must be {len(ARM_JOINTS)} positive numbers, got {brief(getattr(self, name))}"
                )


@dataclass(frozen=True)
class JointTrajectory:
    """Commands of the arm, one sample per control step (20 ms); sample 0 is where it stands.

    Attributes:
        joints_rad: arm joints (T, 6) [rad].
        gripper: gripper state (T,) [0 open, 1 closed].
        tool_m: resulting tool positions (T, 3) [m].
        keyframe_steps: sample at which each keyframe is completed.
        stretch: duration as a multiple of that in the plan's own rhythm (1: the limits did not matter).
    """

    joints_rad: np.ndarray
    gripper: np.ndarray
    tool_m: np.ndarray
    keyframe_steps: tuple[int, ...]
    stretch: float

    @property
    def times_s(self) -> np.ndarray:
        """Time of each sample (T,) [s]."""
        return np.arange(len(self.joints_rad)) * _DT

    def velocity(self) -> np.ndarray:
        """Joint velocities between samples (T - 1, 6) [rad/s]."""
        return _velocity(self.joints_rad)

    def acceleration(self) -> np.ndarray:
        """Joint accelerations (T, 6) [rad/s^2]; the arm rests before and after."""
        return _acceleration(self.joints_rad)

    def commands(self) -> list[tuple[np.ndarray, float]]:
        """Joints and gripper of every control step after the start."""
        return list(zip(self.joints_rad[1:], self.gripper[1:].tolist(), strict=True))

    def to_json(self, **more) -> str:
        """Return the trajectory as JSON; ``more`` is added to it, such as the instruction."""
        value = {
            "format": FORMAT,
            "version": VERSION,
            "control_hz": CONTROL_HZ,
            "joint_names": list(ARM_JOINTS),
            **more,
            "stretch": round(self.stretch, 4),
            "keyframe_times_s": [round(step * _DT, 3) for step in self.keyframe_steps],
            "joints_rad": self.joints_rad.round(5).tolist(),
            "gripper": self.gripper.round(4).tolist(),
            "tool_m": self.tool_m.round(5).tolist(),
        }
        return json.dumps(value)

    def to_csv(self) -> str:
        """Return the trajectory as CSV: time_s, the joints [rad], gripper, and the tool's x, y, z [m]."""
        names = ["time_s", *(f"{name}_rad" for name in ARM_JOINTS), "gripper", "tool_x_m", "tool_y_m", "tool_z_m"]
        columns = [self.times_s[:, None], self.joints_rad, self.gripper[:, None], self.tool_m]
        rows = [",".join(f"{value:.6g}" for value in row) for row in np.concatenate(columns, axis=1)]
        return "\n".join([",".join(names), *rows]) + "\n"


def _velocity(joints: np.ndarray) -> np.ndarray:
    return np.diff(joints, axis=0) / _DT


def _acceleration(joints: np.ndarray) -> np.ndarray:
    return np.diff(np.pad(_velocity(joints), ((1, 1), (0, 0))), axis=0) / _DT


def plan_actions(
    arm: ArmKinematics,
    keyframes: np.ndarray,
    start_rad: np.ndarray,
    limits: JointLimits | None = None,
    steps_per_frame: int | np.ndarray = STEPS_PER_FRAME,
) -> JointTrajectory:
    """Turn checked keyframes into a joint trajectory.

    The tool follows the path of ``toolpath.commands`` with the gripper pointing down. Where a joint would be too fast
    or would accelerate too hard, time is stretched around that place; the path stays the same.

    Args:
        arm: inverse kinematics.
        keyframes: (F, 4) x, y, z [m] and gripper [0..1]; the first is where the arm stands.
        start_rad: joints (6,) where it stands [rad].
        limits: limits of the joints.
        steps_per_frame: control steps from keyframe to keyframe in the plan's own rhythm, one number or (F - 1,).

    Raises:
        SimulationError: a place on the path cannot be reached.
    """
    limits = limits or JointLimits()
    steps, done = commands(keyframes, steps_per_frame)
    places = np.array([keyframes[0, :3], *(place for place, _ in steps)])
    gripper = np.array([keyframes[0, 3], *(state for _, state in steps)])
    joints = _inverse(arm, places, start_rad)
    at = _time_law(joints, limits)
    count = int(np.ceil(at[-1] / _DT - 1e-9))
    at *= count * _DT / at[-1]
    for _ in range(_ROUNDS):
        moments = np.arange(count + 1) * _DT
        sampled = _hermite_through(at, joints, moments)
        excess = _excess(sampled, limits)
        if excess <= 1.0:
            break
        # interpolation may overshoot a little, so the whole motion is slowed down by the remaining excess
        longer = int(np.ceil(count * excess)) + 1
        at *= longer / count
        count = longer
    return JointTrajectory(
        joints_rad=sampled,
        gripper=np.interp(moments, at, gripper),
        tool_m=np.array([arm.tool(row)[0] for row in sampled]),
        keyframe_steps=tuple(round(float(at[step]) / _DT) for step in done),
        stretch=count / max(1, len(steps)),
    )


def _inverse(arm: ArmKinematics, places: np.ndarray, start_rad: np.ndarray) -> np.ndarray:
    """Joints (T, 6) [rad] for tool places (T, 3) [m], each solved from the one before."""
    joints, known = [np.asarray(start_rad, dtype=np.float64)], places[0]
    for place in places[1:]:
        if np.array_equal(place, known):
            joints.append(joints[-1])
            continue
        solved, error = arm.solve(place, POINTING_DOWN, joints[-1], _IK_ITERATIONS, _IK_TOLERANCE)
        if error > _IK_FAILED:
            raise UnreachableError(f"the arm cannot reach {np.round(place, 3).tolist()} m on the plan's path")
        joints.append(solved)
        known = place
    return np.array(joints)


def _time_law(joints: np.ndarray, limits: JointLimits) -> np.ndarray:
    """Times (T,) [s] at which to pass samples that are 20 ms apart in the plan's own rhythm."""
    dilation = np.ones(len(joints) - 1)
    kernel = np.hanning(_SMOOTH_STEPS + 2)[1:-1]
    kernel /= kernel.sum()
    reach = _SMOOTH_STEPS // 2
    for _ in range(_ROUNDS):
        spans = _DT * dilation
        velocity = np.diff(joints, axis=0) / spans[:, None]
        padded = np.pad(velocity, ((1, 1), (0, 0)))
        between = np.concatenate([spans[:1], (spans[1:] + spans[:-1]) / 2, spans[-1:]])
        acceleration = np.diff(padded, axis=0) / between[:, None]
        fast = np.abs(velocity / np.asarray(limits.velocity_rad_s)).max(axis=1)
        hard = np.sqrt(np.abs(acceleration / np.asarray(limits.acceleration_rad_s2)).max(axis=1))
        needed = np.maximum(fast, np.maximum(hard[:-1], hard[1:]))
        if needed.max(initial=0.0) <= 1.0:
            break
        # smoothed, since a sudden change of pace would itself be an acceleration
        wide = np.pad(np.maximum(needed, 1.0), 2 * reach, mode="edge")
        highest = np.array([wide[i : i + 2 * reach + 1].max() for i in range(len(wide) - 2 * reach)])
        dilation = dilation * np.convolve(highest, kernel, mode="valid")
    return np.concatenate([[0.0], np.cumsum(_DT * dilation)])


def _hermite_through(at: np.ndarray, values: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Sample the cubic Hermite curve through ``values`` (T, C) at times ``at`` (T,) at ``moments`` (M,)."""
    slopes = np.gradient(values, at, axis=0)
    slopes[0] = slopes[-1] = 0.0
    left = np.clip(np.searchsorted(at, moments, side="right") - 1, 0, len(at) - 2)
    span = (at[left + 1] - at[left])[:, None]
    s = np.clip((moments[:, None] - at[left][:, None]) / span, 0.0, 1.0)
    return hermite(values[left], values[left + 1], span * slopes[left], span * slopes[left + 1], s)


def _excess(joints: np.ndarray, limits: JointLimits) -> float:
    """By how much the motion must be slowed down to keep the limits (1: not at all)."""
    fast = np.abs(_velocity(joints) / np.asarray(limits.velocity_rad_s)).max(initial=0.0)
    hard = np.abs(_acceleration(joints) / np.asarray(limits.acceleration_rad_s2)).max(initial=0.0)
    return float(max(1.0, fast, np.sqrt(hard)))

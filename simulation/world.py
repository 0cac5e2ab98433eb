"""A running table: model, data, arm control and recording of one episode."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from .camera import FRONT, Camera
from .engine import mujoco
from .errors import SimulationError
from .kinematics import HOME_RAD, POINTING_DOWN, ArmKinematics
from .model import (
    ARM_JOINTS,
    CONTROL_HZ,
    FINGER_CLOSED_RAD,
    FINGER_JOINTS,
    FINGER_OPEN_RAD,
    TIMESTEP_S,
    TOOL_SITE,
    load_model,
)
from .motion import FRAMES
from .render import FrameRenderer
from .scene import SceneSpec, apply_scene, move_plate, object_position, shift_object
from .tasks import Trace
from .toolpath import PLAN_STEPS, STEPS_PER_FRAME, frame_steps

SUBSTEPS = round(1 / (CONTROL_HZ * TIMESTEP_S))


def finger_angle(gripper: float) -> float:
    """Return the finger joints' command [rad] for a gripper state [0 open, 1 closed]."""
    return FINGER_OPEN_RAD + float(np.clip(gripper, 0.0, 1.0)) * (FINGER_CLOSED_RAD - FINGER_OPEN_RAD)


class World:
    """The table of one process; ``reset`` puts a scene on it.

    Args:
        size: height and width of a frame [px], or None for physics without pictures.
    """

    def __init__(self, size: int | None = 64) -> None:
        self.model = load_model()
        self.data = mujoco.MjData(self.model)
        self.arm = ArmKinematics(self.model)
        self.size = size
        self.camera = FRONT
        self.scene: SceneSpec | None = None
        self.renderer = FrameRenderer(self.model, size, size) if size else None
        self._arm_ctrl = np.array([self.model.actuator(name).id for name in ARM_JOINTS])
        self._finger_ctrl = np.array([self.model.actuator(name).id for name in FINGER_JOINTS])
        self._site = self.model.site(TOOL_SITE).id
        self._home = self.arm.solve(np.array([0.40, 0.0, 0.2]), POINTING_DOWN, HOME_RAD, iterations=200)[0]

    def close(self) -> None:
        """Free the OpenGL context."""
        if self.renderer is not None:
            self.renderer.close()
            self.renderer = None

    def __enter__(self) -> World:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def reset(self, scene: SceneSpec, gripper: float, camera: Camera | None = None) -> None:
        """Put the scene on the table and the arm at its start, with the gripper in a given state [0..1]."""
        self.scene, self.camera = scene, camera or FRONT
        apply_scene(self.model, self.data, scene)
        self.joints = self.place_arm(np.asarray(scene.start_m), finger_angle(gripper))
        self.data.ctrl[self._arm_ctrl] = self.joints
        self.data.ctrl[self._finger_ctrl] = finger_angle(gripper)
        mujoco.mj_forward(self.model, self.data)

    def place_arm(self, tool_m: np.ndarray, finger_rad: float) -> np.ndarray:
        """Set (not move) the arm so that the tool is at ``tool_m`` [m]; return its joints (6,) [rad]."""
        joints, error = self.arm.solve(tool_m, POINTING_DOWN, self._home, iterations=200)
        if error > 0.02:
            raise SimulationError(f"the arm cannot reach {np.round(tool_m, 3).tolist()} m")
        self.data.qpos[self.arm.qpos] = joints
        self.data.qpos[self.arm.finger_qpos] = finger_rad
        return joints

    def tool(self) -> np.ndarray:
        """Return the tool's position (3,) [m]."""
        return self.data.site_xpos[self._site].copy()

    def objects(self) -> np.ndarray:
        """Return the centres (objects, 3) [m] of the scene's objects."""
        return np.stack([object_position(self.data, slot) for slot in range(len(self.scene.objects))])

    def shift_object(self, slot: int, by_m: np.ndarray) -> None:
        """Move an object by (x, y) [m] along the table and leave it at rest."""
        shift_object(self.model, self.data, slot, by_m)

    def place_plate(self, plate_m: tuple[float, float]) -> None:
        """Move the plate's centre to (x, y) [m]."""
        move_plate(self.data, plate_m)

    def frame(self) -> np.ndarray:
        """Return the picture (size, size, 3) uint8 of the current moment."""
        if self.renderer is None:
            raise SimulationError("this world was created without rendering (size=None)")
        return self.renderer.render(self.data, self.camera)

    def command(self, tool_m: np.ndarray, gripper: float) -> None:
        """Send one control step: the tool's wanted position [m] and the gripper [0..1]; then let physics run 20 ms."""
        joints, _ = self.arm.solve(tool_m, POINTING_DOWN, self.joints, iterations=4, tolerance=1e-3)
        self.command_joints(joints, gripper)

    def command_joints(self, joints_rad: np.ndarray, gripper: float) -> None:
        """Send one control step: the arm's wanted joints (6,) [rad] and the gripper [0..1]; physics runs 20 ms."""
        self.joints = joints_rad
        self.data.ctrl[self._arm_ctrl] = self.joints
        self.data.ctrl[self._finger_ctrl] = finger_angle(gripper)
        mujoco.mj_step(self.model, self.data, SUBSTEPS)

    def run(
        self, motion_at: Callable[[float], tuple[np.ndarray, float]], steps: Iterable[int] | None = None
    ) -> tuple[Trace, list[np.ndarray]]:
        """Execute a motion.

        Args:
            motion_at: returns the tool's position (3,) [m] and the gripper [0..1] at a time in frames [0..8].
            steps: numbers of the control steps after which a picture is taken (0: before the first); default: those of
                nine frames.

        Returns:
            The trace at every control step, and the pictures (none if the world has no pictures).
        """
        commands = (motion_at(step / STEPS_PER_FRAME) for step in range(1, PLAN_STEPS + 1))
        return self.follow(commands, frame_steps(FRAMES) if steps is None else steps)

    def follow(
        self,
        commands: Iterable[tuple[np.ndarray, float]],
        picture_steps: Iterable[int],
        joints: bool = False,
        disturb: Callable[[np.ndarray, float], tuple[np.ndarray, float]] | None = None,
        watch: Callable[[int], bool] | None = None,
    ) -> tuple[Trace, list[np.ndarray]]:
        """Execute commands, one per control step (20 ms).

        Args:
            commands: tool positions (3,) [m] and gripper states [0..1].
            picture_steps: numbers of the control steps after which a picture is taken (0: before the first).
            joints: the commands give the arm's joints (6,) [rad] instead of the tool's position.
            disturb: called with each command; returns what is sent instead.
            watch: called with the number of each control step of `picture_steps` but the first; True: stop there.

        Returns:
            The trace before the first and after every control step, and the pictures (none if the world has none).
        """
        send = self.command_joints if joints else self.command
        pictured = {int(step) for step in picture_steps}
        tool, objects, frames = [self.tool()], [self.objects()], []
        if self.renderer is not None and 0 in pictured:
            frames.append(self.frame())
        for step, command in enumerate(commands, start=1):
            send(*(command if disturb is None else disturb(*command)))
            mujoco.mj_kinematics(self.model, self.data)
            tool.append(self.tool())
            objects.append(self.objects())
            if self.renderer is not None and step in pictured:
                mujoco.mj_forward(self.model, self.data)
                frames.append(self.frame())
                if watch is not None and watch(step):
                    break
        return Trace(np.array(tool), np.array(objects)), frames

"""Inverse kinematics of the arm: damped least squares on the tool's position and orientation."""

from __future__ import annotations

import numpy as np

from .engine import mujoco
from .model import ARM_JOINTS, FINGER_JOINTS, TOOL_SITE

# A good configuration (elbow up, gripper pointing down over the middle of the table), found once by random restarts.
HOME_RAD = np.array([0.147, 2.610, 4.899, 0.265, -0.996, -2.729])
# Tool frame when the gripper points down: z is down, and the fingers close along y (left-right in the picture).
POINTING_DOWN = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])


class ArmKinematics:
    """Solves for the arm's joints that put the tool at a position, end effector pointing down, at a fixed yaw.

    Args:
        model: the compiled model; its own scratch ``MjData`` is made, so no simulation is disturbed.
    """

    def __init__(self, model) -> None:
        self.model = model
        self.data = mujoco.MjData(model)
        self.site = model.site(TOOL_SITE).id
        self.qpos = np.array([model.joint(name).qposadr[0] for name in ARM_JOINTS])
        self.dofs = np.array([model.joint(name).dofadr[0] for name in ARM_JOINTS])
        self.finger_qpos = np.array([model.joint(name).qposadr[0] for name in FINGER_JOINTS])
        self._jacobian = np.zeros((6, model.nv))
        self._quat = np.zeros(4)
        self._rotation = np.zeros(3)

    def tool(self, joints_rad) -> tuple[np.ndarray, np.ndarray]:
        """Return the tool's position (3,) [m] and rotation matrix (3, 3) at arm joints (6,) [rad]."""
        self.data.qpos[self.qpos] = joints_rad
        mujoco.mj_kinematics(self.model, self.data)
        return self.data.site_xpos[self.site].copy(), self.data.site_xmat[self.site].reshape(3, 3).copy()

    def solve(self, position_m, rotation, start_rad, iterations: int = 60, tolerance: float = 2e-4):
        """Return joints (6,) [rad] near ``start_rad`` and the remaining error [m + rad].

        Args:
            position_m: target of the tool (3,) [m].
            rotation: target orientation (3, 3).
            start_rad: joints (6,) to start from.
            iterations: at most this many steps.
            tolerance: stop when the error is smaller [m + rad].
        """
        model, data = self.model, self.data
        joints = np.array(start_rad, dtype=np.float64)
        error = np.zeros(6)
        for _ in range(iterations):
            data.qpos[self.qpos] = joints
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            error[:3] = position_m - data.site_xpos[self.site]
            difference = rotation @ data.site_xmat[self.site].reshape(3, 3).T
            mujoco.mju_mat2Quat(self._quat, difference.ravel())
            mujoco.mju_quat2Vel(self._rotation, self._quat, 1.0)
            error[3:] = self._rotation
            size = float(np.linalg.norm(error))
            if size < tolerance:
                break
            mujoco.mj_jacSite(model, data, self._jacobian[:3], self._jacobian[3:], self.site)
            jacobian = self._jacobian[:, self.dofs]
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-4 * np.eye(6), error)
            joints += np.clip(step, -0.3, 0.3)
        return joints, size

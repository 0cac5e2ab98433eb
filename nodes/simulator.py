"""What the nodes of actions and ranking share: the read-out that comes with the plugin, and the simulator.

The simulator (MuJoCo) is an extra, and runs in a process of its own (`comfy.child`); it reports in one line when it is
missing.
"""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..visual_planner.execution.camera import View
from ..visual_planner.execution.keyframes import keyframes, on_path
from ..visual_planner.execution.readout import Reading, ReadoutNet, load_net, read_frames
from ..visual_planner.grid.frame import to_bytes
from .check import asked_of
from .comfy.child import child
from .comfy.safetensors_files import load_tensors, read_header

if TYPE_CHECKING:
    from ..visual_planner.trajectory.trajectory import Trajectory

READOUT_FILE = Path(__file__).resolve().parents[1] / "models" / "readout" / "readout.safetensors"
"""The read-out that comes with the plugin."""
FROM_SEED = "from the seed"
"""Choice of a task that is drawn from the seed."""
JACO = "jaco"
"""World that scenes are drawn in."""


@dataclass(frozen=True)
class Scene:
    """A request in a world, as it travels on a wire.

    Args:
        world: name of the world.
        seed: of the scene.
        task: name of the task.
        instruction: the task in words.
        view: the camera, for square pictures.
        own: what the world itself needs to set the scene up again.
    """

    world: str
    seed: int
    task: str
    instruction: str
    view: View
    own: bytes


def load_readout(path: Path | None = None) -> ReadoutNet:
    """The read-out network.

    Raises:
        ModelFileError: the file is missing or broken.
        ReadoutError: it holds something else.
    """
    path = path or READOUT_FILE
    header = read_header(path, "read-out")
    return load_net(load_tensors(path, "read-out"), header.metadata)


def read(frames: torch.Tensor, scene: Scene | None, net: ReadoutNet | None = None) -> Reading:
    """Read end effector and gripper off frames (F, h, w, 3), seen by the scene's camera; without a network: load it."""
    return read_frames(net or load_readout(), frames[..., :3], view_of(scene, *frames.shape[1:3]))


def read_on_path(frames: torch.Tensor, scene: Scene | None, trajectory: "Trajectory | None", fit: str) -> Reading:
    """The same by the read-out that comes with the plugin; with a drawn path, the gripper is kept on it in the picture.

    Raises:
        ImageError: the path's frame has another shape than the plan's and `fit` refuses that.
    """
    net = load_readout()
    reading = read(frames, scene, net)
    if trajectory is None:
        return reading
    height, width = frames.shape[1:3]
    _, places = asked_of(frames, fit, None, trajectory)
    return on_path(reading, places[:, 0] / (width, height), view_of(scene, height, width) or net.spec.view)


def view_of(scene: Scene | None, height: int, width: int) -> View | None:
    """The scene's camera for pictures of that size [px]; None: the read-out's own."""
    if scene is None or height == width:
        return None if scene is None else scene.view
    across, along, corner = np.asarray(scene.view.rays).T
    forward, across = corner + (across + along) / 2, across * width / height
    return View(scene.view.eye_m, np.stack([across, along, forward - (across + along) / 2], axis=-1))


def draw_scene(seed: int, task: str, wordings: str, camera_jitter: float, size: int) -> tuple[Scene, torch.Tensor]:
    """The request of a seed, and its first frame (1, size, size, 3) float32 in [0, 1].

    Raises:
        SimulatorError: MuJoCo is not installed, or cannot render here.
    """
    drawn = child.call(
        JACO, "draw", seed=seed, task="" if task == FROM_SEED else task, wordings=wordings,
        camera_jitter=camera_jitter, size=size,
    )  # fmt: skip
    view = View(drawn["eye_m"], drawn["rays"])
    scene = Scene(JACO, seed, drawn["task"], drawn["instruction"], view, drawn["own"])
    return scene, torch.from_numpy(drawn["frame"].astype(np.float32) / 255.0)[None]


def run_in(scene: Scene, reading: Reading, size: int | None, plan_frames: int) -> SimpleNamespace:
    """Execute what was read in the scene; with pictures of a size [px], or without.

    Args:
        scene: the request.
        reading: of the frames.
        size: of the pictures [px]; None: none.
        plan_frames: frames of a whole plan, which say how far apart in time they are.

    Returns:
        the fields of `simulation.execution.Execution`.

    Raises:
        SimulatorError: MuJoCo is not installed, or the plan has only one frame.
    """
    done = child.call(
        scene.world, "execute", request=scene.own, keyframes=keyframes(reading), size=size, plan_frames=plan_frames
    )
    return SimpleNamespace(**{**done, "actions": SimpleNamespace(**done["actions"])})


def trajectory_for(
    reading: Reading, scene: Scene | None, plan_frames: int, instruction: str = "", save: dict | None = None
) -> SimpleNamespace:
    """The arm's joint trajectory, from the scene's start, or else from where the plan's first frame shows the gripper.

    Args:
        reading: of the frames.
        scene: the request; None: none is known.
        plan_frames: frames of a whole plan, which say how far apart in time they are.
        instruction: the task, for the text and the files.
        save: from `to_save`; None: no files.

    Returns:
        the fields of `simulation.joint_trajectory.JointTrajectory`, `times_s`, `json`, and `files` that were written.

    Raises:
        SimulatorError: MuJoCo is not installed, a place cannot be reached, or a LeRobot episode is asked for and
            pyarrow or PyAV is not installed.
    """
    world, own = (JACO, None) if scene is None else (scene.world, scene.own)
    planned = child.call(
        world, "actions", request=own, keyframes=keyframes(reading), plan_frames=plan_frames, instruction=instruction,
        save=save,
    )  # fmt: skip
    return SimpleNamespace(**planned)


def to_save(frames: torch.Tensor, stem: Path, formats: str) -> dict:
    """What `trajectory_for` is to write: formats that are named in `formats` (json, csv, lerobot), under a stem."""
    return {"stem": str(stem), "formats": formats, "frames": to_bytes(frames[..., :3])}


def as_images(pictures: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """The simulator's pictures (F, h, w, 3) uint8 as ComfyUI's images (F, H, W, 3) of a size."""
    images = torch.from_numpy(pictures.astype(np.float32) / 255.0).permute(0, 3, 1, 2)
    return torch.nn.functional.interpolate(images, size=size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)


def beside(plan: torch.Tensor, executed: torch.Tensor) -> torch.Tensor:
    """The plan's frames and the execution's, of one size, side by side (F, h, 2 w, 3)."""
    return torch.cat([plan[..., :3].cpu(), executed], dim=2)


def reading_lines(reading: Reading) -> list[tuple[bool, str]]:
    """One line a frame: whether the read-out is rather sure, and what it says."""
    lines = []
    for number, ((x, y, z), closed) in enumerate(zip(reading.positions_m, reading.gripper, strict=True), start=1):
        state = f"{'closed' if closed >= 0.5 else 'open'} ({max(closed, 1 - closed):.0%})"
        sure = reading.confidence[number - 1]
        error = 1000 * reading.error_m[number - 1]
        lines.append(
            (bool(sure >= 0.5), f"frame {number}: x {x:.3f}  y {y:+.3f}  z {z:.3f} m, {error:.0f} mm, {state}")
        )
    return lines

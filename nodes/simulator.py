"""What the nodes of actions and ranking share: the read-out that comes with the plugin, and the simulator.

The simulator (MuJoCo) is an extra: it is imported when a node needs it, and reports in one line when it is missing.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..visual_planner.execution.camera import View
from ..visual_planner.execution.keyframes import keyframes, on_path
from ..visual_planner.execution.readout import Reading, ReadoutNet, load_net, read_frames
from ..visual_planner.grid.frame import to_bytes
from .check import asked_of
from .comfy.safetensors_files import load_tensors, read_header

if TYPE_CHECKING:
    from ..simulation.episode import Request
    from ..simulation.execution import Execution
    from ..visual_planner.trajectory.trajectory import Trajectory

READOUT_FILE = Path(__file__).resolve().parents[1] / "models" / "readout" / "readout.safetensors"
"""The read-out that comes with the plugin."""
FROM_SEED = "from the seed"
"""Choice of a task that is drawn from the seed."""


def load_readout(path: Path | None = None) -> ReadoutNet:
    """The read-out network.

    Raises:
        ModelFileError: the file is missing or broken.
        ReadoutError: it holds something else.
    """
    path = path or READOUT_FILE
    header = read_header(path, "read-out")
    return load_net(load_tensors(path, "read-out"), header.metadata)


def read(frames: torch.Tensor, scene: "Request | None", net: ReadoutNet | None = None) -> Reading:
    """Read end effector and gripper off frames (F, h, w, 3), seen by the scene's camera; without a network: load it."""
    return read_frames(net or load_readout(), frames[..., :3], view_of(scene, *frames.shape[1:3]))


def read_on_path(frames: torch.Tensor, scene: "Request | None", trajectory: "Trajectory | None", fit: str) -> Reading:
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


def view_of(scene: "Request | None", height: int, width: int) -> View | None:
    """The scene's camera for pictures of that size [px]; None: the read-out's own."""
    return None if scene is None else View(scene.camera.eye, scene.camera.rays(height, width))


def draw_scene(seed: int, task: str, wordings: str, camera_jitter: float, size: int) -> tuple["Request", torch.Tensor]:
    """The request of a seed, and its first frame (1, size, size, 3) float32 in [0, 1].

    Raises:
        SimulationError: MuJoCo is not installed, or cannot render here.
    """
    from ..simulation.episode import draw_request, first_frame
    from ..simulation.tasks import TASKS
    from ..simulation.world import World

    request = draw_request(seed, TASKS if task == FROM_SEED else (task,), wordings, camera_jitter)
    with World(size) as world:
        picture = first_frame(world, request)
    return request, torch.from_numpy(picture.astype(np.float32) / 255.0)[None]


def run_in(scene: "Request", reading: Reading, size: int | None, plan_frames: int) -> "Execution":
    """Execute what was read in the scene; with pictures of a size [px], or without.

    Args:
        scene: the request.
        reading: of the frames.
        size: of the pictures [px]; None: none.
        plan_frames: frames of a whole plan, which say how far apart in time they are.

    Raises:
        SimulationError: MuJoCo is not installed, or the plan has only one frame.
    """
    from ..simulation.execution import execute
    from ..simulation.world import World

    with World(size) as world:
        return execute(keyframes(reading), scene.scene, scene.task, world, scene.camera, plan_frames=plan_frames)


def trajectory_for(reading: Reading, scene: "Request | None", plan_frames: int):
    """The arm's joint trajectory, from the scene's start, or else from where the plan's first frame shows the gripper.

    Args:
        reading: of the frames.
        scene: the request; None: none is known.
        plan_frames: frames of a whole plan, which say how far apart in time they are.

    Raises:
        SimulationError: MuJoCo is not installed, or a place cannot be reached.
    """
    from ..simulation.execution import check_keyframes
    from ..simulation.joint_trajectory import plan_actions
    from ..simulation.scene import draw_scene as scene_of
    from ..simulation.scene import rng_for
    from ..simulation.toolpath import steps_between
    from ..simulation.world import World

    plan, _ = check_keyframes(keyframes(reading), frames=None)
    with World(None) as world:
        world.reset(scene_of(rng_for(0, "scene")) if scene is None else scene.scene, 0.0)
        start = world.joints
        if scene is None:
            start = world.place_arm(plan[0, :3], 0.0)
        else:
            plan[0] = (*world.tool(), 0.0)
        return plan_actions(world.arm, plan, start, steps_per_frame=steps_between(plan_frames))


def save_actions(actions, frames: torch.Tensor, stem: Path, formats: str, instruction: str) -> list[Path]:
    """Write the formats that are named in `formats` (json, csv, lerobot); returns the files.

    Raises:
        SimulationError: a LeRobot episode is asked for and pyarrow or PyAV is not installed.
    """
    from ..simulation.files import write_text
    from ..simulation.lerobot_episode import write_lerobot

    written = []
    for kind, text in (("json", lambda: actions.to_json(instruction=instruction)), ("csv", actions.to_csv)):
        if kind in formats:
            written.append(stem.with_name(f"{stem.name}.{kind}"))
            write_text(written[-1], text())
    if "lerobot" in formats:
        pictures = to_bytes(frames[..., :3])
        written.append(write_lerobot(stem.with_name(f"{stem.name}_lerobot"), actions, pictures, instruction))
    return written


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

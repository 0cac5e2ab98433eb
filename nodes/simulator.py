"""Shared code of the action and ranking nodes: the read-out that comes with the plugin, and the simulator.

The simulator (MuJoCo) is an extra and runs in its own process (`comfy.processes.child`); if it is missing, the error is
one line.
"""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..visual_planner.execution.camera import View
from ..visual_planner.execution.keyframe_choice import RULES
from ..visual_planner.execution.keyframes import keyframes, on_path
from ..visual_planner.execution.readout import Reading, ReadoutNet, load_net, read_frames
from ..visual_planner.execution.timing import shares_by_distance
from ..visual_planner.grid.frame import to_bytes
from ..visual_planner.planner.spec import PlannerSpec
from .check import asked_of
from .comfy.processes.child import child
from .comfy.safetensors_files import ModelFileError, load_tensors, read_header

if TYPE_CHECKING:
    from ..visual_planner.trajectory.trajectory import Trajectory

_MODELS = Path(__file__).resolve().parents[1] / "models"
READOUTS = {
    "jaco": _MODELS / "readout" / "readout.safetensors",
    "metaworld": _MODELS / "metaworld_readout" / "readout.safetensors",
}
"""The read-out of each world."""
TASKS = {
    "jaco": ("reach", "push", "pick", "place"),
    "metaworld": (
        "door-open", "door-close", "basketball", "shelf-place", "button-press", "button-press-topdown", "faucet-close",
        "faucet-open", "handle-press", "hammer", "assembly",
    ),
}  # fmt: skip
"""Worlds that scenes can be drawn in, and their tasks."""
CAMERAS = ("the world's first", "front", "corner", "corner2", "corner3")
LOOKS = ("plain", "shadows")
FROM_SEED = "from the seed"
"""Choice that draws the task from the seed."""
JACO = "jaco"
"""Default world."""


@dataclass(frozen=True)
class Scene:
    """A request in a world, as it travels on a wire.

    Args:
        world: name of the world.
        seed: seed of the scene.
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


def load_readout(world: str = JACO) -> ReadoutNet:
    """The read-out network of a world.

    Raises:
        ModelFileError: the file is missing or broken.
        ReadoutError: it holds something else.
    """
    path = READOUTS[world]
    if not path.is_file():
        raise ModelFileError(
            f"world {world} needs its read-out {path}, which does not exist: train it with "
            f"python -m training readout --world {world}, or copy the file there"
        )
    header = read_header(path, "read-out")
    return load_net(load_tensors(path, "read-out"), header.metadata)


def read(frames: torch.Tensor, scene: Scene | None, net: ReadoutNet | None = None) -> Reading:
    """Read end effector and gripper off frames (F, h, w, 3), seen by the scene's camera; None: load the network."""
    net = net or load_readout(world_of(scene))
    return read_frames(net, frames[..., :3], view_of(scene, *frames.shape[1:3]))


def read_on_path(frames: torch.Tensor, scene: Scene | None, trajectory: "Trajectory | None", fit: str) -> Reading:
    """`read` with the read-out that comes with the plugin; with a drawn path, the end effector is kept on it.

    Raises:
        ImageError: the path's frame has another shape than the plan's and `fit` refuses that.
    """
    net = load_readout(world_of(scene))
    reading = read(frames, scene, net)
    if trajectory is None:
        return reading
    height, width = frames.shape[1:3]
    _, places = asked_of(frames, fit, None, trajectory)
    return on_path(reading, places[:, 0] / (width, height), view_of(scene, height, width) or net.spec.view)


def view_of(scene: Scene | None, height: int, width: int) -> View | None:
    """The scene's camera for pictures of that size [px]; None: the read-out's own."""
    return None if scene is None else scene.view.shaped(height, width)


def world_of(scene: Scene | None) -> str:
    """Name of a scene's world; without a scene the Jaco's table."""
    return JACO if scene is None else scene.world


def spacing_of(spec: object) -> str:
    """Spacing of the frames of a planner's plans; evenly in time without a spec."""
    return spec.keyframes if isinstance(spec, PlannerSpec) else RULES[0]


def shown_for(reading: Reading, spacing: str) -> np.ndarray | None:
    """Fractions (F,) of a video's time for which each frame of a plan is shown; None: evenly."""
    return shares_by_distance(keyframes(reading)) if spacing == "shape" else None


def draw_scene(
    seed: int,
    task: str,
    wordings: str,
    camera_jitter: float,
    size: int,
    world: str = JACO,
    camera: str = CAMERAS[0],
    look: str = LOOKS[0],
) -> tuple[Scene, torch.Tensor]:
    """The request of a seed, and its first frame (1, size, size, 3) float32 in [0, 1].

    Raises:
        SimulatorError: MuJoCo is not installed, or cannot render here.
    """
    drawn = child.call(
        world, "draw", seed=seed, task="" if task == FROM_SEED else task, wordings=wordings,
        camera_jitter=camera_jitter, size=size, camera="" if camera == CAMERAS[0] else camera, look=look,
    )  # fmt: skip
    view = View(drawn["eye_m"], drawn["rays"])
    scene = Scene(world, seed, drawn["task"], drawn["instruction"], view, drawn["own"])
    return scene, torch.from_numpy(drawn["frame"].astype(np.float32) / 255.0)[None]


def run_in(
    scene: Scene, reading: Reading, size: int | None, plan_frames: int, spacing: str = RULES[0]
) -> SimpleNamespace:
    """Execute a reading in the scene, with pictures or without.

    Args:
        scene: the request.
        reading: reading of the frames.
        size: side of the pictures [px]; None: no pictures.
        plan_frames: frames of a whole plan, from which their interval in time follows.
        spacing: one of `keyframe_choice.RULES`, whether they are evenly spaced.

    Returns:
        The fields of `simulation.execution.Execution`; other worlds have no `actions`.

    Raises:
        SimulatorError: MuJoCo is not installed, or the plan has only one frame.
    """
    done = child.call(
        scene.world, "execute", request=scene.own, keyframes=keyframes(reading), size=size, plan_frames=plan_frames,
        spacing=spacing,
    )  # fmt: skip
    return SimpleNamespace(**{**done, "actions": done["actions"] and SimpleNamespace(**done["actions"])})


def trajectory_for(
    reading: Reading,
    scene: Scene | None,
    plan_frames: int,
    instruction: str = "",
    save: dict | None = None,
    spacing: str = RULES[0],
) -> SimpleNamespace:
    """The arm's joint trajectory, from the scene's start or, without a scene, from the gripper in the first frame.

    Args:
        reading: reading of the frames.
        scene: the request; None: unknown.
        plan_frames: frames of a whole plan, from which their interval in time follows.
        instruction: the task, for the text and the files.
        save: from `to_save`; None: no files.
        spacing: one of `keyframe_choice.RULES`, whether they are evenly spaced.

    Returns:
        The fields of `simulation.joint_trajectory.JointTrajectory`, `times_s`, `json`, and `files` that were written.

    Raises:
        SimulatorError: MuJoCo is not installed, a place cannot be reached, or a LeRobot episode is requested but
            pyarrow or PyAV is not installed.
    """
    world, own = (JACO, None) if scene is None else (scene.world, scene.own)
    planned = child.call(
        world, "actions", request=own, keyframes=keyframes(reading), plan_frames=plan_frames, instruction=instruction,
        save=save, spacing=spacing,
    )  # fmt: skip
    return SimpleNamespace(**planned)


def to_save(frames: torch.Tensor, stem: Path, formats: str) -> dict:
    """What `trajectory_for` should write: the formats named in `formats` (json, csv, lerobot), under a stem."""
    return {"stem": str(stem), "formats": formats, "frames": to_bytes(frames[..., :3])}


def as_images(pictures: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """The simulator's pictures (F, h, w, 3) uint8 as ComfyUI's images (F, H, W, 3) of a size."""
    images = torch.from_numpy(pictures.astype(np.float32) / 255.0).permute(0, 3, 1, 2)
    return torch.nn.functional.interpolate(images, size=size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)


def beside(plan: torch.Tensor, executed: torch.Tensor) -> torch.Tensor:
    """The plan's frames and the execution's, of one size, side by side (F, h, 2 w, 3)."""
    return torch.cat([plan[..., :3].cpu(), executed], dim=2)


def reading_lines(reading: Reading) -> list[tuple[bool, str]]:
    """One line per frame: whether the read-out is fairly sure, and what it reads."""
    lines = []
    for number, ((x, y, z), closed) in enumerate(zip(reading.positions_m, reading.gripper, strict=True), start=1):
        state = f"{'closed' if closed >= 0.5 else 'open'} ({max(closed, 1 - closed):.0%})"
        sure = reading.confidence[number - 1]
        error = 1000 * reading.error_m[number - 1]
        lines.append(
            (bool(sure >= 0.5), f"frame {number}: x {x:.3f}  y {y:+.3f}  z {z:.3f} m, {error:.0f} mm, {state}")
        )
    return lines


def report_of(scene: Scene, done: SimpleNamespace, reading: Reading) -> str:
    """Outcome of a plan in a scene, and its reading."""
    return "\n".join(
        [
            f"{'succeeded' if done.success else 'failed'}: {scene.instruction} ({scene.task}, seed {scene.seed})",
            f"tracking error of the tool {1000 * done.tracking_error_m:.0f} mm, start of the plan "
            f"{1000 * done.start_error_m:.0f} mm off, {done.clamped} keyframes out of reach",
            *(line for _, line in reading_lines(reading)),
        ]
    )

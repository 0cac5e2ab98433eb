"""Nodes from a plan to what an arm does: a simulated scene, actions for the arm, and execution in the simulator."""

import glob
from pathlib import Path

import torch
from comfy_api.latest import io

from ..visual_planner.checks.contact_sheet import draw_sheet
from ..visual_planner.trajectory.trajectory import Trajectory
from . import simulator, wires
from .pictures import pictures
from .wires import (
    FIT_OF_PLANNER,
    SceneType,
    TrajectoryType,
    fit_input,
    fit_of,
    fps_input,
    layout_of,
    look,
    schema,
    spec_input,
    video_of,
)

SAVE = ("nothing", "json", "json, csv", "json, csv, lerobot")


class VisualPlannerScene(io.ComfyNode):
    """A scene of the simulator, to plan in."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerScene",
            "Simulated Scene (Visual Planner)",
            "actions",
            description="Renders a scene of a simulated world from a seed: the first frame to plan from, and a request "
            "in words. World jaco is a table with a Jaco arm, objects and a plate (needs mujoco and dm_control); "
            "metaworld is Meta-World's Sawyer arm with eleven tasks (needs mujoco and metaworld).",
            search_aliases=["simulator", "mujoco", "robot scene"],
            is_output_node=True,
            inputs=[
                io.Int.Input(
                    "seed", default=9_000_000, min=0, max=2**48, control_after_generate=True,
                    tooltip="Selects the scene. Not used in training: seeds from 9000000 on in world jaco, 0 to 999 in "
                    "world metaworld.",
                ),
                io.Combo.Input(
                    "task", options=[simulator.FROM_SEED, *(task for of in simulator.TASKS.values() for task in of)],
                    default=simulator.FROM_SEED,
                    tooltip="The requested task, one of the world's: drawn from the seed, or always the same. The "
                    "first four are of world jaco, the others of metaworld.",
                ),
                io.Combo.Input(
                    "wordings", options=["held_out", "train", "all"], default="held_out",
                    tooltip="Phrasings of the request: those left out of training, those used in it, or any. In world "
                    "metaworld: any, or else the benchmark's sentence.",
                ),
                io.Float.Input(
                    "camera_jitter", default=0.0, min=0.0, max=0.2, step=0.005,
                    tooltip="Maximum random camera offset from its default position, in metres.",
                ),
                io.Int.Input(
                    "size", default=64, min=16, max=512, step=16, tooltip="Height and width of the frame in pixels."
                ),
                io.Combo.Input(
                    "world", optional=True, options=list(simulator.TASKS), default=simulator.JACO,
                    tooltip="The simulated world.",
                ),
                io.Combo.Input(
                    "camera", optional=True, options=list(simulator.CAMERAS), default=simulator.CAMERAS[0],
                    tooltip="Which of the world's cameras: front in world jaco; corner, corner2 or corner3 in "
                    "metaworld.",
                ),
                io.Combo.Input(
                    "look", optional=True, options=list(simulator.LOOKS), default=simulator.LOOKS[0],
                    tooltip="Rendering of world metaworld: plain, or shadows (slower).",
                ),
            ],
            outputs=[
                io.Image.Output("first_frame", display_name="first frame", tooltip="The scene before the arm moves."),
                io.String.Output(
                    "instruction", display_name="instruction", tooltip="The request in words, for Planner Prompt."
                ),
                SceneType.Output(
                    "scene", display_name="scene", tooltip="For Execute Plan, Plan to Actions and Rank Plans."
                ),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls,
        seed: int,
        task: str,
        wordings: str,
        camera_jitter: float,
        size: int,
        world: str = simulator.JACO,
        camera: str = simulator.CAMERAS[0],
        look: str = simulator.LOOKS[0],
    ) -> io.NodeOutput:
        """Draw the scene and render it."""
        request, frame = simulator.draw_scene(seed, task, wordings, camera_jitter, size, world, camera, look)
        words = f"{request.task}: {request.instruction}"
        return io.NodeOutput(frame, request.instruction, request, ui=wires.look(cls, frame, words))


def _path_input() -> io.Input:
    return TrajectoryType.Input(
        "trajectory", optional=True,
        tooltip="The drawn path. If connected, the gripper is kept on it, and the frames only determine its height "
        "and opening. If not connected, the gripper follows the frames alone.",
    )  # fmt: skip


class VisualPlannerPlanToActions(io.ComfyNode):
    """Turns a plan's frames into a joint trajectory."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerPlanToActions",
            "Plan to Actions (Visual Planner)",
            "actions",
            description="Estimates the position and the opening of the gripper in every frame, and computes a "
            "smooth joint trajectory within the arm's limits. For the simulated Jaco arm; another arm needs its own "
            "read-out.",
            search_aliases=["robot actions", "joint trajectory", "lerobot", "inverse kinematics"],
            is_output_node=True,
            inputs=[
                io.Image.Input("frames", tooltip="Frames of one plan in time order, from Slice Grid."),
                SceneType.Input(
                    "scene", optional=True,
                    tooltip="Start configuration of the arm, and the camera. If not connected: the arm starts where "
                    "the first frame shows it, and the camera is the one that the read-out was trained with.",
                ),
                io.String.Input(
                    "instruction", optional=True, default="",
                    tooltip="Written to the files as the episode's task. If empty: the scene's instruction.",
                ),
                io.Combo.Input(
                    "save", optional=True, options=list(SAVE), default=SAVE[0],
                    tooltip="Files to write to the output folder. A LeRobot episode needs pyarrow and PyAV.",
                ),
                io.String.Input(
                    "filename_prefix", optional=True, default="visual_planner/actions",
                    tooltip="Prefix of the file names; may include folders.",
                ),
                _path_input(),
                fit_input(optional=True),
                spec_input(),
            ],
            outputs=[
                io.String.Output(
                    "actions_json", display_name="actions",
                    tooltip="Joints, gripper and tool at 50 samples per second, as JSON.",
                ),
                io.String.Output("reading", display_name="read-out", tooltip="Values read from each frame."),
                io.Image.Output(
                    "picture", display_name="picture", tooltip="The frames with the values read from them."
                ),
            ],
        )  # fmt: skip

    @classmethod
    @pictures("frames", cpu=True)
    def execute(
        cls,
        frames,
        scene=None,
        instruction: str = "",
        save: str = SAVE[0],
        filename_prefix: str = "visual_planner/actions",
        trajectory: Trajectory | None = None,
        fit: str = FIT_OF_PLANNER,
        spec=None,
    ) -> io.NodeOutput:
        """Read, plan the joints, write."""  # fmt: skip
        reading = simulator.read_on_path(frames, scene, trajectory, fit_of(fit, spec))
        words = instruction or (scene.instruction if scene is not None else "")
        files = None if save == SAVE[0] else simulator.to_save(frames, _free_name(filename_prefix), save)
        spacing = simulator.spacing_of(spec)
        actions = simulator.trajectory_for(reading, scene, layout_of(spec).frames, words, files, spacing)
        lines = simulator.reading_lines(reading)
        picture = torch.from_numpy(draw_sheet(frames[..., :3].cpu().numpy(), lines))[None]
        text = "\n".join([*(line for _, line in lines), f"{actions.times_s[-1]:.1f} s", *actions.files])
        return io.NodeOutput(actions.json, text, picture, ui=look(cls, picture, text))


def _free_name(prefix: str) -> Path:
    """Next free numbered name, without suffix, in ComfyUI's output folder."""
    import folder_paths

    folder, name, number, _, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory())
    while any(Path(folder).glob(f"{glob.escape(name)}_{number:05}*")):
        number += 1
    return Path(folder) / f"{name}_{number:05}"


class VisualPlannerExecute(io.ComfyNode):
    """A plan executed in the simulator."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerExecute",
            "Execute Plan (Visual Planner)",
            "actions",
            description="Executes a plan in the simulator, in the scene that it was generated for, and reports "
            "whether the request was fulfilled. Equivalent to `python -m training evaluate --closed-loop` with the "
            "same seed.",
            search_aliases=["simulate", "rollout", "success", "closed loop"],
            is_output_node=True,
            inputs=[
                io.Image.Input("frames", tooltip="Frames of one plan in time order, from Slice Grid."),
                SceneType.Input(
                    "scene", tooltip="From Simulated Scene: the scene whose first frame the plan starts from."
                ),
                fps_input("Frame rate of the video."),
                _path_input(),
                fit_input(optional=True),
                spec_input(),
            ],
            outputs=[
                io.Boolean.Output("success", display_name="success", tooltip="True if the request was fulfilled."),
                io.Image.Output(
                    "side_by_side", display_name="plan | execution",
                    tooltip="Each frame of the plan next to the simulator's frame at that time.",
                ),
                io.Video.Output("video", display_name="video", tooltip="The same as a video, for Save Video."),
                io.String.Output(
                    "report", display_name="report",
                    tooltip="The request, its outcome, and the values read from the frames.",
                ),
                io.Image.Output(
                    "executed", display_name="execution", tooltip="The simulator's frames alone, for Keep Frames."
                ),
            ],
        )  # fmt: skip

    @classmethod
    @pictures("frames", cpu=True)
    def execute(
        cls,
        frames,
        scene,
        fps: float = 4.0,
        trajectory: Trajectory | None = None,
        fit: str = FIT_OF_PLANNER,
        spec=None,
    ) -> io.NodeOutput:
        """Read the plan, run it, show both."""
        reading = simulator.read_on_path(frames, scene, trajectory, fit_of(fit, spec))
        size, spacing = max(16, min(512, frames.shape[1])), simulator.spacing_of(spec)
        done = simulator.run_in(scene, reading, size, layout_of(spec).frames, spacing)
        executed = simulator.as_images(done.frames, frames.shape[1:3])
        both = simulator.beside(frames, executed)
        report = simulator.report_of(scene, done, reading)
        video = video_of(both, fps, simulator.shown_for(reading, spacing))
        return io.NodeOutput(done.success, both, video, report, executed, ui=look(cls, both, report))

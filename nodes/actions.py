"""Nodes from a plan to what an arm does: a simulated scene, actions for the arm, and execution in the simulator."""

from pathlib import Path

import torch
from comfy_api.latest import io

from ..visual_planner.checks.contact_sheet import draw_sheet
from ..visual_planner.trajectory.trajectory import Trajectory
from . import simulator
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
            description="A table with a Jaco arm, objects and a plate, drawn from a seed: its first frame to plan from "
            "and a request in words. Needs the simulation extra (mujoco, dm_control).",
            search_aliases=["simulator", "mujoco", "robot scene"],
            is_output_node=True,
            inputs=[
                io.Int.Input(
                    "seed", default=9_000_000, min=0, max=2**48, control_after_generate=True,
                    tooltip="Which scene. Scenes from 9000000 on were not used in training.",
                ),
                io.Combo.Input(
                    "task", options=[simulator.FROM_SEED, "reach", "push", "pick", "place"],
                    default=simulator.FROM_SEED, tooltip="What is asked for; drawn from the seed, or always the same.",
                ),
                io.Combo.Input(
                    "wordings", options=["held_out", "train", "all"], default="held_out",
                    tooltip="How it is said: in words that training left out, that it used, or any.",
                ),
                io.Float.Input(
                    "camera_jitter", default=0.0, min=0.0, max=0.2, step=0.005,
                    tooltip="How far the camera may stand from its usual place, in metres.",
                ),
                io.Int.Input(
                    "size", default=64, min=16, max=512, step=16, tooltip="Height and width of the frame in pixels."
                ),
            ],
            outputs=[
                io.Image.Output("first_frame", display_name="first frame", tooltip="The scene before the arm moves."),
                io.String.Output(
                    "instruction", display_name="instruction", tooltip="The request in words, for Planner Prompt."
                ),
                SceneType.Output("scene", display_name="scene", tooltip="For Execute, Plan to Actions and Rank Plans."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, seed: int, task: str, wordings: str, camera_jitter: float, size: int) -> io.NodeOutput:
        """Draw the scene and look at it."""
        request, frame = simulator.draw_scene(seed, task, wordings, camera_jitter, size)
        words = f"{request.task.name}: {request.instruction}"
        return io.NodeOutput(frame, request.instruction, request, ui=look(cls, frame, words))


def _path_input() -> io.Input:
    return TrajectoryType.Input(
        "trajectory", optional=True,
        tooltip="The drawn path. With it the hand is kept on the path, and the frames only say how high it is and "
        "what the gripper does; without it the hand goes where the frames show it.",
    )  # fmt: skip


class VisualPlannerPlanToActions(io.ComfyNode):
    """A plan's frames into a joint trajectory."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerPlanToActions",
            "Plan to Actions (Visual Planner)",
            "actions",
            description="Reads the hand's place and the gripper off every frame and makes a smooth joint trajectory "
            "within the arm's limits of it. For the simulated Jaco arm; another arm needs a read-out of its own.",
            search_aliases=["robot actions", "joint trajectory", "lerobot", "inverse kinematics"],
            is_output_node=True,
            inputs=[
                io.Image.Input("frames", tooltip="Frames of one plan in time order, from Slice Grid."),
                SceneType.Input(
                    "scene", optional=True,
                    tooltip="Where the arm starts and which camera looks. Without it: where the first frame shows it, "
                    "and the camera that the read-out was trained with.",
                ),
                io.String.Input(
                    "instruction", optional=True, default="", tooltip="Written into the files, as the episode's task."
                ),
                io.Combo.Input(
                    "save", optional=True, options=list(SAVE), default=SAVE[0],
                    tooltip="Files to write to the output folder. A LeRobot episode needs pyarrow and PyAV.",
                ),
                io.String.Input(
                    "filename_prefix", optional=True, default="visual_planner/actions",
                    tooltip="Start of the files' names, with folders if wanted.",
                ),
                _path_input(),
                fit_input(optional=True),
                spec_input(),
            ],
            outputs=[
                io.String.Output(
                    "actions_json", display_name="actions", tooltip="Joints, gripper and tool 50 times a second, JSON."
                ),
                io.String.Output("reading", display_name="read-out", tooltip="What was read off each frame."),
                io.Image.Output("picture", display_name="picture", tooltip="The frames with what was read off them."),
            ],
        )  # fmt: skip

    @classmethod
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
        actions = simulator.trajectory_for(reading, scene, layout_of(spec).frames)
        lines = simulator.reading_lines(reading)
        words = instruction or (scene.instruction if scene is not None else "")
        files = [] if save == SAVE[0] else simulator.save_actions(
            actions, frames, _free_name(filename_prefix), save, words
        )  # fmt: skip
        picture = torch.from_numpy(draw_sheet(frames[..., :3].cpu().numpy(), lines))[None]
        text = "\n".join([*(line for _, line in lines), f"{actions.times_s[-1]:.1f} s", *map(str, files)])
        return io.NodeOutput(actions.to_json(instruction=words), text, picture, ui=look(cls, picture, text))


def _free_name(prefix: str) -> Path:
    """Name without ending in ComfyUI's output folder, numbered on, that no file has yet."""
    import folder_paths

    folder, name, number, _, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory())
    while any(Path(folder).glob(f"{name}_{number:05}*")):
        number += 1
    return Path(folder) / f"{name}_{number:05}"


class VisualPlannerExecute(io.ComfyNode):
    """A plan carried out in the simulator."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerExecute",
            "Execute Plan (Visual Planner)",
            "actions",
            description="Carries a plan out in the simulator, from the scene that it was made for, and says whether "
            "the request was done. The same as `python -m training evaluate --closed-loop` does for the same seed.",
            search_aliases=["simulate", "rollout", "success", "closed loop"],
            is_output_node=True,
            inputs=[
                io.Image.Input("frames", tooltip="The nine frames of one plan in time order, from Slice Grid."),
                SceneType.Input("scene", tooltip="From Simulated Scene: the one whose first frame was planned from."),
                fps_input("Frames a second of the video."),
                _path_input(),
                fit_input(optional=True),
                spec_input(),
            ],
            outputs=[
                io.Boolean.Output("success", display_name="success", tooltip="True when the request was carried out."),
                io.Image.Output(
                    "side_by_side", display_name="plan | execution",
                    tooltip="Each frame of the plan beside what the simulator showed then.",
                ),
                io.Video.Output("video", display_name="video", tooltip="The same as a video, for Save Video."),
                io.String.Output("report", display_name="report", tooltip="What was asked, done and read."),
                io.Image.Output(
                    "executed", display_name="execution", tooltip="The simulator's frames alone, for Keep Frames."
                ),
            ],
        )  # fmt: skip

    @classmethod
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
        size = max(16, min(512, frames.shape[1]))
        done = simulator.run_in(scene, reading, size, layout_of(spec).frames)
        executed = simulator.as_images(done.frames, frames.shape[1:3])
        both = simulator.beside(frames, executed)
        report = "\n".join(
            [
                f"{'done' if done.success else 'not done'}: {scene.instruction} ({scene.task.name}, seed {scene.seed})",
                f"tool followed the plan to {1000 * done.tracking_error_m:.0f} mm, the plan started "
                f"{1000 * done.start_error_m:.0f} mm off, {done.clamped} keyframes were out of reach",
                *(line for _, line in simulator.reading_lines(reading)),
            ]
        )
        return io.NodeOutput(done.success, both, video_of(both, fps), report, executed, ui=look(cls, both, report))

"""Nodes of the trajectory: read one, and draw it on the first frame."""

import numpy as np
import torch
from comfy_api.latest import io

from ..visual_planner.grid.frame import fit_frame, to_rgb
from ..visual_planner.planner.spec import PlannerSpec
from ..visual_planner.trajectory.overlay import COLOR_BY, OVERLAY_STYLES, draw_overlay
from ..visual_planner.trajectory.parse import parse_trajectory
from ..visual_planner.trajectory.trajectory import Trajectory
from .pictures import pictures
from .wires import (
    FIT_OF_PLANNER,
    FROM_SPEC,
    PlannerSpecType,
    TrajectoryType,
    fit_input,
    fit_of,
    inside,
    look,
    outside_input,
    schema,
    trajectory_outputs,
    warn,
)

DEFAULT_TRAJECTORY = (
    '{"version": 1, "width": 640, "height": 480, "paths": [{"name": "gripper", "points": '
    '[{"x": 320, "y": 120}, {"x": 240, "y": 260}, {"x": 160, "y": 320}], "interpolation": "spline"}]}'
)


class VisualPlannerTrajectory(io.ComfyNode):
    """A trajectory from JSON text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerTrajectory",
            "Trajectory (Visual Planner)",
            "plan",
            description="Draw where the gripper goes, and when, on the first frame. The drawing is stored as JSON; "
            "tracks of other node packs are accepted as well.",
            search_aliases=["path", "spline", "track", "drag", "draw", "editor"],
            is_output_node=True,
            inputs=[
                io.String.Input(
                    "trajectory_json",
                    multiline=True,
                    default=DEFAULT_TRAJECTORY,
                    tooltip="Trajectory JSON v1 (see this node's help), or a list of points as other packs write it: "
                    '[{"x":12,"y":340},...]. Pixels of the first frame, origin at the top left; "t" from 0 to 1 is '
                    "optional.",
                ),
                io.Image.Input(
                    "first_frame",
                    optional=True,
                    tooltip="The image to draw on. Provides the frame size if the JSON does not. From Load Image it "
                    "appears in the editor immediately, from other nodes after a run.",
                ),
                outside_input(),
            ],
            outputs=trajectory_outputs(),
        )

    @classmethod
    @pictures("first_frame")
    def execute(cls, trajectory_json: str, outside: str = "error", first_frame=None) -> io.NodeOutput:
        """Read it, and pass the first frame to the editor, which draws on it."""
        height, width = first_frame.shape[1:3] if first_frame is not None else (None, None)
        trajectory = inside(parse_trajectory(trajectory_json, width, height), outside)
        shown = look(cls, text=_summary(trajectory))
        shown["trajectory_json"] = [trajectory_json]  # for the editor, which cannot see a linked text
        if first_frame is not None:
            shown["first_frame"] = look(cls, to_rgb(first_frame[:1]), enlarge=False)["images"]
        return io.NodeOutput(trajectory, trajectory.to_json(), ui=shown)


class VisualPlannerTrajectoryOverlay(io.ComfyNode):
    """A trajectory drawn on the first frame, as the planner was trained to read it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerTrajectoryOverlay",
            "Trajectory Overlay (Visual Planner)",
            "plan",
            description="Draws the trajectory on the first frame in the style that the planner was trained with. "
            "With a spec, the frame is first fitted to the size of a cell, as in training.",
            search_aliases=["draw trajectory", "draw path", "arrow"],
            is_output_node=True,
            inputs=[
                io.Image.Input("first_frame", tooltip="Image of the scene before the robot moves."),
                TrajectoryType.Input(
                    "trajectory", tooltip="Path to draw; scaled if it was drawn on an image of another size."
                ),
                PlannerSpecType.Input(
                    "spec",
                    optional=True,
                    tooltip="The planner's record, from Load Planner LoRA: style, colours and cell size.",
                ),
                io.Combo.Input(
                    "style",
                    options=[FROM_SPEC, *OVERLAY_STYLES],
                    default=FROM_SPEC,
                    tooltip="gradient: a line from red to blue; arrows_bridge, arrows_rt1: the arrows of the "
                    "published planners' data. If no spec is connected, 'from the spec' means gradient.",
                ),
                io.Combo.Input(
                    "color_by",
                    options=[FROM_SPEC, *COLOR_BY],
                    default=FROM_SPEC,
                    tooltip="What the gradient's colour encodes: time, or the path length (arc).",
                ),
                io.Float.Input(
                    "thickness",
                    default=0.0,
                    min=0.0,
                    max=64.0,
                    step=0.5,
                    tooltip="Line thickness in pixels; 0 chooses it by the frame size, as in training.",
                ),
                fit_input(),
            ],
            outputs=[
                io.Image.Output(
                    "image", display_name="first frame with path", tooltip="For the first frame input of Condition."
                ),
                TrajectoryType.Output(
                    "fitted", display_name="trajectory", tooltip="The trajectory in the pixels of that image."
                ),
            ],
        )

    @classmethod
    @pictures("first_frame", cpu=True)
    def execute(
        cls,
        first_frame,
        trajectory: Trajectory,
        style: str = FROM_SPEC,
        color_by: str = FROM_SPEC,
        thickness: float = 0.0,
        fit: str = FIT_OF_PLANNER,
        spec: PlannerSpec | None = None,
    ) -> io.NodeOutput:
        """Fit, then draw."""
        style, color_by, notes = _choose(style, color_by, spec)
        frame, fitted = _fit(first_frame, trajectory, spec, fit_of(fit, spec))
        image = _draw(frame, fitted, style, color_by, thickness or None)
        return io.NodeOutput(image, fitted, ui=look(cls, image, "\n".join(notes) or None))


def _choose(style: str, color_by: str, spec: PlannerSpec | None) -> tuple[str, str, list[str]]:
    """Style and colours to draw with, and notes if they are not those of the planner's training."""
    trained_style, trained_color = (spec.overlay, spec.overlay_color_by) if spec else ("gradient", "time")
    style = trained_style if style == FROM_SPEC else style
    color_by = trained_color if color_by == FROM_SPEC else color_by
    notes = []
    if spec is not None and not spec.has_path:
        notes.append(warn(f"this planner was trained for {', '.join(spec.modes)} plans, without drawn trajectories"))
    if spec is not None and style != spec.overlay:
        notes.append(warn(f"this planner was trained with overlay {spec.overlay}, not {style}"))
    if spec is not None and style == "gradient" and color_by != spec.overlay_color_by:
        notes.append(warn(f"this planner was trained with colours by {spec.overlay_color_by}, not by {color_by}"))
    return style, color_by, notes


def _fit(image, trajectory: Trajectory, spec: PlannerSpec | None, fit: str) -> tuple[torch.Tensor, Trajectory]:
    """Frame (B, h, w, 3) and trajectory in the pixels in which they are drawn: the cell's, if there is a spec."""
    frame = to_rgb(image)
    height, width = frame.shape[1:3]
    trajectory = trajectory.scaled(width, height)
    if spec is None or (height, width) == (spec.cell_height, spec.cell_width):
        return frame, trajectory
    fitted = trajectory.fitted(spec.cell_height, spec.cell_width, fit)
    return fit_frame(frame, spec.cell_height, spec.cell_width, fit), fitted


def _draw(frames, trajectory: Trajectory, style: str, color_by: str, thickness: float | None = None) -> torch.Tensor:
    """Frames (B, h, w, 3) with the trajectory on each."""
    trajectory = trajectory.scaled(frames.shape[2], frames.shape[1])
    drawn = [
        draw_overlay(frame, trajectory, style=style, color_by=color_by, thickness=thickness)
        for frame in to_rgb(frames).cpu().numpy()
    ]
    return torch.from_numpy(np.stack(drawn))


def _summary(trajectory: Trajectory) -> str:
    """One line per path."""
    size = f"{trajectory.width} x {trajectory.height} px"
    return "\n".join(
        f"{path.name}: {len(path.points)} points, {path.length:.0f} px long, frame of {size}"
        for path in trajectory.paths
    )

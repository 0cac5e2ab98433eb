"""Node for looking at a plan."""

import torch
from comfy_api.latest import io

from ..visual_planner.checks.contact_sheet import draw_sheet
from ..visual_planner.checks.display import mark_defects, play_order, side_by_side, with_trajectory
from ..visual_planner.grid.frame import fit_frame, to_rgb
from ..visual_planner.trajectory.trajectory import Trajectory
from .pictures import pictures
from .wires import TrajectoryType, fit_input, fit_of, fps_input, look, schema, spec_input, video_of


class VisualPlannerLook(io.ComfyNode):
    """A plan as a contact sheet and as a video."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerLook",
            "Look at Plan (Visual Planner)",
            "plan",
            description="Shows a plan in time order as a contact sheet and a video: with its trajectory, next to "
            "the ground truth, with seams, ghosts and drift marked.",
            search_aliases=["contact sheet", "side by side", "compare", "ping pong", "video"],
            is_output_node=True,
            inputs=[
                io.Image.Input("frames", tooltip="Frames of one plan in time order, from Slice Grid."),
                fps_input("Frame rate of the video."),
                io.Int.Input(
                    "hold_first", default=0, min=0, max=999, tooltip="How many extra times the first frame is shown."
                ),
                io.Int.Input(
                    "hold_last", default=2, min=0, max=999, tooltip="How many extra times the last frame is shown."
                ),
                io.Boolean.Input(
                    "ping_pong", default=False, tooltip="Append the frames in reverse, for a back-and-forth loop."
                ),
                io.Boolean.Input(
                    "defects",
                    default=False,
                    tooltip="Mark what Check Plan finds: ghosts magenta, seams yellow, drift of the first frame cyan.",
                ),
                fit_input(),
                io.Image.Input("truth", optional=True, tooltip="Ground-truth frames, shown to the right of the plan."),
                TrajectoryType.Input("trajectory", optional=True, tooltip="The requested path, drawn on the plan."),
                io.Image.Input(
                    "first_frame",
                    optional=True,
                    tooltip="The given first frame, to measure the drift of the plan's own.",
                ),
                spec_input(),
            ],
            outputs=[
                io.Image.Output("sheet", display_name="sheet", tooltip="All numbered frames in one image."),
                io.Video.Output("video", display_name="video", tooltip="The frames as a video, for Save Video."),
                io.Image.Output("shown", display_name="frames", tooltip="The frames of the video."),
            ],
        )

    @classmethod
    @pictures("frames", "truth", "first_frame", cpu=True)
    def execute(
        cls,
        frames,
        fps: float,
        hold_first: int,
        hold_last: int,
        ping_pong: bool,
        defects: bool,
        fit: str,
        truth=None,
        trajectory: Trajectory | None = None,
        first_frame=None,
        spec=None,
    ) -> io.NodeOutput:
        """Draw, join and order."""
        shown = _drawn(frames, defects, fit_of(fit, spec), truth, trajectory, first_frame)
        sheet = torch.from_numpy(draw_sheet(shown.numpy(), []))[None]
        played = shown[play_order(len(shown), hold_first, hold_last, ping_pong)]
        return io.NodeOutput(sheet, video_of(played, fps), played, ui=look(cls, sheet))


def _drawn(frames, defects: bool, fit: str, truth, trajectory: Trajectory | None, first_frame) -> torch.Tensor:
    """Frames (F, h, w, 3) of the plan with everything that is to be drawn on them."""
    height, width = frames.shape[1:3]
    shown = to_rgb(frames).cpu()
    if defects:
        first = None if first_frame is None else fit_frame(first_frame[:1], height, width, fit)
        shown = mark_defects(shown, first)
    if trajectory is not None:
        shown = with_trajectory(shown, trajectory.fitted(height, width, fit))
    return shown if truth is None else side_by_side(shown, fit_frame(truth, height, width, fit).cpu())

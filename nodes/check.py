"""Node of the diagnostics."""

import torch
from comfy_api.latest import io

from ..visual_planner.checks.diagnostics import diagnose, draw_report
from ..visual_planner.grid.frame import fit_frame
from ..visual_planner.trajectory.trajectory import Trajectory
from .pictures import pictures
from .wires import FIT_OF_PLANNER, TrajectoryType, fit_input, fit_of, look, schema, spec_input


class VisualPlannerCheck(io.ComfyNode):
    """Checks whether a plan looks sound."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerCheck",
            "Check Plan (Visual Planner)",
            "plan",
            description="Measures the known failure modes of plans: no motion, ghost arms, seams between cells, a "
            "first frame that drifts from the given one. Reports values, thresholds and an image; it cannot tell "
            "whether the task succeeds.",
            search_aliases=["diagnostics", "plan quality", "ghosting"],
            is_output_node=True,
            inputs=[
                io.Image.Input("frames", tooltip="Frames of one plan in time order, from Slice Grid."),
                io.Image.Input(
                    "first_frame",
                    optional=True,
                    tooltip="The first frame that the plan was generated from, to measure how far the plan's first "
                    "frame drifted from it.",
                ),
                TrajectoryType.Input("trajectory", optional=True, tooltip="The requested path."),
                fit_input(),
                spec_input(),
            ],
            outputs=[
                io.String.Output(
                    "report", display_name="report", tooltip="One line per check: verdict, value, threshold."
                ),
                io.Image.Output("picture", display_name="picture", tooltip="The frames with the measured values."),
                io.Boolean.Output("sound", display_name="all good", tooltip="True if every check passed."),
            ],
        )

    @classmethod
    @pictures("frames", "first_frame", cpu=True)
    def execute(
        cls, frames, fit: str = FIT_OF_PLANNER, first_frame=None, trajectory: Trajectory | None = None, spec=None
    ) -> io.NodeOutput:
        """Measure and draw."""
        first, places = asked_of(frames, fit_of(fit, spec), first_frame, trajectory)
        report = diagnose(frames, first, places)
        picture = torch.from_numpy(draw_report(frames, report))[None]
        return io.NodeOutput(report.text(), picture, report.ok, ui=look(cls, picture, report.text()))


def asked_of(frames, fit: str, first_frame, trajectory: Trajectory | None) -> tuple:
    """First frame (1, h, w, 3) and places (F, paths, 2) [px] in the plan's frames; each None if not given."""
    count, height, width = frames.shape[:3]
    first = None if first_frame is None else fit_frame(first_frame[:1], height, width, fit)
    if trajectory is None:
        return first, None
    return first, trajectory.fitted(height, width, fit).resample(count)

"""Node that ranks several plans for one request by their looks."""

import torch
from comfy_api.latest import io

from ..visual_planner.errors import ImageError
from ..visual_planner.execution.judging import judge
from ..visual_planner.execution.ranking import Score, compare, order_of
from ..visual_planner.execution.readout import Reading, ReadoutNet
from ..visual_planner.grid.layout import GridLayout
from ..visual_planner.planner.spec import PlannerSpec
from ..visual_planner.trajectory.trajectory import Trajectory
from . import simulator
from .check import asked_of
from .pictures import pictures
from .wires import FIT_OF_PLANNER, SceneType, TrajectoryType, fit_input, fit_of, layout_input, layout_of, look, schema

GAP_PX = 4
"""White rows between two plans in the picture [px]."""


class VisualPlannerRank(io.ComfyNode):
    """The best-looking of several plans."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerRank",
            "Rank Plans (Visual Planner)",
            "plan",
            description="Scores several plans for one request by their frames (drawn path, checks, read-out, "
            "agreement) and sorts them, best first. The plans are not executed.",
            search_aliases=["best of n", "score plans", "choose plan"],
            is_output_node=True,
            inputs=[
                io.Image.Input(
                    "frames",
                    tooltip="Frames of all plans, one plan after another, from Slice Grid. Set plans in Condition.",
                ),
                layout_input(
                    "Planner spec or grid layout, which defines the number of frames per plan. If not connected: nine."
                ),
                io.Image.Input(
                    "first_frame", optional=True,
                    tooltip="The first frame that the plans were generated from, without a drawn path.",
                ),
                TrajectoryType.Input("trajectory", optional=True, tooltip="The requested path."),
                SceneType.Input("scene", optional=True, tooltip="Simulated scene, used for its camera only."),
                fit_input(),
            ],
            outputs=[
                io.Image.Output("best", display_name="best", tooltip="Frames of the plan with the highest score."),
                io.Image.Output("ranked", display_name="ranked", tooltip="Frames of all plans, the best plan first."),
                io.String.Output(
                    "order", display_name="order", tooltip="One line per plan, best first: number and scores."
                ),
                io.Image.Output("picture", display_name="picture", tooltip="The plans stacked vertically, best first."),
            ],
        )  # fmt: skip

    @classmethod
    @pictures("frames", "first_frame", cpu=True)
    def execute(
        cls,
        frames,
        layout: GridLayout | PlannerSpec | None = None,
        first_frame=None,
        trajectory: Trajectory | None = None,
        scene=None,
        fit: str = FIT_OF_PLANNER,
    ) -> io.NodeOutput:
        """Score each plan, sort them."""  # fmt: skip
        plans = split_plans(frames, layout_of(layout).frames)
        net = simulator.load_readout(simulator.world_of(scene))
        looked = [score(plan, fit_of(fit, layout), first_frame, trajectory, scene, net) for plan in plans]
        scores = compare([alone for alone, _ in looked], [reading for _, reading in looked])
        order = order_of(scores)
        lines = [f"plan {number + 1}: {scores[number].text()}" for number in order]
        ranked = torch.cat([plans[number] for number in order])
        sheet = stack([plans[number] for number in order])
        return io.NodeOutput(plans[order[0]], ranked, "\n".join(lines), sheet, ui=look(cls, sheet, "\n".join(lines)))


def split_plans(frames: torch.Tensor, count: int) -> list[torch.Tensor]:
    """Split consecutive frames into plans (count, h, w, 3).

    Raises:
        ImageError: the frames do not divide.
    """
    if len(frames) % count or not len(frames):
        raise ImageError(f"frames must be whole plans of {count} frames each, got {len(frames)} frames")
    return list(frames[..., :3].split(count))


def score(
    frames: torch.Tensor, fit: str, first_frame, trajectory: Trajectory | None, scene, net: ReadoutNet
) -> tuple[Score, Reading]:
    """Score of one plan (F, h, w, 3) by itself, and its reading."""
    reading = simulator.read(frames, scene, net)
    _, alone = judge(frames, reading, *asked_of(frames, fit, first_frame, trajectory))
    return alone, reading


def stack(plans: list[torch.Tensor]) -> torch.Tensor:
    """Picture (1, H, W, 3): each plan's frames side by side, the plans one below the other."""
    strips = [torch.cat(list(plan), dim=1) for plan in plans]
    gap = torch.ones(GAP_PX, *strips[0].shape[1:])
    return torch.cat([part for strip in strips for part in (strip.cpu(), gap)][:-1])[None]

"""Nodes for longer plans: one that chains plans, and one that joins two.

Extend Plan does nothing itself: in the running graph it replaces itself by the nodes of an ordinary plan, once for each
instruction (ComfyUI's node expansion). So ComfyUI's own nodes sample and decode, show their progress and can be
cancelled, and a plan for which nothing has changed comes from the cache.
"""

from comfy_api.latest import io

from ..visual_planner.errors import ChainError
from ..visual_planner.planner.chaining import AUTO, JOINS, MAX_PLANS, PATH_USES, join_plans, requests_of
from ..visual_planner.planner.spec import PlannerSpec
from ..visual_planner.trajectory.trajectory import Trajectory
from .comfy.chain import MAX_SEED, Chain, Joining, Sampling, links_of, placed
from .pictures import pictures
from .wires import PlannerSpecType, TrajectoryType, fit_input, fit_of, fps_input, look, schema, video_of


def overlap_inputs() -> list[io.Input]:
    """How a plan and the next one share frames."""
    return [
        io.Int.Input(
            "overlap",
            default=1,
            min=1,
            max=4095,
            tooltip="Number of frames that a plan shares with the next one. 1: the next plan starts from the last "
            "frame. More: it starts earlier and replans the end of the previous plan.",
        ),
        io.Combo.Input(
            "join",
            options=list(JOINS),
            default="drop",
            tooltip="How shared frames are shown if overlap is above 1: drop keeps those of the later plan; "
            "crossfade blends both, which shows a double arm where the plans disagree.",
        ),
        fps_input("Frame rate of the video."),
    ]


def joined_outputs(report: str) -> list[io.Output]:
    """Outputs of both nodes; `report` describes the text."""
    return [
        io.Image.Output("frames", display_name="frames", tooltip="All frames in time order, none of them twice."),
        io.Video.Output("video", display_name="video", tooltip="The same frames as a video, for Save Video."),
        io.String.Output("report", display_name="report", tooltip=report),
    ]


class VisualPlannerExtend(io.ComfyNode):
    """A longer plan: one plan after the other, each from where the one before ended."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        import comfy.samplers

        sampler = comfy.samplers.KSampler
        return schema(
            "VisualPlannerExtend",
            "Extend Plan (Visual Planner)",
            "plan",
            description="Generates a longer plan: one plan per instruction (or drawn path), each starting from a "
            "frame of the previous one, joined into one video. Unchanged plans are not generated again.",
            search_aliases=["chain", "long video", "continue", "sequence", "several instructions", "one node"],
            is_output_node=True,
            enable_expand=True,
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt],
            inputs=[
                io.Model.Input("model", tooltip="FLUX model with the planner's LoRA, from Load Planner LoRA."),
                io.Clip.Input("clip", tooltip="The text encoders of that model."),
                io.Vae.Input("vae", tooltip="The VAE of that model."),
                PlannerSpecType.Input("spec", tooltip="The planner's record, from Load Planner LoRA."),
                io.Image.Input("first_frame", tooltip="The scene before the robot moves, without a drawn path."),
                io.String.Input(
                    "instructions",
                    multiline=True,
                    default="pick up the red cube\nput the red cube onto the plate",
                    tooltip="What the robot should do, one instruction per line, in time order. Each line becomes a "
                    "plan. Leave it empty to plan from the trajectory alone.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=MAX_SEED,
                    control_after_generate=True,
                    tooltip="Seed of the first plan; each following plan adds one.",
                ),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=10000,
                    tooltip="Sampling steps per plan. 0 uses the value in the planner's record.",
                ),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="Planners are trained for 1. A value above 1 needs a negative prompt and takes twice "
                    "the time.",
                ),
                io.Combo.Input(
                    "sampler_name",
                    options=sampler.SAMPLERS,
                    default="euler",
                    tooltip="Sampler; planners are trained for euler.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=sampler.SCHEDULERS,
                    default="simple",
                    tooltip="Noise schedule; planners are trained for simple.",
                ),
                *overlap_inputs(),
                fit_input(),
                io.Combo.Input(
                    "paths",
                    options=list(PATH_USES),
                    default=AUTO,
                    tooltip="How drawn paths are assigned to plans. a path for each plan: in order; cut in time: "
                    "the drawing runs from the first frame of the long plan to its last; auto: a single path is "
                    "cut, as many paths as plans are assigned one to each.",
                ),
                io.Int.Input(
                    "plans",
                    default=0,
                    min=0,
                    max=MAX_PLANS,
                    tooltip="Number of plans. 0 uses the number of instructions, or else of paths. With one "
                    "instruction, every plan gets the same one.",
                ),
                TrajectoryType.Input(
                    "trajectory",
                    optional=True,
                    tooltip="Where the gripper should go, drawn on the first frame. Its times run within a plan or, "
                    "if it is cut, from the start of the long plan to its end.",
                ),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="Negative prompt, encoded. Only needed for a cfg above 1."
                ),
            ],
            outputs=joined_outputs(
                "For each plan: its frames, its instruction, its seed, and the results of the checks."
            ),
        )

    @classmethod
    @pictures("first_frame")
    def execute(
        cls,
        model,
        clip,
        vae,
        spec: PlannerSpec,
        first_frame,
        instructions: str,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        overlap: int,
        join: str,
        fps: float,
        fit: str,
        paths: str,
        plans: int,
        trajectory: Trajectory | None = None,
        negative=None,
    ) -> io.NodeOutput:
        """Put the plans' nodes into the graph."""
        requests = requests_of(instructions, trajectory, plans, paths, overlap, spec)
        requests = placed(requests, size_of_one(first_frame), spec, fit_of(fit, spec))
        sampling = Sampling(seed, steps or spec.steps, cfg, sampler_name, scheduler)
        chain = Chain(links_of(cls.hidden), sampling, Joining(overlap, join, fps), fit)
        titles = chain.titles(requests, spec.layout.frames)
        outputs = chain.build(requests, titles, spec.layout.frames)
        # ComfyUI keeps this text with the cached node, but what the new nodes show only for the run.
        return io.NodeOutput(*outputs, expand=chain.graph.finalize(), ui=look(cls, text="\n".join(titles)))


class VisualPlannerJoin(io.ComfyNode):
    """Two plans, one after the other."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerJoin",
            "Join Plans (Visual Planner)",
            "plan",
            description="Appends a plan to earlier frames without showing the frame it started from twice. Extend "
            "Plan does this for whole chains.",
            search_aliases=["concatenate", "chain", "append", "long video"],
            is_output_node=True,
            inputs=[
                io.Image.Input("before", tooltip="Frames of a plan, or of plans that are already joined."),
                io.Image.Input(
                    "after",
                    tooltip="Frames of the next plan, which was generated from a frame at the end of the previous one.",
                ),
                *overlap_inputs(),
                io.String.Input(
                    "notes",
                    optional=True,
                    default="",
                    multiline=True,
                    tooltip="Text to append to the report, such as the reports of Check Plan.",
                ),
            ],
            outputs=joined_outputs("The number of frames, followed by the notes."),
        )

    @classmethod
    @pictures("before", "after")
    def execute(cls, before, after, overlap: int, join: str, fps: float, notes: str = "") -> io.NodeOutput:
        """Join."""
        if before.shape[-1] != after.shape[-1]:  # one of them has an alpha channel
            before, after = before[..., :3], after[..., :3]
        frames = join_plans(before, after, overlap, join)
        counts = f"{len(frames)} frames: {len(before)} and {len(after)}, of which they share {overlap}"
        report = f"{counts}\n\n{notes}" if notes else counts
        return io.NodeOutput(frames, video_of(frames, fps), report, ui=look(cls, frames, report, enlarge=False))


def size_of_one(first_frame) -> tuple[int, int]:
    """Size (h, w) of a lone first frame [px].

    Raises:
        ChainError: there are several.
    """
    if len(first_frame) != 1:
        raise ChainError(f"first_frame must be one picture, got {len(first_frame)}")
    return tuple(first_frame.shape[1:3])

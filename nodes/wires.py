"""Shared code of the nodes: the plugin's own wire types, inputs of several nodes, and the construction of schemas."""

import logging
from fractions import Fraction

import numpy as np
import torch
from comfy_api.latest import InputImpl, Types, io, ui

from ..visual_planner.errors import TrajectoryError
from ..visual_planner.execution.timing import PARTS, repeats, shares_by_change
from ..visual_planner.grid.frame import FITS
from ..visual_planner.grid.layout import GridLayout
from ..visual_planner.planner.spec import PlannerSpec
from ..visual_planner.trajectory.trajectory import CLIP_RULES, Trajectory

PlannerSpecType = io.Custom("VISUAL_PLANNER_SPEC")
LayoutType = io.Custom("VISUAL_PLANNER_LAYOUT")
TrajectoryType = io.Custom("VISUAL_PLANNER_TRAJECTORY")
SceneType = io.Custom("VISUAL_PLANNER_SCENE")

CATEGORY = "visual planner"
FIT_OF_PLANNER = "planner"
"""Choice of `fit` that takes the planner's own setting."""
FROM_SPEC = "from the spec"
"""Choice of a setting that a node reads from the planner's record."""
PREVIEW_PX = 320
"""Longer side to which a small picture is enlarged for a preview [px]."""

_log = logging.getLogger("visual_planner")


def schema(node_id: str, name: str, section: str, **fields: object) -> io.Schema:
    """Schema of a node under `visual planner/<section>`.

    Fields that the running ComfyUI does not know yet (such as `search_aliases` before 0.33) are left out.
    """
    known = {key: value for key, value in fields.items() if key in io.Schema.__dataclass_fields__}
    return io.Schema(node_id=node_id, display_name=name, category=f"{CATEGORY}/{section}", **known)


def layout_input(tooltip: str) -> io.MultiType.Input:
    """Optional input that takes a grid layout or a planner's spec."""
    return io.MultiType.Input("layout", types=[LayoutType, PlannerSpecType], optional=True, tooltip=tooltip)


def fit_input(optional: bool = False) -> io.Combo.Input:
    """How a picture of another shape is brought to the size of a cell."""
    return io.Combo.Input(
        "fit",
        optional=optional,
        options=[*FITS, FIT_OF_PLANNER],
        default=FIT_OF_PLANNER,
        tooltip="What to do with a first frame of another shape than a cell: letterbox keeps all of it between black "
        "borders, crop fills the cell and cuts the rest evenly, stretch ignores the aspect ratio, planner does what "
        "the planner was trained with (letterbox if no planner spec is connected).",
    )


def spec_input() -> io.Input:
    """Optional planner's record, for nodes that only need to know how pictures fill a cell."""
    return PlannerSpecType.Input(
        "spec", optional=True, tooltip="Planner spec from Load Planner LoRA: it knows the fit."
    )


def fit_of(fit: str, spec: object = None) -> str:
    """One of `frame.FITS`: the widget's own choice, or the planner's; letterbox without a planner."""
    if fit != FIT_OF_PLANNER:
        return fit
    return spec.fit if isinstance(spec, PlannerSpec) else PlannerSpec().fit


def blocks_input(name: str, what: str) -> io.String.Input:
    """Optional strengths of a LoRA by block, as text (`adapters.blocks`)."""
    return io.String.Input(
        name,
        optional=True,
        default="",
        tooltip=f"{what}: rules such as double 0-4: 0.5; single: 1.2; other: 0, of which later ones win, or the vector "
        "of block weight loaders. It is multiplied by the strength; what is not named keeps 1.",
    )


def fps_input(tooltip: str) -> io.Float.Input:
    """Speed of a video of a plan."""
    return io.Float.Input("fps", default=4.0, min=0.1, max=120.0, step=0.1, tooltip=tooltip)


def outside_input() -> io.Combo.Input:
    """Rule for a trajectory's points beyond the frame."""
    return io.Combo.Input(
        "outside",
        options=list(CLIP_RULES),
        default="error",
        tooltip="Points outside the frame: error refuses them, clamp moves them to the edge, cut keeps the part of "
        "the path that lies inside.",
    )


def inside(trajectory: Trajectory, outside: str) -> Trajectory:
    """Apply a node's rule for points beyond the frame to a trajectory.

    Raises:
        TrajectoryError: the rule refuses it; the message names choices that would not.
    """
    try:
        return trajectory.clipped(outside)
    except TrajectoryError as error:
        if outside != "error":
            raise
        raise TrajectoryError(f"{error} (or set outside to clamp or cut)") from None


def trajectory_outputs(tooltip: str = "For Trajectory Overlay and Check Plan.") -> list[io.Output]:
    """A trajectory on its own wire and as text."""
    return [
        TrajectoryType.Output("trajectory", display_name="trajectory", tooltip=tooltip),
        io.String.Output("json_out", display_name="json", tooltip="The same trajectory as JSON v1."),
    ]


def layout_of(wire: GridLayout | PlannerSpec | None) -> GridLayout:
    """Layout on a wire that may carry a layout, a spec or nothing (3x3 serpentine)."""
    if wire is None:
        return GridLayout()
    return wire.layout if isinstance(wire, PlannerSpec) else wire


def shares_of(frames: torch.Tensor, wire: GridLayout | PlannerSpec | None) -> np.ndarray | None:
    """Fraction of a video for which each frame is shown, by what changes; None: evenly, as with most planners.

    Args:
        frames: frames of whole plans, one after the other (N F, h, w, C).
        wire: the planner's spec, or anything else.
    """
    if not isinstance(wire, PlannerSpec) or wire.keyframes != "shape":
        return None
    plans = frames[..., :3].cpu().numpy().reshape(-1, wire.layout.frames, *frames.shape[1:3], 3)
    return np.concatenate([shares_by_change(plan) for plan in plans]) / len(plans)


def warn(message: str) -> str:
    """Write a warning to ComfyUI's log and return it, for the node's own text."""
    _log.warning("[Visual Planner] %s", message)
    return message


def video_of(frames: torch.Tensor, fps: float, shares: np.ndarray | None = None) -> InputImpl.VideoFromComponents:
    """ComfyUI's video of frames (F, h, w, C); alpha is left out.

    Args:
        frames: frames of one plan, or of several one after the other.
        fps: frames per second.
        shares: fractions (F,) of the whole time for which each frame is shown; None: evenly.
    """
    rate = Fraction(round(fps * 1000), 1000)
    if shares is not None:
        rate, counts = rate * PARTS, torch.from_numpy(repeats(shares)).to(frames.device)
        frames = frames.repeat_interleave(counts, dim=0)
    return InputImpl.VideoFromComponents(Types.VideoComponents(images=frames[..., :3], frame_rate=rate))


def look(
    cls: type[io.ComfyNode], image: torch.Tensor | None = None, text: str | None = None, enlarge: bool = True
) -> dict:
    """What a node shows below itself: a picture (B, H, W, 3), a text, or both.

    ComfyUI never enlarges a preview, so small pictures are enlarged here by a whole factor to be visible, unless the
    preview is also the result that programs fetch.
    """
    shown: dict = {}
    if image is not None:
        factor = max(1, PREVIEW_PX // max(image.shape[1:3])) if enlarge else 1
        larger = image.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
        shown |= ui.PreviewImage(larger, cls=cls).as_dict()
    if text is not None:
        shown |= ui.PreviewText(text).as_dict()
    return shown

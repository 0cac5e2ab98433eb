"""Node that keeps existing frames in the latent of a plan; the sampler generates the others."""

import torch
from comfy_api.latest import io

from ..visual_planner.errors import ConditioningError, ImageError
from ..visual_planner.grid.cells import assemble_grid
from ..visual_planner.grid.frame import fit_frame
from ..visual_planner.grid.masks import latent_mask
from ..visual_planner.planner.spec import PlannerSpec
from .condition import empty_latent, encode
from .pictures import pictures
from .wires import FIT_OF_PLANNER, PlannerSpecType, fit_input, fit_of, look, schema


class VisualPlannerKeepFrames(io.ComfyNode):
    """The first frames of a plan are given, not only the very first."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerKeepFrames",
            "Keep Frames (Visual Planner)",
            "plan",
            description="Places the first frames of a plan in the sampler's latent under a mask that keeps them; "
            "only the remaining frames are generated. Use it to replan from what the camera has observed, or to "
            "regenerate the end of a plan.",
            search_aliases=["replan", "re-planning", "inpaint frames", "continue plan", "closed loop"],
            is_output_node=True,
            inputs=[
                io.Latent.Input("latent", tooltip="The latent from Condition."),
                io.Vae.Input("vae", tooltip="The planner's VAE."),
                PlannerSpecType.Input("spec", tooltip="The planner's spec."),
                io.Image.Input(
                    "frames",
                    tooltip="Frames in time order, starting with the first: observed by the camera (Execute Plan) "
                    "or taken from a plan (Slice Grid). Without a drawn path.",
                ),
                io.Int.Input(
                    "count",
                    default=5,
                    min=1,
                    max=4095,
                    tooltip="Number of leading frames to keep; the rest are generated.",
                ),
                fit_input(),
            ],
            outputs=[io.Latent.Output("kept", display_name="latent", tooltip="For the sampler, with its noise mask.")],
        )

    @classmethod
    @pictures("frames")
    def execute(
        cls, latent, vae, spec: PlannerSpec, frames, count: int = 5, fit: str = FIT_OF_PLANNER
    ) -> io.NodeOutput:
        """Encode the frames one by one and put them into their cells."""
        samples = latent["samples"]
        check(samples, spec, frames, count)
        cells = fit_frame(frames[:count], spec.cell_height, spec.cell_width, fit_of(fit, spec))
        family = spec.base_family
        mask = latent_mask(spec.layout, spec.cell_height, spec.cell_width, range(count), family.downscale)
        # frame by frame, like the first frame, so that the same picture has the same latent in every cell
        known = grid_with(encode(vae, cells, family).movedim(1, -1), spec).movedim(-1, 1)
        kept = torch.where(mask.to(samples) < 0.5, known.to(samples), samples)
        shown = grid_with(cells, spec)
        return io.NodeOutput({**latent, "samples": kept, "noise_mask": mask[None]}, ui=look(cls, shown))


def check(samples: torch.Tensor, spec: PlannerSpec, frames: torch.Tensor, count: int) -> None:
    """Refuse frames that cannot be kept.

    Raises:
        ImageError: there are too few frames, or none would be left to generate.
        ConditioningError: the latent is not of the planner's grid.
    """
    if count >= spec.layout.frames:
        raise ImageError(f"count must be less than the {spec.layout.frames} frames of a plan, got {count}")
    if len(frames) < count:
        raise ImageError(f"frames must include the {count} frames to keep (count), got {len(frames)}")
    wanted = tuple(empty_latent(spec, len(samples)).shape)
    if tuple(samples.shape) != wanted:
        raise ConditioningError(f"latent must be the planner's, of shape {wanted}, got {tuple(samples.shape)}")


def grid_with(frames: torch.Tensor, spec: PlannerSpec) -> torch.Tensor:
    """One grid (1, H, W, C) with frames (K, h, w, C) in its first cells and zeros in the others."""
    missing = frames.new_zeros(spec.layout.frames - len(frames), *frames.shape[1:])
    return assemble_grid(torch.cat([frames, missing]), spec.layout)

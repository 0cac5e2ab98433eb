"""Node that makes a FLUX model plan from a first frame."""

from functools import partial

import torch
from comfy_api.latest import io

from ..visual_planner.errors import ConditioningError
from ..visual_planner.grid.cells import fit_frame
from ..visual_planner.planner.condition_picture import condition_picture, encode_condition, require_goals
from ..visual_planner.planner.families import Family
from ..visual_planner.planner.prompts import parts_of
from ..visual_planner.planner.spec import PlannerSpec
from .comfy.conditioning.in_context import mark_conditioning, patch_model
from .comfy.model_family import require_text
from .pictures import pictures
from .wires import FIT_OF_PLANNER, PlannerSpecType, fit_input, fit_of, look, schema


class VisualPlannerCondition(io.ComfyNode):
    """First frame, prompt and planner model into what a stock sampler needs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node's inputs and outputs."""
        return schema(
            "VisualPlannerCondition",
            "Condition (Visual Planner)",
            "plan",
            description="Adds the first frame to the model as an in-context condition and sets the planner's noise "
            "schedule. Connect all four outputs to a stock sampler: KSampler with euler, simple, denoise 1 and cfg "
            "1.",
            search_aliases=["in-context", "first frame", "image to video", "planner"],
            is_output_node=True,
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="FLUX model with the planner's LoRA, from Load Planner LoRA. The input is left unchanged.",
                ),
                io.Conditioning.Input(
                    "positive", tooltip="The planner's prompt, encoded (Planner Prompt, then CLIP Text Encode)."
                ),
                io.Vae.Input("vae", tooltip="The VAE of that model."),
                PlannerSpecType.Input("spec", tooltip="The planner's record, from Load Planner LoRA."),
                io.Image.Input(
                    "first_frame",
                    tooltip="The scene before the robot moves; with a drawn path (Trajectory Overlay) for planners "
                    "that follow trajectories. A batch of images yields one plan for each.",
                ),
                io.Int.Input(
                    "plans",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Number of plans per first frame, to choose the best from.",
                ),
                fit_input(),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="Negative prompt, encoded. Only needed for a cfg above 1; otherwise leave it unconnected.",
                ),
                io.Image.Input(
                    "goal",
                    optional=True,
                    tooltip="The scene as it should be at the end, from the same camera. Only for planners that were "
                    "trained with goal pictures, with one of the goal modes of Planner Prompt.",
                ),
            ],
            outputs=[
                io.Model.Output("conditioned_model", display_name="model", tooltip="For the sampler."),
                io.Conditioning.Output("conditioned_positive", display_name="positive", tooltip="For the sampler."),
                io.Conditioning.Output(
                    "conditioned_negative",
                    display_name="negative",
                    tooltip="For the sampler. If no negative is connected, this is the positive one, which has no "
                    "effect.",
                ),
                io.Latent.Output(
                    "latent", display_name="latent", tooltip="Empty latent of the grid's size, for the sampler."
                ),
                io.Image.Output(
                    "condition_image", display_name="condition", tooltip="The image that was passed to the VAE."
                ),
            ],
        )

    @classmethod
    @pictures("first_frame", "goal")
    def execute(
        cls,
        model,
        positive,
        vae,
        spec: PlannerSpec,
        first_frame,
        plans: int = 1,
        fit: str = FIT_OF_PLANNER,
        negative=None,
        goal=None,
    ) -> io.NodeOutput:
        """Encode the condition, patch a clone of the model, size the latent."""
        patched = patch_model(model, spec)
        require_text(model, positive, spec, "positive")
        require_text(model, negative or [], spec, "negative")
        picture = picture_of(first_frame, goal, spec, fit_of(fit, spec))
        latent = encode_condition(partial(encode, vae, family=spec.base_family), picture, spec)
        marked = mark_conditioning(positive, latent, spec.guidance)
        other = marked if negative is None else mark_conditioning(negative, latent, spec.guidance)
        empty = empty_latent(spec, latent.shape[0] * plans)
        return io.NodeOutput(patched, marked, other, {"samples": empty}, picture, ui=look(cls, picture))


def picture_of(first_frame: torch.Tensor, goal: torch.Tensor | None, spec: PlannerSpec, fit: str) -> torch.Tensor:
    """What the VAE encodes (B, H, W, 3), see `condition_picture`, from pictures of any size.

    Raises:
        ConditioningError: a goal for a planner without goals, none for a planner that always needs one, or a number of
            goals that is neither one nor that of the first frames.
    """
    cell = fit_frame(first_frame, spec.cell_height, spec.cell_width, fit)
    if goal is None:
        if all(parts_of(mode).goal for mode in spec.modes):
            raise ConditioningError(f"goal must be connected: this planner plans in modes {', '.join(spec.modes)} only")
        return condition_picture(cell, None, spec)
    require_goals(spec)
    if len(goal) not in (1, len(cell)):
        raise ConditioningError(
            f"goal must be one picture, or one for each of the {len(cell)} first frames, got {len(goal)}"
        )
    end = fit_frame(goal, spec.cell_height, spec.cell_width, fit).to(cell)
    return condition_picture(cell, end.expand_as(cell), spec)


def encode(vae, picture: torch.Tensor, family: Family) -> torch.Tensor:
    """Latent (B, C, h, w) of a picture, as the VAE returns it.

    Raises:
        ConditioningError: the VAE is not one of the family's.
    """
    latent = vae.encode(picture)
    side = family.downscale
    wanted = (picture.shape[0], family.channels, picture.shape[1] // side, picture.shape[2] // side)
    if tuple(latent.shape) != wanted:
        raise ConditioningError(
            f"vae must be a {family.title} VAE that returns a latent of shape {wanted}, got {tuple(latent.shape)}"
        )
    if not bool(torch.isfinite(latent).all()):
        raise ConditioningError(
            "vae must return finite latents, got NaN or infinity for the first frame: run it in float32 (--fp32-vae)"
        )
    return latent


def empty_latent(spec: PlannerSpec, batch: int) -> torch.Tensor:
    """Zeros (batch, C, h, w) for the planner's grid, on the device where ComfyUI keeps latents."""
    import comfy.model_management

    return torch.zeros((batch, *spec.latent_shape), device=comfy.model_management.intermediate_device())

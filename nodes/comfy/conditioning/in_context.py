"""In-context conditioning on ComfyUI's own FLUX models: one wrapper on a clone of the MODEL, nothing global.

The condition travels as a reference latent in the CONDITIONING, so ComfyUI batches it, scales it (`process_latent_in`),
counts its memory and appends its tokens after the image's. What ComfyUI cannot do is give a planner's condition its
place: the ids of the grid itself (a clone), not those of a picture beside it. The wrapper sets these after ComfyUI has
made the target's ids, so that they include rope scaling and padding.

The conditioning carries a mark that says which of its reference latents is the planner's (`mark`). The wrapper acts
only on marked calls, and checks after the first one whether its patch was reached: a node that replaces the network's
own code may bypass it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ....visual_planner.errors import ConditioningError
from ....visual_planner.grid.layout import GridLayout
from ....visual_planner.planner.conditioning import condition_ids, condition_token_index, target_ids
from ....visual_planner.planner.families import FLUX1, Family
from ....visual_planner.planner.spec import PlannerSpec
from ..model_family import require_family
from . import condition_cache, mark
from .condition_cache import OVERRIDE, ConditionCache, Source

KEY = "visual_planner.in_context"
"""Name of the wrapper on a model."""


@dataclass(frozen=True)
class Placing:
    """Placement of the condition's tokens.

    Args:
        layout: the grid.
        condition_tokens: one of `conditioning.CONDITION_TOKENS`.
        position_ids: one of `conditioning.POSITION_IDS`.
        family: family of the base model.
        goal: whether the condition has a goal's cell beside the first one.
    """

    layout: GridLayout
    condition_tokens: str
    position_ids: str
    family: Family = FLUX1
    goal: bool = False

    @property
    def apart(self) -> bool:
        """Whether the condition's tokens pass through the network separately from the target's."""
        return self.condition_tokens == "first_cell_cached"


def mark_conditioning(conditioning: list, latent: torch.Tensor, guidance: float) -> list:
    """Conditioning with the planner's condition added; an earlier planner's condition is replaced.

    Args:
        conditioning: ComfyUI's list of [embedding, settings].
        latent: (B, C, h, w) from the VAE; ComfyUI scales it.
        guidance: used if the conditioning has none yet.
    """
    marked = []
    for embedding, settings in conditioning:
        references = list(settings.get("reference_latents", []))
        place = mark.place_of(settings)
        if place is None or place >= len(references):
            place = len(references)
            references.append(latent)
        else:
            references[place] = latent
        settings = mark.marked({**settings, "reference_latents": references}, place)
        settings.setdefault("guidance", guidance)
        marked.append([embedding, settings])
    return marked


def patch_model(model, spec: PlannerSpec, cached: bool = True):
    """Clone of a FLUX MODEL that places a planner's condition and has the planner's noise schedule.

    Args:
        model: MODEL of ComfyUI.
        spec: the planner's record.
        cached: False recomputes the keys and values of a `first_cell_cached` condition at every step: the same plan,
            but slower, for comparison.

    Raises:
        ConditioningError: the model is not of the family that the record names.
    """
    import comfy.model_sampling
    from comfy.patcher_extension import WrappersMP

    require_family(model, spec)

    class Schedule(comfy.model_sampling.ModelSamplingFlux, comfy.model_sampling.CONST):
        """FLUX's shifted schedule."""

    patched = model.clone()
    sampling = Schedule(model.model.model_config)
    sampling.set_parameters(shift=spec.mu())
    patched.add_object_patch("model_sampling", sampling)
    # If a planner is applied on another one, the last one counts, as with all patches of ComfyUI.
    patched.remove_wrappers_with_key(WrappersMP.DIFFUSION_MODEL, KEY)
    patched.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, condition_cache.KEY)
    for moment, wrapper in ((WrappersMP.OUTER_SAMPLE, mark.around_run), (WrappersMP.APPLY_MODEL, mark.around_call)):
        patched.remove_wrappers_with_key(moment, mark.KEY)
        patched.add_wrapper_with_key(moment, mark.KEY, wrapper)
    placing = Placing(spec.layout, spec.condition_tokens, spec.position_ids, spec.base_family, spec.has_goal)
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, in_context_wrapper(placing))
    if placing.apart and cached:
        patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, condition_cache.KEY, condition_cache.hold_for_run)
    return patched


def in_context_wrapper(placing: Placing) -> Callable:
    """Wrapper around the FLUX network's forward that places the condition's tokens.

    It is a closure, not a callable object, since ComfyUI deep-copies objects when it clones a model.
    """

    def place_condition(
        executor,
        x,
        timestep,
        context,
        y=None,
        guidance=None,
        ref_latents=None,
        control=None,
        transformer_options=None,
        **kwargs,
    ):
        options = dict(transformer_options or {})
        options.get(mark.KEY, []).append(True)
        run, own = options.get(mark.RUN), kwargs.pop(mark.KEY, None)
        condition = None
        if own is None:
            mark.require_known(run, options)
        elif own.place >= len(ref_latents or ()):
            raise ConditioningError(
                "positive conditioning must keep the first frame that the Condition node put into it, but a node "
                "behind it replaced the reference latents: put that node before Condition"
            )
        else:
            condition = ref_latents[own.place]
            # Put last, so that other references keep the ids that they have without a planner.
            others = [*ref_latents[: own.place], *ref_latents[own.place + 1 :]]
            ref_latents = (others or None) if placing.apart else [*others, condition]
        network_ran, reached = mark.noting(executor), []
        apart = None
        if placing.apart and condition is not None:
            compute = condition_cache.compute_rows(executor, timestep, context, y, dict(options))
            apart = _apart(condition, guidance, compute, options)
        patches = dict(options.get("patches", {}))
        place = _placer(placing, x, condition, apart)
        patches["post_input"] = [
            lambda tokens: reached.append(True) or place(tokens),
            *patches.get("post_input", []),
        ]
        options["patches"] = patches
        result = executor(x, timestep, context, y, guidance, ref_latents, control, options, **kwargs)
        run = {} if run is None else run
        if reached:
            run["reached"] = True
        elif network_ran and not run.get("reached"):
            mark.refuse_bypassed(executor.class_obj)
        return result

    return place_condition


def _apart(
    condition: torch.Tensor, guidance: torch.Tensor | None, compute: Callable, options: dict
) -> Callable[[torch.Tensor], None]:
    """Make attention attend to a condition's keys and values too; returns the function that fetches them.

    Args:
        condition: (B, 16, h', w').
        guidance: (B,), None for a model without that input.
        compute: from `condition_cache.compute_rows`.
        options: the call's own `transformer_options`, changed here.

    Returns:
        Function of the condition's ids (B, M, 3), to be called before the first block.
    """
    cache = options.get(condition_cache.KEY) or ConditionCache()
    rows: list = []
    options[OVERRIDE] = condition_cache.attending(rows, options.get(OVERRIDE))

    def fetch(ids: torch.Tensor) -> None:
        values = [None] * len(condition) if guidance is None else guidance
        rows[:] = cache.rows([Source(*parts) for parts in zip(condition, ids, values, strict=True)], compute)

    return fetch


def _placer(
    placing: Placing, x: torch.Tensor, condition: torch.Tensor | None, apart: Callable[[torch.Tensor], None] | None
) -> Callable[[dict], dict]:
    """Patch for `post_input` that sets the ids of the first tokens (the target's) and of the last (the condition's).

    Args:
        placing: where the condition stands.
        x: (B, C, h, w), the noisy latent of the grid.
        condition: (B, C, h', w'), None for a call without one.
        apart: called with the condition's ids if its tokens are not in the sequence, otherwise None.
    """
    patch = placing.family.patch
    grid = _tokens(x, patch)
    count, layout = grid[0] * grid[1], placing.layout
    cell = grid[0] // layout.rows, grid[1] // layout.cols
    index = None if condition is None else _places(placing, grid, _tokens(condition, patch))

    def overwrite(tokens: dict) -> dict:
        ids = tokens["img_ids"].clone()
        if (cell[0] * layout.rows, cell[1] * layout.cols) == grid:
            ids[:, :count] = target_ids(ids[:, :count], layout, cell, placing.position_ids)
        if index is not None:
            own = condition_ids(ids[:, :count], index, placing.position_ids, placing.family).to(ids)
            if apart is None:
                ids[:, -index.numel() :] = own
            else:
                apart(own)
        return {**tokens, "img_ids": ids}

    return overwrite


def _tokens(latent: torch.Tensor, patch: int) -> tuple[int, int]:
    """Rows and columns of tokens of a latent; the model pads sizes that are not whole patches."""
    return -(-latent.shape[-2] // patch), -(-latent.shape[-1] // patch)


def _places(placing: Placing, grid: tuple[int, int], own: tuple[int, int]) -> torch.Tensor:
    """Places (M,) of the condition's tokens in the grid of target tokens.

    Raises:
        ConditioningError: the sampled latent has another size than the one that the condition was made for.
    """
    layout, side, cells = placing.layout, placing.family.token_px, 2 if placing.goal else 1
    if placing.condition_tokens == "full_grid":
        wanted, index = grid, torch.arange(grid[0] * grid[1])
    elif grid[0] % layout.rows or grid[1] % layout.cols:
        wanted, index = (0, 0), None
    else:
        cell = grid[0] // layout.rows, grid[1] // layout.cols
        wanted = cell[0], cell[1] * cells
        index = condition_token_index(layout, cell, placing.condition_tokens, placing.goal)
    if own != wanted:
        full = placing.condition_tokens == "full_grid"
        rows, cols = own if full else (own[0] * layout.rows, own[1] * layout.cols // cells)
        raise ConditioningError(
            f"latent must be the one of the Condition node, {rows * side} px high x {cols * side} px wide, got "
            f"{grid[0] * side} high x {grid[1] * side} wide"
        )
    return index

"""Which family a MODEL of ComfyUI belongs to, and whether planner and text match it."""

from ...visual_planner.errors import ConditioningError
from ...visual_planner.planner.families import FAMILIES, FLUX2, Family
from ...visual_planner.planner.spec import PlannerSpec
from . import flux2_names


def family_of_model(model) -> Family | None:
    """Family of a MODEL, by its network's position axes and patch size; None for a model of no known family."""
    network = getattr(getattr(model, "model", None), "diffusion_model", None)
    settings = getattr(network, "params", None)
    kind = len(getattr(settings, "axes_dim", ())), getattr(network, "patch_size", None)
    if not hasattr(network, "double_blocks"):
        return None
    found = next((family for family in FAMILIES.values() if (family.axes, family.patch) == kind), None)
    # Other networks have four axes as well; only FLUX.2 has this modulation, which all blocks share.
    return None if found is FLUX2 and not getattr(settings, "global_modulation", False) else found


def require_family(model, spec: PlannerSpec, planner: str = "the planner's record") -> None:
    """Raise a ConditioningError unless the MODEL is of the family that a planner's record names.

    Args:
        model: MODEL of ComfyUI.
        spec: the record.
        planner: source of the record, for the message.
    """
    family = family_of_model(model)
    if family is not spec.base_family:
        kind = type(getattr(model, "model", model)).__name__
        got = kind if family is None else f"a {family.title} model ({kind})"
        raise ConditioningError(f"model must be a {spec.base_family.title} model, which {planner} asks for, got {got}")


def require_text(model, conditioning: list, spec: PlannerSpec, name: str) -> None:
    """Raise a ConditioningError unless a conditioning is as wide as the text that the MODEL takes.

    Args:
        model: MODEL of ComfyUI.
        conditioning: ComfyUI's list of [embedding, settings].
        spec: the planner's record.
        name: name of the conditioning, for the message.
    """
    wanted = getattr(getattr(model.model.diffusion_model, "params", None), "context_in_dim", None)
    for embedding, _ in conditioning:
        width = embedding.shape[-1]
        if wanted is not None and width != wanted:
            hint = flux2_names.lacks_klein(width, wanted) if spec.base_family is FLUX2 else ""
            raise ConditioningError(
                f"{name} must come from the text encoder of this {spec.base_family.title} model, {wanted} wide, got "
                f"{width}{hint}"
            )

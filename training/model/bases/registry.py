"""Which family a base, a part of it, or a planner belongs to."""

from pathlib import Path

from torch import nn

from visual_planner.planner.families import Family
from visual_planner.planner.spec import PlannerSpec

from ...errors import TrainingError
from .base import Base
from .flux1 import Flux1
from .flux2 import Flux2
from .folders import require_class

BASES: tuple[Base, ...] = (Flux1(), Flux2())
"""The families that can be trained; a configuration without a class counts as the first one's."""


def base_of(spec: PlannerSpec) -> Base:
    """Base of a planner's family."""
    return next(base for base in BASES if base.family is spec.base_family)


def base_of_folder(folder: str | Path) -> Base:
    """Base of a diffusers pipeline's folder, by the class of its transformer.

    Raises:
        TrainingError: it has no transformer, or one of an unknown class.
    """
    part = Path(folder) / "transformer"
    if not (part / "config.json").is_file():
        raise TrainingError(
            f"base model {folder} has no transformer/config.json: it must be a FLUX pipeline in diffusers layout"
        )
    # diffusers would silently read the settings of another class and leave the weights on the meta device
    known = {base.transformer.__name__: base for base in BASES}
    return known[require_class(part, tuple(known), f"base model {folder}: transformer")]


def base_of_autoencoder(folder: Path, family: Family | None = None) -> Base:
    """Base of an autoencoder's folder, by its class; refused if `family` is given and is another one.

    Raises:
        TrainingError: it is of an unknown class, or of another family.
    """
    known = {base.autoencoder.__name__: base for base in BASES}
    base = known[require_class(folder, tuple(known), "autoencoder")]
    if family is not None and base.family is not family:
        raise TrainingError(
            f"autoencoder {folder} must be {family.title}'s, as spec.family says, got {base.family.title}'s "
            f"({base.autoencoder.__name__})"
        )
    return base


def base_of_module(module: nn.Module) -> Base:
    """Base of a loaded transformer or autoencoder.

    Raises:
        TrainingError: it is of an unknown class.
    """
    for base in BASES:
        if isinstance(module, (base.transformer, base.autoencoder)):
            return base
    raise TrainingError(f"model must be a transformer or autoencoder of FLUX, got {type(module).__name__}")


def require_base(folder: str | Path, family: Family) -> Base:
    """`base_of_folder`, refused unless it is of `family`.

    Raises:
        TrainingError: as `base_of_folder`, or it is of another family.
    """
    base = base_of_folder(folder)
    if base.family is not family:
        raise TrainingError(
            f"base model {folder} must be a {family.title} model, as spec.family says, got {base.family.title}"
        )
    return base

"""The errors of the planner: one base class, one child per subject.

Each message is a single line that names the input, says what it was, and says what it must be.
"""


class PlannerError(ValueError):
    """Something given to the planner cannot be used; the message says what and how to fix it."""


class LayoutError(PlannerError):
    """A grid layout, a cell size or a number of frames does not fit."""


class ImageError(PlannerError):
    """A picture has a shape, a dtype or a value range that cannot be used."""


class TrajectoryError(PlannerError):
    """A trajectory cannot be read, or asks for something impossible."""


class PromptError(PlannerError):
    """A prompt cannot be built from the given mode, instruction and template."""


class SpecError(PlannerError):
    """A planner record (PlannerSpec) is broken, contradicts itself or is of an unknown version."""


class ConditioningError(PlannerError):
    """Latents, tokens or position ids do not fit together."""


class ChainError(PlannerError):
    """Plans cannot follow each other as asked."""


class ReadoutError(PlannerError):
    """A read-out's record, weights or camera cannot be used."""

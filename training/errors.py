"""The errors of the training module."""

from visual_planner.errors import PlannerError


class TrainingError(PlannerError):
    """Data, a configuration or a run cannot be used as given; the message names it and says what would be right."""


class WritingError(TrainingError):
    """A file cannot be written; the message names it and says why."""

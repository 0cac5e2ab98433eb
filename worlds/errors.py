"""The error of the worlds."""

from visual_planner.errors import PlannerError


class WorldError(PlannerError):
    """Something that a world was asked for cannot be done; the message says what and why."""

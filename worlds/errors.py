"""Errors of the worlds."""

from visual_planner.errors import PlannerError


class WorldError(PlannerError):
    """A request to a world cannot be fulfilled; the message says which and why."""


class UnreachableError(WorldError):
    """The arm cannot reach a place of a plan: the attempt has failed, but nothing else is wrong."""

"""Errors of the worlds."""

from visual_planner.errors import PlannerError


class WorldError(PlannerError):
    """Something that a world was asked for cannot be done; the message says what and why."""


class UnreachableError(WorldError):
    """The arm cannot get to a place of a plan: the attempt has failed, and nothing else is wrong."""

"""Errors of the simulation."""

from .shared import PlannerError


class SimulationError(PlannerError):
    """A request that the simulation cannot serve; the message is one line that says what would have been right."""


class UnreachableError(SimulationError):
    """The arm cannot get to a place of a plan."""

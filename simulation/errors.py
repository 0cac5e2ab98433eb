"""Errors of the simulation."""

from .shared import PlannerError


class SimulationError(PlannerError):
    """A request that the simulation cannot fulfil; the message is one line that says what would be right."""


class UnreachableError(SimulationError):
    """The arm cannot reach a place of a plan."""

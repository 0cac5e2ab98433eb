"""Errors of the worlds."""


class WorldError(ValueError):
    """Something that a world was asked for cannot be done; the message says what and why."""


class UnreachableError(WorldError):
    """The arm cannot get to a place of a plan: the attempt has failed, and nothing else is wrong."""

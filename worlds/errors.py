"""The error of the worlds."""


class WorldError(ValueError):
    """Something that a world was asked for cannot be done; the message says what and why."""

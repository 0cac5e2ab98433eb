"""Worlds in which plans are executed, beside the Jaco table of `simulation`."""

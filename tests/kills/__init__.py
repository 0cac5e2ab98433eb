"""Kills commands that write, and runs them again: `python -m tests.kills --kills 10` from the repository's root."""

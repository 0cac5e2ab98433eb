"""Errors of the launcher."""

from __future__ import annotations

from collections.abc import Callable

from runtime.entry import describe_os_error, run_command

__all__ = ["LauncherError", "describe_os_error", "exit_code_of"]


class LauncherError(Exception):
    """A problem that the user can act on: one line that names what was wrong and what it must be."""


def exit_code_of(step: Callable[[], int]) -> int:
    """Run a step and turn problems that the user can act on into one line on stderr.

    Returns:
        What the step returns; 1 for a problem that was reported in one line, 130 after Ctrl-C.
    """
    return run_command(step, (LauncherError,), failed=1, stopped="interrupted")

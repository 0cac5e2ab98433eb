"""First half of every command: runs on the user's Python (standard library only), then hands over to `.venv`."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from .environment import Environment
from .errors import exit_code_of
from .options import build_parser
from .paths import CACHE, ROOT, SECONDS_VARIABLE


def main(arguments: list[str] | None = None) -> int:
    """Check the command line, prepare the environment, and run the command in it.

    Returns:
        Exit code: 0 done, 1 a problem that was reported in one line, 2 wrong usage, 130 interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    build_parser().parse_args(arguments)
    return exit_code_of(lambda: _start(arguments))


def _start(arguments: list[str]) -> int:
    started = time.monotonic()
    python = Environment().ensure()
    os.environ[SECONDS_VARIABLE] = f"{time.monotonic() - started:.1f}"
    return _hand_over([str(python), "-m", "launcher", *arguments])


def _hand_over(command: list[str]) -> int:
    """Continue in the environment's Python, if possible in the same process, so that signals reach it directly."""
    environment = clean_environment()
    # Lets Python find `launcher` while the working directory stays the user's own; __main__ removes it again.
    environment["PYTHONPATH"] = str(ROOT)
    if os.name == "nt":
        try:
            return subprocess.run(command, env=environment).returncode
        except KeyboardInterrupt:
            return 130
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(command[0], command, environment)


def clean_environment() -> dict[str, str]:
    """The process's environment without variables that would mix another Python's packages into ours.

    If PYTHONDONTWRITEBYTECODE is set, as in many containers, compiled files go to the cache instead of beside the
    sources: without any, each start compiles everything that it imports, which takes longer than all its other work.
    """
    drop = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    environment = {key: value for key, value in os.environ.items() if key not in drop}
    if environment.pop("PYTHONDONTWRITEBYTECODE", ""):
        environment.setdefault("PYTHONPYCACHEPREFIX", str(CACHE / "bytecode"))
    return {**environment, "PYTHONNOUSERSITE": "1"}

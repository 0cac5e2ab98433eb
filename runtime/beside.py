"""Run commands of the project in a process beside a server such as ComfyUI; they end with that server.

A server starts this program with commands as JSON lists: `["training", "train", "--config", ...]`. They run one after
the other in this process, so that packages are imported once, until one fails or a stop is requested.
A stop is requested by the end of standard input or by the end of the process that started this one. The running command
then gets Ctrl-C once, upon which a training saves its steps.
"""

from __future__ import annotations

import _thread
import importlib
import importlib.util
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from .entry import INTERRUPTED, end_on_signals, run_command

ROOT = Path(__file__).resolve().parents[1]
"""Folder of the project, to which paths in configurations are relative."""
STAGE = "visual planner stage "
"""Prefix of the line on standard output that gives a command's number, from 0, when it begins."""
OLDEST = (3, 11)
NEEDS = {
    "training": ("torch", "safetensors", "diffusers", "transformers", "peft", "accelerate", "pydantic", "yaml", "tqdm"),
    "simulation": ("mujoco", "dm_control", "tqdm"),
}
"""Packages that every command of a top-level package imports, from its extra in pyproject.toml."""
_LOOK_S = 1.0
"""Interval between checks that the server still runs [s]."""
_PATIENCE_S = 900.0
"""Time for a command to end after a stop is requested: a step and its checkpoint must fit into it [s]."""


class MissingPackages(Exception):
    """This Python cannot run a command; the message is one line."""


def main(commands: Sequence[str]) -> NoReturn:
    """Run commands until the first that fails.

    Args:
        commands: each a JSON list of a package with a command line and its arguments.

    The exit code is that of the command that failed, 0, or 130 after a stop.
    """
    asked = threading.Event()
    end_on_signals()
    try:
        _watch(asked)
        for number, command in enumerate(commands):
            room, *arguments = json.loads(command)
            print(f"{STAGE}{number}", flush=True)
            code = run_command(partial(_run, room, arguments), (MissingPackages,))
            if asked.is_set():
                sys.exit(INTERRUPTED)
            if code:
                sys.exit(code)
    except KeyboardInterrupt:  # between two commands
        sys.exit(INTERRUPTED)
    sys.exit(0)


def _run(room: str, arguments: list[str]) -> int | None:
    require(room)
    return importlib.import_module(f"{room}.__main__").main(arguments)


def require(room: str) -> None:
    """Look for the packages that a top-level package needs, without importing them.

    Raises:
        MissingPackages: this Python lacks some, or is too old.
    """
    remedy = (
        f'install them with: {sys.executable} -m pip install -e "{ROOT}[train,simulation]"; or let '
        "VISUAL_PLANNER_TRAINING_PYTHON name a Python that has them"
    )
    if sys.version_info < OLDEST:
        own, oldest = (".".join(map(str, numbers[:2])) for numbers in (sys.version_info, OLDEST))
        raise MissingPackages(f"{room} needs Python {oldest} or newer, but {sys.executable} is Python {own}")
    lacking = [name for name in NEEDS.get(room, ()) if importlib.util.find_spec(name) is None]
    if lacking:
        raise MissingPackages(f"{room} needs packages that {sys.executable} lacks ({', '.join(lacking)}): {remedy}")


def _watch(asked: threading.Event) -> None:
    """Ask for a stop, once, when the input ends or the server is gone."""
    once = threading.Lock()
    for wait in (_wait_for_end_of_input, partial(_wait_for_end_of, os.getppid())):
        threading.Thread(target=_stop_after, args=(wait, once, asked), daemon=True).start()


def _stop_after(wait: Callable[[], None], once: threading.Lock, asked: threading.Event) -> None:
    wait()
    if once.acquire(blocking=False):  # a second Ctrl-C would lose the step in progress
        asked.set()
        _thread.interrupt_main(signal.SIGINT)
        time.sleep(_PATIENCE_S)
        os._exit(INTERRUPTED)


def _wait_for_end_of_input() -> None:
    # not sys.stdin: its lock, held by a waiting thread, ends the interpreter with a fatal error
    while os.read(0, 1):
        pass


def _wait_for_end_of(parent: int) -> None:
    """Wait until the server ends: the pipe does not show that if another child of the server holds it open."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)

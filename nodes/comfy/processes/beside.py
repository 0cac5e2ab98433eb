"""Commands in a process beside the server (`runtime.beside`): started, watched, stopped by Cancel, ended with it.

The process is in a separate session, so that Ctrl-C in the server's terminal reaches it only through the end of the
server: a training then saves its steps, once.
"""

import collections
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ....visual_planner.errors import PlannerError, plain

ROOT = Path(__file__).resolve().parents[3]
"""Folder of the plugin: the process imports from it, and paths in recipes are relative to it."""
PYTHON_VARIABLE = "VISUAL_PLANNER_TRAINING_PYTHON"
"""Environment variable that names the Python of the process; default: the server's own."""
_START = (
    "import sys; sys.path[:] = [sys.argv[1], *filter(None, sys.path)]; from runtime.beside import main; "
    "main(sys.argv[2:])"
)
_STAGE = "visual planner stage "
_BAR = re.compile(r"(\d+)/(\d+) \[")
"""Count and total in tqdm's progress bar."""
_NOT_FOR_THE_PROCESS = ("PYOPENGL_PLATFORM",)
_PAUSE_S = 0.25
"""Interval between checks [s]."""
_PATIENCE_S = 30.0
"""Time that the process has to end after an error on this side [s]."""
_CLOSE_S = 5.0
_LONGEST = 600


class BesideError(PlannerError):
    """A command failed, or its process could not be started or ended; the message is one line."""


@dataclass
class State:
    """Progress of the commands.

    Attributes:
        stage: number of the running command, from 0; -1 before the first.
        done: count of its progress bar.
        total: total of the bar; 0 while there is none.
        stopping: whether the user has cancelled.
    """

    stage: int = -1
    done: int = 0
    total: int = 0
    stopping: bool = False


def run(commands: Sequence[Sequence[str]], look: Callable[[State], None]) -> None:
    """Run commands to their end.

    Cancel asks the running one to stop and waits until it has; Cancel pressed again ends the process at once.

    Args:
        commands: package and arguments of each, such as ("training", "train", "--config", "a.yaml").
        look: called a few times per second; may raise ComfyUI's interrupt.

    Raises:
        BesideError: a command fails.
        InterruptProcessingException: the user has cancelled.
    """
    import comfy.model_management as management

    process = _Process(commands)
    cancelled: BaseException | None = None
    patience = _PATIENCE_S
    try:
        while not process.has_ended(_PAUSE_S):
            try:
                look(process.state)
                management.throw_exception_if_processing_interrupted()
            except management.InterruptProcessingException as error:
                if cancelled is not None:
                    patience = 0.0
                    raise
                cancelled = error
                process.ask_to_stop()
    finally:
        process.close(patience)
    if cancelled is not None:
        raise cancelled
    if process.process.returncode:
        raise BesideError(process.failure())


def python() -> str:
    """The Python of the process."""
    return os.environ.get(PYTHON_VARIABLE) or sys.executable


class _Process:
    """The process of one run."""

    def __init__(self, commands: Sequence[Sequence[str]]) -> None:
        self.state = State()
        self._said: collections.deque[str] = collections.deque(maxlen=40)
        environment = {key: value for key, value in os.environ.items() if key not in _NOT_FOR_THE_PROCESS}
        environment |= {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
        flags = ("CREATE_NO_WINDOW", "CREATE_NEW_PROCESS_GROUP") if os.name == "nt" else ()
        try:
            self.process = subprocess.Popen(
                [python(), "-c", _START, str(ROOT), *(json.dumps(list(command)) for command in commands)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=ROOT,
                start_new_session=os.name != "nt",
                creationflags=sum(getattr(subprocess, flag) for flag in flags),
            )
        except OSError as error:
            raise BesideError(
                f"{PYTHON_VARIABLE} must name a Python that can be started, got {plain(python())}: {error.strerror}"
            ) from error
        self._threads = [
            threading.Thread(target=_listen, args=(pipe, self._hear), daemon=True)
            for pipe in (self.process.stdout, self.process.stderr)
        ]
        for thread in self._threads:
            thread.start()

    def has_ended(self, timeout: float) -> bool:
        """Whether it ends within a time [s]."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def ask_to_stop(self) -> None:
        """Let the running command save its work and end; closing its input is the signal."""
        self.state.stopping = True
        try:
            self.process.stdin.close()
        except OSError:  # it has just ended
            return

    def close(self, patience: float) -> None:
        """End it if it runs: by request, and by force after `patience` [s]."""
        self.ask_to_stop()
        end = time.monotonic() + patience
        while not self.has_ended(0.05) and time.monotonic() < end:
            continue
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join(_CLOSE_S)
        for pipe in (self.process.stdout, self.process.stderr):
            pipe.close()

    def failure(self) -> str:
        """Its own error line, or how it ended."""
        for line in reversed(self._said):
            if line.startswith("error: "):
                return plain(line.removeprefix("error: "), _LONGEST)
        code = self.process.returncode
        how = f"with code {code}" if code > 0 else f"by signal {_signal_name(-code)}"
        last = f"; it last said: {plain(self._said[-1], 200)}" if self._said else ""
        return f"the process beside ComfyUI ended {how}{last}"

    def _hear(self, line: str) -> None:
        if line.startswith(_STAGE) and line.removeprefix(_STAGE).isdigit():
            self.state.done, self.state.total = 0, 0
            self.state.stage = int(line.removeprefix(_STAGE))
        elif found := _BAR.search(line):
            self.state.done, self.state.total = int(found[1]), int(found[2])
        else:
            self._said.append(line)


def _listen(pipe: IO[bytes], hear: Callable[[str], None]) -> None:
    """Pass on a pipe's output line by line; a progress bar rewrites its line repeatedly."""
    try:
        for data in _pieces(pipe):
            if line := data.decode("utf-8", "replace").strip():
                hear(line)
    except (OSError, ValueError):  # closed while it was being read
        return


def _pieces(pipe: IO[bytes]) -> Iterable[bytes]:
    kept = b""
    while data := pipe.read1(1 << 16):
        *whole, kept = (kept + data).replace(b"\r", b"\n").split(b"\n")
        yield from whole
    yield kept


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)

"""A process beside the server in which worlds are simulated and rendered (`worlds.child`).

It is started by the first question, kept for the next ones, and ended with the server. OpenGL libraries that the server
has loaded for itself do not affect it, and if it crashes, only one node fails: the next question starts it again.
"""

import atexit
import collections
import logging
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from ....visual_planner.errors import PlannerError, plain

ROOT = Path(__file__).resolve().parents[3]
"""Folder of the plugin, from which the child imports."""
_START = "import sys; sys.path[:] = [sys.argv[1], *filter(None, sys.path)]; from worlds.child import main; main()"
_LENGTH = struct.Struct("<Q")
_NOT_FOR_THE_CHILD = ("PYOPENGL_PLATFORM",)
"""Variables that a server sets for its own OpenGL; MuJoCo sets them itself, and refuses unexpected values."""
_PAUSE_S = 0.1
"""Interval between checks whether the user has cancelled [s]."""
_CLOSE_S = 5.0
_log = logging.getLogger("visual_planner")


class SimulatorError(PlannerError):
    """The simulator refuses, or its process ended; the message is one line."""


class Child:
    """The process and the questions to it, one at a time, whichever thread asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: _Running | None = None
        atexit.register(self.close)

    @property
    def pid(self) -> int | None:
        """Number of the process; None while there is none."""
        running = self._running
        return running.process.pid if running is not None and running.alive else None

    def call(self, world: str, name: str, /, check: Callable[[], None] | None = None, **arguments: Any) -> Any:
        """Ask the process, which is started if necessary.

        Args:
            world: one of `worlds.child.CALLS`.
            name: name of a function of that world's module.
            check: called while waiting; if it raises, the process is ended and the error passed on; default: ComfyUI's
                Cancel.
            arguments: arguments of that function; plain values and arrays.

        Raises:
            SimulatorError: it refuses, or it ended before it answered.
        """
        with self._lock:
            if self._running is None or not self._running.alive:
                self.close()
                self._running = _Running()
            try:
                kind, value = self._running.ask((world, name, arguments), check or _check_cancelled)
            except BaseException:
                self._running.kill()  # its answer would belong to a question that has been abandoned
                raise
        if kind == "value":
            return value
        if kind == "refused":
            raise SimulatorError(value)
        line, trace = value
        _log.error("[Visual Planner] the simulator failed:\n%s", trace)
        raise SimulatorError(f"the simulator failed in {name} of world {world}: {line}; the log has the traceback")

    def close(self) -> None:
        """End the process, if there is one."""
        running, self._running = self._running, None
        if running is not None:
            running.close()


class _Running:
    """One started process."""

    def __init__(self) -> None:
        environment = {key: value for key, value in os.environ.items() if key not in _NOT_FOR_THE_CHILD}
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _START, str(ROOT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise SimulatorError(f"the simulator's process cannot be started with {sys.executable}: {error}") from error
        self._owner = os.getpid()
        self._answers: queue.Queue[bytes | None] = queue.Queue()
        self._said: collections.deque[str] = collections.deque(maxlen=20)
        self._threads = [
            threading.Thread(target=_collect, args=(self.process.stdout, self._answers), daemon=True),
            threading.Thread(target=_listen, args=(self.process.stderr, self._said), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether it can be asked: in a process forked from the server, this object is a copy of the server's child."""
        return self._owner == os.getpid() and self.process.poll() is None

    def ask(self, question: tuple, check: Callable[[], None]) -> tuple[str, Any]:
        """Answer to a question.

        Raises:
            SimulatorError: the process ended.
        """
        try:
            data = pickle.dumps(question, protocol=5)
            self.process.stdin.write(_LENGTH.pack(len(data)) + data)
            self.process.stdin.flush()
        except OSError:
            raise self._ended(question[1]) from None
        while True:
            try:
                answer = self._answers.get(timeout=_PAUSE_S)
            except queue.Empty:
                check()
                continue
            if answer is None:
                raise self._ended(question[1])
            return pickle.loads(answer)

    def kill(self) -> None:
        """End it at once."""
        if self._owner == os.getpid():
            self.process.kill()
            self._finish()

    def close(self) -> None:
        """Let it end, by closing its input."""
        if self._owner != os.getpid():
            return
        try:
            self.process.stdin.close()
            self.process.wait(_CLOSE_S)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
        self._finish()

    def _finish(self) -> None:
        self.process.wait()
        for thread in self._threads:
            thread.join(_CLOSE_S)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                pipe.close()
            except OSError:  # pending data cannot be written any more
                continue

    def _ended(self, call: str) -> SimulatorError:
        """The error for a process that has ended."""
        code = self.process.wait()
        for thread in self._threads:
            thread.join(_CLOSE_S)
        how = f"ended with code {code}" if code >= 0 else f"was ended by {_signal(-code)}"
        said = f"; it last said: {plain(self._said[-1], 300)}" if self._said else ""
        return SimulatorError(f"the simulator's process {how} during {call}{said}; the next run starts it again")


def _collect(pipe: IO[bytes], answers: "queue.Queue[bytes | None]") -> None:
    """Pass on whole answers; None marks the end."""
    try:
        while len(head := pipe.read(_LENGTH.size)) == _LENGTH.size:
            (length,) = _LENGTH.unpack(head)
            if len(data := pipe.read(length)) < length:
                break
            answers.put(data)
    except (OSError, ValueError):  # closed while it was being read
        pass
    answers.put(None)


def _listen(pipe: Iterable[bytes], said: "collections.deque[str]") -> None:
    """Keep the last lines of its output, and write all of it to the log for debugging."""
    try:
        for line in pipe:
            if text := line.decode("utf-8", "replace").rstrip():
                said.append(text)
                _log.debug("[Visual Planner] simulator: %s", text)
    except (OSError, ValueError):
        return


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _check_cancelled() -> None:
    """Raise ComfyUI's exception if the user has pressed Cancel."""
    import comfy.model_management

    comfy.model_management.throw_exception_if_processing_interrupted()


child = Child()
"""This server's only child."""

"""Commands that work with several processes: each in a process group of its own, so that what is left of it shows."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 180
"""How long a busy machine may take to start or to end processes [s]."""


@contextlib.contextmanager
def at_work(arguments: list[str], begun: Callable[[], bool], **options: object) -> Iterator[subprocess.Popen]:
    """`python -m` with the arguments, once `begun` says that it is at work; its group is killed in the end."""
    process = subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT, start_new_session=True, **options)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not begun():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def kill_head(process: subprocess.Popen) -> None:
    """Kill the head of a group, and see the others end."""
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    deadline = time.monotonic() + PATIENCE_S
    while _lives(process.pid):
        assert time.monotonic() < deadline, "workers of a killed process are still there"
        time.sleep(0.1)


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True

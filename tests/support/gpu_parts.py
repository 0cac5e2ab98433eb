"""Parts that fail in every way that a part of the GPU benchmark can."""

from __future__ import annotations

import os
import signal
import time

from benchmarks.gpu.plan import Part


class OutOfMemoryError(RuntimeError):
    """Named as torch's, which need not be loaded for it."""


def throws(report, size) -> None:
    report(reached=1)
    raise ValueError("a part that throws")


def out_of_memory(report, size) -> None:
    report(reached=2)
    raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def too_slow(report, size, seconds: float = 60.0) -> None:
    report(reached=3)
    time.sleep(seconds)


def killed(report, size) -> None:
    report(reached=4)
    os.kill(os.getpid(), signal.SIGKILL)


def leaves(report, size) -> None:
    report(reached=5)
    os._exit(7)


def fine(report, size, value: int = 1) -> None:
    report(value=value)
    report(pid=os.getpid())


def poisoned(report, size) -> None:
    """What CUDA says in a process that was forked from one which had touched the GPU; fine in a fresh one."""
    import multiprocessing

    if multiprocessing.get_start_method() == "fork":
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess.")
    report(started="afresh")


def starts_others(report, size) -> None:
    """A process of its own, which must not outlive the part."""
    import subprocess
    import sys

    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    report(other=process.pid)
    time.sleep(60)


def part(name: str, limit: float = 30.0, least: float = 0.0, required: bool = False, **arguments: object) -> Part:
    """A part out of this file's functions."""
    return Part(name, f"support.gpu_parts:{name}", limit, least, arguments, required)

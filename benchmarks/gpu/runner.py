"""Run the parts one after the other, each in a process with a time limit, and keep what each has reported.

Processes are forked from one that has imported everything but not touched the GPU, so that a part starts at once
instead of importing for 15 s. If a library has touched the GPU during import, a forked process cannot use it: the first
part shows that, and all parts are then started from scratch.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from launcher.errors import LauncherError

from . import child
from .plan import Part
from .results import Results
from .size import Size

TIMED_OUT, CRASHED, NO_TIME, INTERRUPTED = "timed out", "crashed", "no time left", "interrupted"
PRELOADED = (
    "benchmarks.gpu.parts.machine", "benchmarks.gpu.parts.planning", "benchmarks.gpu.parts.training",
    "benchmarks.gpu.parts.comfyui", "benchmarks.gpu.parts.parity", "benchmarks.gpu.parts.products",
    "benchmarks.gpu.parts.resume", "benchmarks.gpu.parts.quality", "training.data.prepare", "training.cache.write",
)  # fmt: skip
_POISONED = ("initialization error", "re-initialize cuda", "forked subprocess")
"""CUDA's error in a process that was forked from one that had touched the GPU."""
_FORGIVEN_S = 5.0
"""Time that a part may take between its last report and the end of its process [s]."""


class Runner:
    """Runs parts within a budget.

    Args:
        size: size of the run.
        results: where lines go.
        budget: total time of all parts [s].
        tell: takes lines of progress.
    """

    def __init__(self, size: Size, results: Results, budget: float, tell: Callable[[str], None] = print) -> None:
        self.size, self.results, self.tell = size, results, tell
        self.started = time.monotonic()
        self.deadline = self.started + budget
        self.machine = "CPU"
        self.method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"

    def run(self, parts: Sequence[Part]) -> bool:
        """Run unfinished parts; returns whether every part was done or could not be done on this machine.

        Required parts run each time: they identify the machine, and results of another machine do not count.
        """
        self._preload()
        for part in (part for part in parts if part.required):
            line = self._line(part)
            if line["status"] != child.DONE and self._may_be_poisoned(line):
                self.tell(f"{part.name}: a forked process cannot use the GPU; processes are started from scratch")
                self.method = "spawn"
                line = self._line(part)
            self.machine = line["figures"].get("gpu", self.machine)
            self._keep(line)
            if line["status"] != child.DONE:
                return False
        done = self.results.finished(self.size.name, self.machine)
        others = [part for part in parts if not part.required]
        for part in others:
            if part.name in done:
                self.tell(f"{part.name}: already there")
        waiting = [part for part in others if part.name not in done]
        statuses = []
        for place, part in enumerate(waiting):
            among = sum(other.shared for other in waiting[place:]) if part.shared else 1
            line = self._line(part, among)
            self._keep(line)
            statuses.append(line["status"])
        return all(status in (child.DONE, child.SKIPPED) for status in statuses)

    def _may_be_poisoned(self, line: dict) -> bool:
        """Whether a part failed that might run in an unforked process: CUDA says so, or sees no GPU at all."""
        on_gpu = self.size.device == "cuda"
        return self.method == "fork" and (on_gpu or any(text in line["error"].lower() for text in _POISONED))

    def _preload(self) -> None:
        # Makes torch ask the driver's management library for a GPU, so that forked processes can still use it.
        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
        try:
            with gpu_asked_of_the_driver():
                for name in PRELOADED:
                    importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise LauncherError(f"bench gpu needs the Python package {error.name}, which is not installed") from error
        # Existing objects stay shared with the forked processes, instead of being copied by the collector.
        gc.collect()
        gc.freeze()
        self.tell(f"[{self._now():4.0f} s] packages loaded")

    def _line(self, part: Part, among: int = 1) -> dict:
        """Run one part and return its line of the results."""
        left = self.deadline - time.monotonic()
        line = {"part": part.name, "size": self.size.name, "at": datetime.now(UTC).isoformat(timespec="seconds")}
        if left <= part.least:
            return {
                **line,
                "status": NO_TIME,
                "seconds": 0.0,
                "error": f"{max(0, left):.0f} s were left",
                "figures": {},
            }
        limit, started = min(part.limit * self.size.patience, left / among), time.monotonic()
        self.tell(f"[{self._now():4.0f} s] {part.name}: at most {limit:.0f} s")
        figures: dict = {}
        status, error, spent = INTERRUPTED, "the run was stopped", _cpu_of_children()
        try:
            status, error = self._watch(part, limit, figures)
        finally:
            seconds = {"seconds": time.monotonic() - started, "cpu_seconds": _cpu_of_children() - spent}
            line |= {"status": status, "error": error, "figures": figures}
            line |= {name: round(value, 2) for name, value in seconds.items()}
            if status == INTERRUPTED:
                self._keep(line)
        return line

    def _watch(self, part: Part, limit: float, figures: dict) -> tuple[str, str]:
        """Start a part's process and take its messages until it ends or its time is over; fills `figures`."""
        multiprocessing.set_start_method(self.method, force=True)
        until, size = time.monotonic() + limit, replace(self.size, seconds=limit)
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.Process(target=child.work, args=(theirs, part, size, self.results.log))
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # Python warns about the threads of libraries, which no part uses before it has started its own.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        theirs.close()
        end = None
        try:
            while end is None and (left := until - time.monotonic()) > 0:
                if not ours.poll(min(left, 1.0)):
                    continue
                try:
                    kind, *rest = ours.recv()
                except (EOFError, OSError):
                    break
                if kind == "figures":
                    figures.update(json.loads(json.dumps(rest[0], default=str)))
                else:
                    end = rest
            else:
                if end is None:
                    return TIMED_OUT, "stopped at its limit, or at the end of the budget"
            process.join(_FORGIVEN_S)
        finally:
            _end(process)
            ours.close()
        if end is None:
            return CRASHED, _how(process.exitcode)
        return end[0], end[1]

    def _keep(self, line: dict) -> None:
        self.results.add({**line, "machine": self.machine})
        self.tell(f"[{self._now():4.0f} s] {line['part']}: {line['status']} {line['error']}".rstrip())

    def _now(self) -> float:
        return time.monotonic() - self.started


@contextlib.contextmanager
def gpu_asked_of_the_driver() -> Iterator[None]:
    """Within the block, the GPU's compute capability comes from the driver's tool instead of CUDA.

    bitsandbytes queries it during import; a query through CUDA would leave forked processes without a GPU.
    """
    import torch

    asked = torch.cuda.get_device_capability
    if (capability := _compute_capability()) is not None:
        torch.cuda.get_device_capability = lambda device=None: capability
    try:
        yield
    finally:
        torch.cuda.get_device_capability = asked


def _compute_capability() -> tuple[int, int] | None:
    """(major, minor) of the first GPU, or None if `nvidia-smi` cannot tell."""
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
        major, minor = told.split()[0].split(".")
        return int(major), int(minor)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def _end(process: multiprocessing.Process) -> None:
    """Kill a process with everything that it has started, and wait for it: the next part needs its memory."""
    with contextlib.suppress(ProcessLookupError, PermissionError, AttributeError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.is_alive():
        process.kill()
    process.join()


def _cpu_of_children() -> float:
    """CPU time of ended child processes, including those that they had waited for [s]."""
    times = os.times()
    return times.children_user + times.children_system


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return f"ended by signal {-code} ({signal.Signals(-code).name})"
    return f"ended with exit code {code} before it was done"


def default_folder(root: Path, size: Size) -> Path:
    """Default folder for results."""
    return root / "output" / ("bench_gpu" if size.released else "bench_gpu_rehearsal")

"""What holds for every input: a result, or one line of the room's own error; in little time and memory."""

import resource
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

CPU_S, MEMORY_MB, LONGEST, MOST = 2.0, 500, 600, 4000
"""Bounds for one input: CPU time [s], growth of the process's peak [MB], length of a problem
in the message, and of a message with several."""
OWN_ERRORS = ("PlannerError", "LauncherError")
"""By name: as parts of the plugin, the classes are others than beside `training`."""


@dataclass(frozen=True)
class Target:
    """A parser.

    Args:
        name: of what it reads.
        good: inputs that it reads.
        broken: `(random) -> bytes`, a broken form of one of them.
        read: `(bytes, folder) -> result`; the folder is the target's own and is kept between inputs.
    """

    name: str
    good: Sequence[bytes]
    broken: Callable[[Random], bytes]
    read: Callable[[bytes, Path], object]


@dataclass
class Tally:
    """How often a target gave a result and how often an error, its largest costs, and what broke the law."""

    results: int = 0
    errors: int = 0
    slowest_s: float = 0.0
    largest_mb: float = 0.0
    broken: list[str] = field(default_factory=list)


class TooLong(BaseException):
    """An input took more CPU time than it may; no parser catches this."""


def peak_mb() -> float:
    """Largest memory that the process has had [MB]."""
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextmanager
def at_most(seconds: float):
    """Raise TooLong in the block after so much CPU time."""

    def stop(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def try_input(target: Target, data: bytes, folder: Path, tally: Tally, cpu_s: float = CPU_S) -> str:
    """Read one input; returns what broke the law, or an empty text."""
    before, start = peak_mb(), _cpu_s()
    fault = ""
    try:
        with at_most(5 * cpu_s), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.read(data, folder)
        tally.results += 1
    except TooLong:
        fault = f"took more than {5 * cpu_s:g} s"
    except Exception as error:
        if any(base.__name__ in OWN_ERRORS for base in type(error).__mro__):
            tally.errors += 1
            fault = _fault_of_message(str(error))
        else:
            fault = _fault_of_traceback(error)
    spent, grown = _cpu_s() - start, peak_mb() - before
    tally.slowest_s, tally.largest_mb = max(tally.slowest_s, spent), max(tally.largest_mb, grown)
    if not fault and spent > cpu_s:
        fault = f"took {spent:.1f} s of CPU time"
    if not fault and grown > MEMORY_MB:
        fault = f"took {grown:.0f} MB"
    return fault


def _fault_of_traceback(error: Exception) -> str:
    """Whatever it is, a user would see a traceback."""
    place = error.__traceback__
    while place.tb_next is not None:
        place = place.tb_next
    where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}"
    return f"{type(error).__name__} at {where}: {str(error)[:200]!r}"


def _fault_of_message(text: str) -> str:
    if not text.strip():
        return "an error without a message"
    longest = max(map(len, text.split("; ")))
    if longest > LONGEST or len(text) > MOST:
        return f"a message of {longest} characters: {text[:200]!r}"
    if any(not letter.isprintable() and letter not in "\u00a0\u3000" for letter in text):
        return f"control characters in the message {text[:200]!r}"
    return ""


def run(target: Target, seed: int, count: int, cpu_s: float = CPU_S, keep: Path | None = None) -> Tally:
    """Read `count` inputs from a seed on; the same seed gives the same inputs.

    Args:
        target: the parser.
        seed: number of the first input.
        count: how many.
        cpu_s: CPU time that an input may take [s].
        keep: folder for inputs that broke the law.
    """
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="visual-planner-fuzz-") as folder:
        for number in range(seed, seed + count):
            data = target.broken(Random(f"{target.name} {number}"))
            fault = try_input(target, data, Path(folder), tally, cpu_s)
            if fault:
                tally.broken.append(f"{target.name} input {number}: {fault}")
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{target.name.replace(' ', '_')}-{number}").write_bytes(data)
    return tally

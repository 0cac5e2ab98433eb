"""Every parser gives a result or one short line, for broken inputs that are the same in each run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from visual_planner.errors import PlannerError

from .core_targets import TARGETS as CORE
from .data_targets import TARGETS as DATA
from .law import Tally, Target, run, try_input
from .run_targets import TARGETS as RUNS

ROOT = Path(__file__).resolve().parents[2]
TARGETS = [*CORE, *DATA, *RUNS]
INPUTS = 40


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_good_inputs_are_read(target, tmp_path):
    """Else the broken ones would never come further than the good ones' error."""
    tally = Tally()
    for number, data in enumerate(target.good):
        (tmp_path / str(number)).mkdir()
        assert not try_input(target, data, tmp_path / str(number), tally)
    assert tally.results == len(target.good)


def test_broken_inputs_give_a_result_or_one_line(tmp_path):
    """In a process of its own, whose memory is its own as well."""
    command = [sys.executable, "-m", "tests.fuzz", "--inputs", str(INPUTS), "--cpu", "10", "--keep", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(TARGETS) * INPUTS} inputs, 0 broke the law" in done.stdout


def _broken(read, good=b"a"):
    target = Target("a", [good], lambda random: random.randbytes(3), lambda data, folder: read(data))
    return run(target, 0, 2, cpu_s=0.05).broken


class Uncut(PlannerError):
    """Without the base class's bound on the message."""

    __str__ = Exception.__str__


def _raises(error):
    def read(data):
        raise error

    return read


def _endless(data):
    while True:
        pass


def _greedy(data):
    return len(b"\1" * (600 * 2**20))


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (_raises(KeyError("x")), r"KeyError at test_fuzz\.py:\d+: \"'x'\""),
        (_raises(PlannerError("")), "an error without a message"),
        (_raises(Uncut("x" * 700)), "a message of 700 characters"),
        (_raises(ValueError("x")), "ValueError at"),
        (_endless, r"took more than 0\.25 s"),
    ],
)
def test_what_breaks_the_law_is_found(read, fault):
    broken = _broken(read)
    assert len(broken) == 2 and all(re.search(fault, text) for text in broken)


def test_memory_is_measured():
    assert _greedy(b"") > 0  # the growth of the peak: a process that had as much before shows none
    tally = Tally()
    try_input(Target("a", [], None, lambda data, folder: _greedy(data)), b"", ROOT, tally)
    assert tally.results == 1


def test_what_keeps_the_law_is_counted():
    tally = run(Target("a", [b""], lambda random: b"", lambda data, folder: None), 0, 5)
    assert (tally.results, tally.errors, tally.broken) == (5, 0, [])
    tally = run(Target("a", [b""], lambda random: b"", lambda data, folder: _raises(PlannerError("x"))(data)), 0, 5)
    assert (tally.results, tally.errors, tally.broken) == (0, 5, [])


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_same_number_gives_the_same_input(target):
    from random import Random

    assert [target.broken(Random(n)) for n in range(3)] == [target.broken(Random(n)) for n in range(3)]

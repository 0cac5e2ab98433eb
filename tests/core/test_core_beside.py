"""Commands beside a server: one after the other, stopped once, and never left behind."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runtime.beside import NEEDS, STAGE
from support.imports import ROOT

START = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; from runtime.beside import main; main(sys.argv[1:])"
ROOM = """
import os, pathlib, signal, sys, time
def main(arguments):
    what, place = arguments[0], pathlib.Path(arguments[1])
    with (place / "order").open("a") as file:
        file.write(what + " ")
    if what == "fail":
        print("error: rate must be positive, got -1", file=sys.stderr)
        return 2
    if what == "endless":
        (place / "endless").write_text(str(os.getpid()))
        while True:
            time.sleep(0.02)
    if what == "train":
        asked = []
        signal.signal(signal.SIGINT, lambda *_: asked.append(1))
        (place / "train").write_text(str(os.getpid()))
        while not asked:
            time.sleep(0.02)
        time.sleep(1.5)  # long enough for a second Ctrl-C, which would lose the step
        (place / "saved").write_text(str(len(asked)))
    return 0
"""
SERVER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[2:]], stdin=0, start_new_session=True)
time.sleep(600)
"""


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with a room of its own, `a_room`, which a child can import."""
    (tmp_path / "a_room").mkdir()
    (tmp_path / "a_room" / "__main__.py").write_text(ROOM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def commands(place: Path, *names: str) -> list[str]:
    return [json.dumps(["a_room", name, str(place)]) for name in names]


@contextmanager
def started(place: Path, *names: str) -> Iterator[subprocess.Popen]:
    """A child whose input stays open: its end is the sign to stop."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen([sys.executable, "-c", START, *commands(place, *names)], text=True, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


def wait_for(file: Path) -> None:
    end = time.monotonic() + 120
    while not (file.exists() and file.read_text()):
        assert time.monotonic() < end, f"{file.name} never came"
        time.sleep(0.05)


def test_commands_run_until_one_fails(place):
    with started(place, "first", "fail", "never") as process:
        assert process.wait(120) == 2
        assert process.stderr.read() == "error: rate must be positive, got -1\n"
        assert process.stdout.read() == f"{STAGE}0\n{STAGE}1\n"
    assert (place / "order").read_text() == "first fail "
    with started(place, "first", "last") as process:
        assert process.wait(120) == 0


def test_the_end_of_input_stops_once_and_lets_it_save(place):
    with started(place, "train", "export") as process:
        wait_for(place / "train")
        process.stdin.close()
        assert process.wait(120) == 130
    assert (place / "saved").read_text() == "1", "a second Ctrl-C would have lost the step"
    assert (place / "order").read_text() == "train ", "what comes after a stop must not run"


def test_a_command_that_saves_nothing_ends_in_one_line(place):
    with started(place, "endless") as process:
        wait_for(place / "endless")
        process.stdin.close()
        assert process.wait(120) == 130
        assert process.stderr.read() == "stopped\n"


def test_nothing_is_left_of_a_server_that_was_killed(place):
    """Even where the pipe stays open, because another child of the server's holds it."""
    read, write = os.pipe()
    server = subprocess.Popen([sys.executable, "-c", SERVER, START, *commands(place, "train", "export")], stdin=read)
    try:
        wait_for(place / "train")
        server.send_signal(signal.SIGKILL)
        server.wait()
        wait_for(place / "saved")
        pid = int((place / "train").read_text())
        end = time.monotonic() + 60
        while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
            assert time.monotonic() < end, "it goes on without its server"
            time.sleep(0.05)
    finally:
        server.kill()
        os.close(read)
        os.close(write)
    assert (place / "order").read_text() == "train "


@pytest.mark.parametrize("room", NEEDS)
def test_a_missing_extra_is_one_line_that_says_how_to_get_it(place, room):
    """A Python without any package: the standard library starts the process, and says what it lacks."""
    command = [sys.executable, "-S", "-c", START, json.dumps([room, "train", "--config", "none.yaml"])]
    read, write = os.pipe()  # an input that does not end
    try:
        done = subprocess.run(command, stdin=read, capture_output=True, text=True, timeout=120)
    finally:
        os.close(read)
        os.close(write)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {room} needs packages that {sys.executable} lacks ({', '.join(NEEDS[room])}): ")
    assert "pip install" in line and "VISUAL_PLANNER_TRAINING_PYTHON" in line


def test_what_is_looked_for_is_in_the_extras():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for room, extra in (("training", "train"), ("simulation", "simulation")):
        names = [name.partition(">")[0].partition("=")[0] for name in extras[extra]]
        assert {"pyyaml" if name == "yaml" else name for name in NEEDS[room]} <= set(names)

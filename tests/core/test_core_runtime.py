"""How commands run: exit codes and one line for every end, and outputs that one command writes at a time."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.entry import run_command
from runtime.locks import BusyError, output_lock
from support.imports import ROOT


class Known(Exception):
    pass


def raising(error):
    def step():
        raise error

    return step


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (Known("x must be 1, got 2"), 2, "error: x must be 1, got 2"),
        (BusyError("a is being written"), 2, "error: a is being written"),
        (OSError(28, "No space left on device", "/a/b"), 2, "error: the disk is full (/a/b): free some space and run"),
        (PermissionError(30, "Read-only file system", "/a"), 2, "error: no permission to write (/a): Read-only"),
        (KeyboardInterrupt(), 130, "halted"),
        (SystemExit(143), 143, "halted"),
    ],
)
def test_an_end_is_one_line_and_an_exit_code(error, code, line, capsys):
    assert run_command(raising(error), (Known,), stopped="halted") == code
    printed = capsys.readouterr().err
    assert printed.startswith(line) and printed.count("\n") == 1


@pytest.mark.parametrize("step", [lambda: None, lambda: 0])
def test_a_good_end_is_zero(step):
    assert run_command(step, (Known,)) == 0


@pytest.mark.parametrize(
    "error", [KeyError("a\nb"), RecursionError("deep"), ValueError("x" * 5000), TypeError("\x1b[31mred"), MemoryError()]
)
def test_what_nobody_foresaw_is_one_line_that_names_the_log(error, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run_command(raising(error), (Known,)) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: unexpected {type(error).__name__}") and printed.count("\n") == 1
    assert len(printed) < 800 and "\x1b" not in printed
    log = re.search(r"\(where it happened: (.*)\)$", printed.strip())[1]
    assert "Traceback" in Path(log).read_text() and type(error).__name__ in Path(log).read_text()


def test_debug_keeps_the_traceback(monkeypatch):
    monkeypatch.setenv("VISUAL_PLANNER_DEBUG", "1")
    with pytest.raises(KeyError):
        run_command(raising(KeyError("a")), (Known,))


HOLD = """
import sys
from runtime.locks import output_lock
with output_lock(sys.argv[1], "train"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the output `a/run`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "a" / "run")], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_command_is_refused_by_name_and_changes_nothing(holder, tmp_path):
    (tmp_path / "a" / "run").mkdir()
    before = sorted(tmp_path.rglob("*"))
    said = pytest.raises(BusyError, match=rf"a/run is being written by process {holder.pid} \(train, since 2")
    with said, output_lock(tmp_path / "a" / "run", "prepare"):
        pytest.fail("the lock was given twice")
    assert sorted(tmp_path.rglob("*")) == before
    with output_lock(tmp_path / "a" / "other", "prepare"):
        pass


def test_a_killed_holder_holds_nothing(holder, tmp_path):
    holder.kill()
    holder.wait()
    assert (tmp_path / "a" / ".run.lock").is_file()
    with output_lock(tmp_path / "a" / "run", "prepare"):
        pass
    assert list((tmp_path / "a").iterdir()) == []


def test_nothing_is_left_and_a_folder_that_the_command_made_is(tmp_path):
    with output_lock(tmp_path / "new" / "folders" / "run", "prepare"):
        assert (tmp_path / "new" / "folders" / ".run.lock").is_file()
    assert list(tmp_path.iterdir()) == []
    with output_lock(tmp_path / "new" / "run", "prepare"):
        (tmp_path / "new" / "run").mkdir()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["run"]


def test_what_a_killed_run_left_is_removed_and_nothing_else(tmp_path):
    run = tmp_path / "run"
    (run / "validation" / "00000010").mkdir(parents=True)
    strays = [tmp_path / ".run.part-123" / "frames", run / "validation" / "00000010" / ".a.png.abcd1234.part"]
    strays += [run / ".shard-0.safetensors.x_yz9876.part", tmp_path / ".run.abcd_123.part"]
    strays += [tmp_path / ".run.part" / name for name in (".done.json.abcd1234.part", "targets/.a.png.abcd1234.part")]
    others = [tmp_path / ".run.safetensors.abcd1234.part", run / "checkpoints" / ".00000002.part" / "weights"]
    others += [run / "a.part", tmp_path / ".other.part-123", tmp_path / ".run.part" / "done"]
    for file in strays + others:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    with output_lock(run, "cache"):
        assert [file for file in strays if file.exists()] == []
    assert [file for file in others if not file.exists()] == []


def test_a_place_that_cannot_hold_a_lock_is_left_to_the_command(tmp_path):
    (tmp_path / "file").touch()
    with output_lock(tmp_path / "file" / "run", "prepare"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "command",
    [
        "-m training prepare --source nowhere --out {out}",
        "-m training study ablation --out {out}",
        "-m simulation demonstrate --episodes 1 --out {out}",
        "-m worlds.metaworld demonstrate --runs 1 --seed 5000 --out {out}",
    ],
)
def test_commands_refuse_an_output_that_is_held(command, holder, tmp_path):
    arguments = command.format(out=tmp_path / "a" / "run").split()
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 2, done.stderr
    assert f"is being written by process {holder.pid} (train, since" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in (tmp_path / "a").iterdir()] == [".run.lock"]


def test_every_command_of_a_configuration_holds_what_it_writes(holder, tmp_path):
    """By the section's `out`, whatever the command; a command that writes nothing holds nothing."""
    from training.__main__ import CONFIGURED
    from training.sections.config import Config
    from training.sections.output import output_of

    sections = {name: field for name, field in Config.model_fields.items() if name in CONFIGURED}
    assert len(sections) >= 8
    for command in CONFIGURED:
        config = Config.model_construct(**{command: type("S", (), {"out": tmp_path / "a" / "run"})()})
        if command not in sections:
            assert command in ("report", "memory")
            continue
        with pytest.raises(BusyError), output_of(command, config):
            pytest.fail(f"{command} holds nothing")


def test_the_other_processes_of_a_launch_share_the_lock(holder, tmp_path, monkeypatch):
    from training.sections.output import hold

    monkeypatch.setenv("RANK", "1")
    with hold(tmp_path / "a" / "run", "train"):
        pass
    assert json.loads((tmp_path / "a" / ".run.lock").read_bytes()[1:])["pid"] == holder.pid != os.getpid()

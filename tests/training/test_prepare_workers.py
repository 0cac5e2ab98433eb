"""Prepare with several processes: the same files as one process makes, and no worker that outlives a killed run."""

import sys

import pytest

from support.groups import at_work, kill_head
from support.small_world import SPEC, write_episodes
from training.data.prepare import prepare
from training.sections.config import Config


def test_two_processes_write_what_one_writes(tmp_path):
    write_episodes(tmp_path / "episodes")
    for processes in (1, 2):
        section = {"source": tmp_path / "episodes", "out": tmp_path / str(processes), "processes": processes}
        section["validation_episodes"] = 1
        prepare(Config.model_validate({"spec": {**SPEC, "modes": ["text"]}, "prepare": section}))
    one, two = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.suffix in (".png", ".jsonl")}
        for folder in (tmp_path / "1", tmp_path / "2")
    )
    assert one == two and len(one) == 13


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups")
def test_no_worker_outlives_a_killed_run(tmp_path):
    write_episodes(tmp_path / "episodes", count=400)
    options = {"source": tmp_path / "episodes", "out": tmp_path / "pairs", "cell": "32x32", "processes": 2}
    done = tmp_path / ".pairs.part" / "done.jsonl"
    arguments = ["training", "prepare", *(f"--{name}={value}" for name, value in options.items())]
    with at_work(arguments, lambda: done.is_file() and done.read_bytes().count(b"\n") > 3) as process:
        kill_head(process)

"""Work divided into shards: the bytes of one process, in any order; what is missing, foreign or damaged is named."""

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from runtime.parts import Part, check_parts, make_record, parse_part, parts_folder, read_record
from support.small_world import config_for
from training.__main__ import main
from training.data import prepare as prepare_module
from training.evaluation import evaluate as evaluate_module
from training.evaluation.closed_loop import command as closed_loop_module
from training.planner.export import export
from training.planner.train import train
from training.sections.config import save_config
from visual_planner.execution.readout import ReadoutNet, ReadoutSpec

ROOT = Path(__file__).resolve().parents[2]
COUNT = 4


class Work:
    """A command that can be divided.

    Args:
        line: its arguments.
        out: what it writes.
        other: arguments that make something else of the same data.
        parts: folder in which its shards lie.
    """

    def __init__(self, line, out, other, parts=None):
        self.line, self.out, self.other = [str(word) for word in line], out, other
        self.parts = parts_folder(out) if parts is None else parts

    def run(self, *more):
        return main([*self.line, *more])

    def take(self):
        """What it has written, which then goes."""
        files = [self.out] if self.out.is_file() else [path for path in sorted(self.out.rglob("*")) if path.is_file()]
        held = {path.relative_to(self.out.parent).as_posix(): path.read_bytes() for path in files}
        self.out.unlink() if self.out.is_file() else shutil.rmtree(self.out)
        return held


@pytest.fixture(scope="module")
def planner(world, toy, asked, tmp_path_factory):
    """A LoRA of one step and a random read-out for the toy world."""
    config = config_for(world, max_steps=1, out=world / "shards_run")
    config.export.out = world / "shards.safetensors"
    train(config)
    export(config)
    folder = tmp_path_factory.mktemp("readout")
    torch.manual_seed(0)
    spec = ReadoutSpec(
        height=32, width=32, channels=(8, 8), points=4, view=asked[0].view, mean=(0.5, 0.5, 1.9), sees_camera=True
    )
    save_file(ReadoutNet(spec).state_dict(), folder / "readout.safetensors", metadata=spec.to_metadata())
    return config.export.out, folder


@pytest.fixture(scope="module", params=["prepare", "cache", "evaluate", "closed_loop"])
def work(request, world, tmp_path_factory):
    """Each of the commands on the small world (the closed loop in the toy world), and what one process gives."""
    config, tmp_path = config_for(world), tmp_path_factory.mktemp("work")
    file = tmp_path / "config.yaml"
    config.prepare.out, config.prepare.later_starts = tmp_path / "pairs", 1.0
    config.cache.out, config.cache.shard_size, config.cache.text_shard_size = tmp_path / "cache", 2, 3
    config.evaluate.out, config.evaluate.scenes, config.evaluate.pictures = tmp_path / "evaluation", 5, 3
    config.evaluate.batch_size, config.evaluate.steps, config.evaluate.baselines = 2, 1, False
    if request.param in ("evaluate", "closed_loop"):
        lora, readout = request.getfixturevalue("planner")
        config.evaluate.lora = lora
    save_config(config, file)
    if request.param == "closed_loop":
        toy_line = [
            *("evaluate", "--closed-loop", "--planner", world / "base", "--lora", lora, "--readout", readout),
            *("--world", "toy", "--mode", "text", "--batch-size", "1", "--no-base", "--json", tmp_path / "loop.json"),
        ]
        made = Work(toy_line, tmp_path / "loop.json", ["--first-seed", "5"])
        assert made.run() == 0
        made.one = made.take()
        return made
    settings = {"prepare": "prepare.frames=motion", "cache": "cache.batch_size=1", "evaluate": "evaluate.seed=1"}
    section = getattr(config, request.param)
    parts = section.out if request.param == "cache" else None
    made = Work([request.param, "--config", file], section.out, ["--set", settings[request.param]], parts)
    assert made.run() == 0
    made.one = made.take()
    return made


def test_shards_in_any_order_give_the_bytes_of_one_process(work, capsys):
    order = list(range(COUNT))
    random.Random(3).shuffle(order)
    for number in order:
        assert work.run("--shard", f"{number}/{COUNT}") == 0
    assert "--merge 4" in capsys.readouterr().out
    assert work.run("--merge", str(COUNT)) == 0
    assert work.take() == work.one
    left = [path.name for path in work.out.parent.iterdir()]
    assert left == ["config.yaml"], "nothing but the result is left"


def test_what_is_no_whole_division_is_named_and_nothing_is_written(work, capsys):
    def said(*more):
        assert work.run(*more) == 2
        text = capsys.readouterr().err
        assert text.count("error: ") == 1 and not (work.out.is_file() or (work.out / "manifest.json").exists())
        return text.rpartition("error: ")[2]

    assert "2 of 2 shards must still be made: 0/2, 1/2: run the same command with --shard 0/2" in said("--merge", "2")
    assert work.run("--shard", "0/2") == 0
    assert "1 of 2 shards must still be made: 1/2: run the same command with --shard 1/2" in said("--merge", "2")
    assert "shards 0/2 belong to another division of the work than 3" in said("--merge", "3")
    assert work.run("--shard", "1/2", *work.other) == 0
    foreign = said("--merge", "2")
    assert "shard 1/2 was made from something else (" in foreign and " instead of " in foreign
    assert foreign.rstrip().endswith("run it again with --shard 1/2")
    assert work.run("--shard", "1/2") == 0
    assert work.run("--merge", "2") == 0
    assert work.take() == work.one


def _break(work, number):
    """Turn a byte in the last file of a shard; its name."""
    if work.parts == work.out:
        record = read_record((work.out / f"shard-{Part(number, 2).name}.json").read_bytes())
        files = [work.out / name for name in record["files"]]
    else:
        files = [path for path in (work.parts / Part(number, 2).name).rglob("*") if path.name != "shard.json"]
        files = [path for path in sorted(files) if path.is_file()]
    data = bytearray(files[-1].read_bytes())
    data[len(data) // 2] ^= 1
    files[-1].write_bytes(data)
    return files[-1].name


def test_a_damaged_shard_is_named_and_made_again_alone(work, capsys):
    for number in range(2):
        assert work.run("--shard", f"{number}/2") == 0
    name = _break(work, 1)
    assert work.run("--merge", "2") == 2
    text = capsys.readouterr().err
    assert "damaged shards: 1/2 (" in text and name in text and "run the same command with --shard 1/2" in text
    assert work.run("--shard", "0/2") == 0
    whole = capsys.readouterr().out
    assert work.run("--shard", "1/2") == 0
    again = capsys.readouterr().out
    assert "recomputed" not in whole and "made again" not in whole
    assert "recomputed" in again or "made again" in again
    assert work.run("--merge", "2") == 0
    assert work.take() == work.one


def test_a_stopped_shard_resumes_alone(work, monkeypatch, capsys):
    """Stopped in the middle; what a kill leaves half written does not count."""
    assert work.run("--shard", "0/2") == 0
    with monkeypatch.context() as patch:
        _stop_after_one(patch)
        assert work.run("--shard", "1/2") == 130
    for name in ("done.jsonl", "rows.jsonl"):
        if (file := work.parts / Part(1, 2).name / name).is_file():
            file.write_bytes(file.read_bytes() + b'{"run": [3, "ri')
    assert work.run("--merge", "2") == 2
    text = capsys.readouterr().err
    assert "1 of 2 shards must still be made: 1/2" in text
    assert work.run("--shard", "1/2") == 0
    assert "resuming: 1 of" in capsys.readouterr().out or work.parts == work.out
    assert work.run("--merge", "2") == 0
    assert work.take() == work.one


def _stop_after_one(patch):
    """Let each command be stopped when it has finished one unit of its work."""

    def stop(place, name):
        done, real = [], getattr(place, name)

        def once(*values, **named):
            if done:
                raise KeyboardInterrupt
            done.append(1)
            return real(*values, **named)

        patch.setattr(place, name, once)

    from training.cache.write import Folder

    stop(prepare_module, "process")
    stop(Folder, "write_tensors")
    stop(evaluate_module, "_measure")
    stop(closed_loop_module, "draw_all")


def test_more_shards_than_work_are_whole_too(world, tmp_path):
    config = config_for(world)
    config.prepare.out = tmp_path / "pairs"
    save_config(config, tmp_path / "config.yaml")
    line = ["prepare", "--config", str(tmp_path / "config.yaml")]
    for number in range(9):
        assert main([*line, "--shard", f"{number}/9"]) == 0
    assert main([*line, "--merge", "9"]) == 0
    assert len((tmp_path / "pairs" / "pairs.jsonl").read_text().splitlines()) == 18


def test_a_broken_episode_stops_its_shard_or_is_left_out_alike(world, tmp_path, capsys):
    shutil.copytree(world / "episodes", tmp_path / "episodes")
    (tmp_path / "episodes" / "frames" / "000004.png").write_bytes(b"no picture")
    config = config_for(world)
    config.prepare.source, config.prepare.out = tmp_path / "episodes", tmp_path / "pairs"
    save_config(config, tmp_path / "config.yaml")
    work = Work(["prepare", "--config", tmp_path / "config.yaml"], tmp_path / "pairs", [])
    assert work.run("--shard", "0/2") == 0
    assert work.run("--shard", "1/2") == 2
    assert "1 of 3 episodes cannot be used: frames" in capsys.readouterr().err
    skip = ["--set", "prepare.broken=skip"]
    assert work.run(*skip) == 0
    one = work.take()
    for number in range(2):
        assert work.run(*skip, "--shard", f"{number}/2") == 0
    assert work.run(*skip, "--merge", "2") == 0
    assert work.take() == one and b"000004" in one["pairs/dataset.json"]


def test_a_launcher_divides_and_merges_by_itself(world, tmp_path):
    """`accelerate launch` starts two processes, which make one cache."""
    config = config_for(world)
    config.cache.out, config.cache.text_shard_size = tmp_path / "cache", 4
    save_config(config, tmp_path / "config.yaml")
    work = Work(["cache", "--config", tmp_path / "config.yaml"], tmp_path / "cache", [])
    assert work.run() == 0
    one = work.take()
    assert len([name for name in one if "/text-" in name]) == 4
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    done = subprocess.run(
        [*launch, "-m", "training", *work.line], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
        capture_output=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert work.take() == one
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_results_without_a_file_cannot_be_divided(capsys):
    assert main(["evaluate", "--closed-loop", "--shard", "0/2"]) == 2
    assert "--json must name a file where several processes evaluate" in capsys.readouterr().err


@pytest.mark.parametrize("count", [1, 2, 3, 7, 12])
def test_parts_leave_nothing_out_and_are_of_one_size(count):
    for size in range(12):
        items = list(range(size))
        parts = [Part(number, count).of(items) for number in range(count)]
        assert [item for part in parts for item in part] == items
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_part_is_what_a_scheduler_says():
    assert parse_part("2/4") == Part(2, 4) and str(Part(2, 4)) == "2/4"
    assert parse_part("auto", {"SLURM_PROCID": "3", "SLURM_NTASKS": "8"}) == Part(3, 8)
    both = {"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}
    assert parse_part("auto", both) == Part(1, 2)
    with pytest.raises(ValueError, match=r"needs a launcher's variables \(RANK/WORLD_SIZE, .*use --shard I/N"):
        parse_part("auto", {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "1"})


@pytest.mark.parametrize(
    "text", ["4/4", "-1/4", "1", "", "1/0", "a/b", "1/4/2", "0/100001", "\u0661/\u0664", "1 /4", "9" * 5000]
)
def test_other_parts_are_refused_in_one_line(text, capsys):
    assert main(["prepare", "--config", "none.yaml", f"--shard={text}"]) == 2
    line = capsys.readouterr().err
    assert "--shard must be I/N with I from 0 to N - 1" in line and line.count("\n") == 1 and len(line) < 300


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", "999999999999"])
def test_other_numbers_of_shards_are_refused_in_one_line(text, capsys):
    assert main(["cache", "--config", "none.yaml", f"--merge={text}"]) == 2
    assert "--merge must be the number of shards, 1 to 100000" in capsys.readouterr().err


def test_a_record_of_anything_else_counts_as_not_finished():
    good = json.loads(make_record("cache", Part(0, 1), {"seed": 1}, {"a": [1, "x"]}))
    assert read_record(json.dumps(good).encode()) == good
    for name, value in itertools.product(
        ("format", "version", "shard", "of", "files", "made_from"),
        (None, 1, "x", [], [1], {"a": 1}, {"a": [1]}, {"a": ["x", 1]}, 1e300),
    ):
        if (name, value) not in (("version", 1), ("shard", 1), ("of", 1)):
            found = read_record(json.dumps({**good, name: value}).encode())
            assert found is None or (name == "made_from" and isinstance(value, dict)), (name, value)
    for value in (None, 1, ["cache"]):
        assert read_record(json.dumps({**good, "command": value}).encode()) is None
    for name in ("", "..", "a/b", "a\\b", "a\0", 300 * "a", "\ud800"):
        assert read_record(json.dumps({**good, "files": {name: [1, "x"]}}).encode()) is None
    for data in (None, b"", b"{", b"[]", b"\xff\xfe"):
        assert read_record(data) is None
    with pytest.raises(RuntimeError, match="shard 0/1 must be of prepare, its record says 'cache' 0/1"):
        check_parts("prepare", 1, {Part(0, 1): good}, {"seed": 1}, RuntimeError)

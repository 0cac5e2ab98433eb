"""Training from the graph: a real process beside the server, stopped by Cancel, resumed, and its LoRA installed."""

import re
import sys
from types import SimpleNamespace
from typing import get_args

import pytest
import yaml

from support.small_world import SPEC, write_episodes

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(1800)]
RECIPE, DATA, RUN = "small", "three", "a_run"
MANY = 100_000


@pytest.fixture(scope="module")
def place(comfy, tiny_folder, tmp_path_factory):
    """The folder of trainings, with a recipe of the smallest kind on the random tiny base."""
    episodes = write_episodes(tmp_path_factory.mktemp("recorded") / "episodes", count=3)
    section = {"base": str(tiny_folder), "cache": "none", "out": "none", "base_dtype": "float32", "threads": 1}
    recipe = {
        "spec": {**SPEC, "base_model": "tiny_planner"},
        "prepare": {"source": str(episodes), "out": "none", "processes": 1},
        "cache": {"data": "none", "base": str(tiny_folder), "out": "none", "encode": "cells", "text_tokens": 0},
        "train": {**section, "lora": {"rank": 4, "alpha": 4}, "validation": {"scenes": 1, "batches": 1}},
    }
    folder = comfy.base / "user" / "__visual_planner" / "training"
    (folder / "recipes").mkdir(parents=True)
    (folder / "recipes" / f"{RECIPE}.yaml").write_text(yaml.safe_dump(recipe))
    return folder


@pytest.fixture(scope="module")
def data(comfy, place):
    """A data set, made of the recipe's own episodes by a process."""
    asked = {"recipe": RECIPE, "name": DATA, "source": "from the recipe", "episodes": 3, "held_out": 1, "data_seed": 1}
    return SimpleNamespace(asked=asked, made=comfy.execute("VisualPlannerTrainingData", **asked))


@pytest.fixture
def shown(comfy, monkeypatch):
    """What progress bars show: values, and pictures; `cancel_at` is the value at which Cancel is pressed."""
    import comfy.model_management
    import comfy.utils

    seen = SimpleNamespace(values=[], pictures=[], cancel_at=None)

    def hook(value, total, preview=None, node_id=None):
        comfy.model_management.throw_exception_if_processing_interrupted()
        seen.values.append(value)
        seen.pictures += [] if preview is None else [preview[1]]
        if seen.cancel_at is not None and value >= seen.cancel_at:
            seen.cancel_at = None
            comfy.model_management.interrupt_current_processing()

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    return seen


@pytest.fixture
def no_process(module, monkeypatch):
    """Nothing may be started."""

    def run(commands, look):
        raise AssertionError(f"started: {commands}")

    monkeypatch.setattr(module("nodes.comfy.processes.beside"), "run", run)


def files(folder):
    """Names of the files in a folder; other tests leave folders there."""
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def asked_to_train(steps, **more):
    inputs = {"recipe": RECIPE, "data": DATA, "name": RUN, "steps": steps, "validate_every": MANY, "start_lora": "none"}
    return {**inputs, "changes": "train.batch_size=1\n\n# a note\ntrain.optimizer.learning_rate=0.001", **more}


def test_a_data_set_is_made_once(comfy, data, no_process):
    name, sheet = data.made.result
    assert name == DATA and sheet.shape[-1] == 3 and sheet.min() < 0.9
    (text,) = data.made.ui["text"]
    assert text.startswith("three: 6 pairs to train on, 3 held out\n")
    again = comfy.execute("VisualPlannerTrainingData", **data.asked)
    assert again.result[0] == DATA and again.ui["text"] == data.made.ui["text"]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"episodes": 2}, r"data set three was made with episodes 3 instead of 2: choose another name"),
        ({"held_out": 3}, r"held_out must be less than episodes \(3\), got 3"),
        ({"source": "the web"}, "source must be one of simulated, from the recipe, got 'the web'"),
        ({"name": "../three"}, "name of the data set must be up to 64 letters, .* got '../three'"),
        ({"recipe": "/etc/passwd"}, "recipe must be one of .*tiny.*small.*, got '/etc/passwd'"),
    ],
)
def test_a_data_set_that_cannot_be_is_one_line(comfy, module, data, no_process, change, line):
    with pytest.raises(module("nodes.comfy.training.training_folders").TrainingNodeError, match=line) as caught:
        comfy.execute("VisualPlannerTrainingData", **{**data.asked, **change})
    assert "\n" not in str(caught.value)


def test_cancel_saves_and_the_next_run_resumes_and_installs(comfy, place, data, shown, folder, tiny_model, module):
    import comfy.model_management as management

    run = place / "runs" / RUN
    shown.cancel_at = 2
    with pytest.raises(management.InterruptProcessingException):
        comfy.execute("VisualPlannerTrain", **asked_to_train(MANY))
    assert not management.processing_interrupted(), "the next prompt would be cancelled, too"
    (saved,) = (int(path.name) for path in (run / "checkpoints").glob("[0-9]*"))
    assert 2 <= saved < MANY
    assert not files(folder), "nothing is installed of a run that is not finished"
    assert len(list((run / "validation" / "00000000").glob("*.png"))) == 2

    shown.values.clear()
    done = comfy.execute("VisualPlannerTrain", **asked_to_train(saved + 2))
    name, curve, plans = done.result
    assert files(folder) == [name] == [f"{RUN}.safetensors"]
    log = module("nodes.comfy.training.training_view").read_log(run)
    assert [step for step, _ in log.losses] == [saved + 1, saved + 2], "earlier steps were not trained again"
    assert set(shown.values) <= {0, *range(saved, saved + 3)} and shown.values[-1] == saved + 2
    assert curve.shape[2] == 480 and {picture.width for picture in shown.pictures} == {480}
    assert plans.shape == (1, 96, 96, 3)
    assert done.ui["text"][0].startswith(f"step {saved + 2} of {saved + 2}: loss ")
    planner, spec = comfy.call("VisualPlannerLoraLoader", model=tiny_model, lora_name=name)
    assert (spec.cell_height, spec.text_prompt) == (32, SPEC["text_prompt"]) and planner.patches


@pytest.fixture
def finished(comfy, place, folder):
    """A run that has been finished before, without the process that would do so again."""
    import torch
    from safetensors.torch import save_file

    run = place / "runs" / "finished"
    run.mkdir(parents=True, exist_ok=True)
    save_file({"a": torch.ones(2)}, run / "lora.safetensors", {"visual_planner.steps": "4"})
    return run


def test_a_file_of_another_origin_is_never_replaced(comfy, module, data, finished, folder, monkeypatch):
    folders = module("nodes.comfy.training.training_folders")
    monkeypatch.setattr(module("nodes.comfy.processes.beside"), "run", lambda commands, look: None)
    ask = asked_to_train(4, name="finished")
    target = folder / "finished.safetensors"
    target.write_bytes(b"somebody's")
    with pytest.raises(folders.TrainingNodeError, match="exists and is not what this run has installed"):
        comfy.execute("VisualPlannerTrain", **ask)
    assert target.read_bytes() == b"somebody's"
    target.unlink()
    assert comfy.execute("VisualPlannerTrain", **ask).result[0] == target.name
    assert target.read_bytes() == (finished / "lora.safetensors").read_bytes()
    comfy.execute("VisualPlannerTrain", **ask)  # its own may be replaced
    target.write_bytes(b"edited since")
    with pytest.raises(folders.TrainingNodeError, match="choose another name for the planner"):
        comfy.execute("VisualPlannerTrain", **ask)
    assert files(folder) == [target.name], "no temporary file is left"


def test_a_result_that_is_gone_is_made_again(comfy, module, data, finished, folder, monkeypatch):
    """ComfyUI asks before it takes what a node gave before."""
    monkeypatch.setattr(module("nodes.comfy.processes.beside"), "run", lambda commands, look: None)
    node = comfy.node("VisualPlannerTrain")
    ask = asked_to_train(4, name="finished")
    before = node.fingerprint_inputs(**ask)
    comfy.execute("VisualPlannerTrain", **ask)
    assert node.fingerprint_inputs(**ask) == before
    (folder / "finished.safetensors").unlink()
    assert node.fingerprint_inputs(**ask) != before
    assert node.fingerprint_inputs(recipe=None, name=None) == (0, 0), "inputs that other nodes give are not known yet"
    loader = comfy.node("VisualPlannerLoraLoader")
    assert loader.fingerprint_inputs(lora_name=None) == ()


def test_two_runs_in_one_folder_are_told_who_holds_it(comfy, module, place, data):
    from runtime.locks import output_lock

    with (
        output_lock(place / "runs" / "held", "training train"),
        pytest.raises(
            module("nodes.comfy.processes.beside").BesideError, match=r"held is being written by process \d+ \(training"
        ),
    ):
        comfy.execute("VisualPlannerTrain", **asked_to_train(1, name="held"))


def test_another_python_is_named_by_a_variable(comfy, module, data, monkeypatch, tmp_path):
    beside = module("nodes.comfy.processes.beside")
    monkeypatch.setenv(beside.PYTHON_VARIABLE, "/nowhere/python")
    with pytest.raises(beside.BesideError, match=f"{beside.PYTHON_VARIABLE} must name a Python .* got /nowhere/python"):
        comfy.execute("VisualPlannerTrain", **asked_to_train(1, name="other"))
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setenv(beside.PYTHON_VARIABLE, str(bare))
    with pytest.raises(
        beside.BesideError, match=r"training needs packages that .* lacks \(torch, .*pip install"
    ) as caught:
        comfy.execute("VisualPlannerTrain", **asked_to_train(1, name="other"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("train.out=/tmp/x", "changes must leave out train.out, which names files, which only the recipe may"),
        ("train.lora.init=/etc/x", "changes must leave out train.lora.init, which names files"),
        ("train.lora={base: /etc/x}", "changes must leave out train.lora.base, which names files"),
        ("train.cache.a=1", "changes must leave out train.cache, which names files"),
        ("train.max_steps=3", "changes must leave out train.max_steps, which is set by the node"),
        ("export.out=/tmp/x", "changes must be lines such as train.batch_size=2, got 'export.out=/tmp/x'"),
        ("--config=/tmp/x", "changes must be lines such as"),
        ("train.batch_size", "changes must be lines such as"),
    ],
)
def test_a_workflow_changes_no_file_of_a_recipe(module, line, reason):
    with pytest.raises(module("nodes.comfy.training.training_folders").TrainingNodeError, match=re.escape(reason)):
        module("nodes.comfy.training.training_run").allowed_changes(f"train.seed=1\n{line}")


def test_every_key_that_names_a_file_is_left_to_the_recipe(module):
    from training.sections.planner import TrainSection

    def paths(section, prefix=""):
        for name, field in section.model_fields.items():
            if hasattr(field.annotation, "model_fields"):
                yield from paths(field.annotation, f"{prefix}{name}.")
            elif "Path" in str(field.annotation) or any("Path" in str(part) for part in get_args(field.annotation)):
                yield f"{prefix}{name}"

    assert sorted(paths(TrainSection)) == sorted(module("nodes.comfy.training.training_run").FILES)


@pytest.mark.parametrize("name", ["a", "klein_4b-v2.1", "\u30d7\u30e9\u30f3\u30ca\u30fc", "9"])
def test_names_of_folders(module, name):
    assert module("nodes.comfy.training.training_folders").plain_name(name, "name") == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".a", "a/b", "a\\b", "C:a", "a.", "a b", "nul", "COM1.x", "x" * 65, "a\n", 3, None]
)
def test_names_that_could_lead_elsewhere(module, name):
    folders = module("nodes.comfy.training.training_folders")
    with pytest.raises(folders.TrainingNodeError, match="^name must be up to 64 letters"):
        folders.plain_name(name, "name")


def test_no_route_is_added(repository):
    """What a training needs goes through nodes: a route would need a token."""
    sources = [file.read_text(encoding="utf-8") for file in (repository / "nodes").rglob("*.py")]
    assert len(sources) > 40 and not [text for text in sources if "PromptServer" in text or ".routes" in text]


def test_a_log_is_read_while_it_is_written(module, tmp_path):
    view = module("nodes.comfy.training.training_view")
    assert view.read_log(tmp_path).step == 0
    lines = [
        '{"step": 0, "validation_loss": 0.5}',
        '{"step": 1, "loss": 0.4, "seconds": 2.5}',
        '{"step": 2, "loss": NaN}',
    ]
    lines += [
        '{"step": true, "loss": 1}',
        "[1]",
        "\x00\x00}",
        '{"step": 1' + "0" * 400 + ', "loss": 1}',
        '{"step": 3, "lo',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    log = view.read_log(tmp_path)
    assert (log.losses, log.held_out, log.seconds) == ([(1, 0.4)], [(0, 0.5)], 2.5)
    assert view.figures(log) == "loss 0.4000, on held-out pairs 0.5000, 2 s of training"
    assert view.newest_pictures(tmp_path, beside=True) == []

"""The run's own record: whatever is edited in the configuration, a file says what was trained, or there is none."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from pydantic import BaseModel
from safetensors import safe_open
from safetensors.torch import load_file

from support.small_world import config_for
from training.errors import TrainingError
from training.loop.checkpoints import latest_checkpoint, list_checkpoints
from training.loop.record import FREE, RUN, check_record, content_digest, differences, make_record
from training.planner.export import export, run_record
from training.planner.train import DECIDES_NOTHING, make_loop, train
from training.sections.config import Config
from training.sections.planner import TrainSection
from visual_planner.planner.spec import NOT_TRAINED, SPEC_KEY, PlannerSpec

HARMLESS = FREE | {*DECIDES_NOTHING}
PATHS = {"base", "cache", "lora.base", "lora.init"}
"""Compared by what they hold, not by where it lies; see the tests below."""
OTHER = {
    "keyframes": "shape",
    "order": "raster",
    "modes": ["text"],
    "condition_tokens": "full_grid",
    "position_ids": "kontext",
    "overlay": "arrows_rt1",
    "overlay_color_by": "arc",
    "rows": 9,
    "cols": 1,
    "cell_height": 48,
    "cell_width": 48,
    "fit": "crop",
    "family": "flux2",
    "cfg": 4.0,
}


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    """A run of two steps, its configuration and its exported file."""
    folder = tmp_path_factory.mktemp("record")
    config = config_for(world, out=folder / "lora", max_steps=2, ema_decay=0.5)
    config.export.out = folder / "planner.safetensors"
    train(config)
    export(config)
    return folder, config, config.export.out.read_bytes()


def leaves(model: type[BaseModel], prefix: str = ""):
    """Dotted names of all settings of a section."""
    for name, field in model.model_fields.items():
        inner = next((k for k in (field.annotation, *get_args(field.annotation)) if _is_section(k)), None)
        if inner is None:
            yield prefix + name
        else:
            yield from leaves(inner, f"{prefix}{name}.")


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def other(value: object, name: str) -> object:
    """Another value of the kind, for a setting."""
    if name.split(".")[-1] in OTHER:
        return OTHER[name.split(".")[-1]]
    choices = {
        "timesteps": "logit_normal", "name": "muon", "targets": "blocks", "quantize": "int8", "base_dtype": "bfloat16",
        "mixed_precision": "bf16", "matmul_precision": "medium", "device": "cpu", "mode_weights": {"text": 2.0},
        "betas": [0.8, 0.9], "guidance": [2.0, 3.0], "changes": ["seed"], "dtype": "bfloat16", "ema_decay": 0.25,
        "max_hours": 1.0, "run_hours": 2.0, "max_epochs": 50.0, "max_steps": 3, "out": Path("elsewhere"),
    }  # fmt: skip
    short = name.split(".")[-1]
    if short in choices:
        return choices[short]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return 0.5 * value if value else 0.25
    raise AssertionError(f"no other value known for {name}: {value!r}")


def changed(config: Config, section: str, name: str) -> Config:
    """The configuration with one setting of a section changed."""
    data = config.model_dump(mode="python")
    if name == "optimizer.decay_hours":
        data[section]["run_hours"] = 1.0  # which it is a part of
    *parents, last = name.split(".")
    place = data[section]
    for parent in parents:
        place = place[parent]
    place[last] = other(place[last], name)
    return Config.model_validate(data)


SETTINGS = sorted(set(leaves(TrainSection)) - PATHS)


def test_every_setting_is_tried():
    assert len(SETTINGS) > 35 and {"lora.alpha", "lora.rank", "optimizer.betas", "seed"} <= set(SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
def test_export_is_the_same_file_or_refused_with_the_fields_name(run, name):
    folder, config, expected = run
    edited = changed(config, "train", name)
    if name.split(".")[0] in HARMLESS or name == "batch_size":  # a batch may be shared out over processes
        export(edited)
    else:
        with pytest.raises(TrainingError, match=rf"^train\.{name}\S* must be .*, as when .* was trained, got "):
            export(edited)
    assert (folder / "planner.safetensors").read_bytes() == expected


@pytest.mark.parametrize("name", sorted({field.name for field in fields(PlannerSpec)} - {"version", *NOT_TRAINED}))
def test_export_under_another_spec_is_refused(run, name):
    folder, config, expected = run
    spec = json.loads(config.planner_spec().to_metadata()["visual_planner.spec"])
    text = isinstance(spec[name], str) and name not in OTHER
    spec[name] = 1.0 if name == "guidance" else f"{spec[name]} too" if text else other(spec[name], name)
    try:
        edited = config.model_copy(update={"spec": spec})
        edited.planner_spec()
    except ValueError:
        pytest.fail(f"{name}: the changed spec must be a valid one")
    with pytest.raises(TrainingError, match=rf"^spec\.{name} must be .*, as when .* was trained, got "):
        export(edited)
    assert (folder / "planner.safetensors").read_bytes() == expected


def test_what_execution_asks_may_be_set_after_training(run, tmp_path):
    """The weights are the run's, and the file says how many steps were found to be enough."""
    folder, config, _ = run
    spec = {**config.spec, "execution_steps": 1}
    edited = config.model_copy(
        update={"spec": spec, "export": config.export.model_copy(update={"out": tmp_path / "planner.safetensors"})}
    )
    export(edited)
    headers, tensors = [], []
    for file in (folder / "planner.safetensors", edited.export.out):
        with safe_open(file, "pt") as opened:
            headers.append(opened.metadata())
        tensors.append(load_file(file))
    before, after = (PlannerSpec.from_metadata(header) for header in headers)
    assert after == replace(before, execution_steps=1) != before
    assert headers[0] | {SPEC_KEY: ""} == headers[1] | {SPEC_KEY: ""}
    assert tensors[0].keys() == tensors[1].keys() and all(torch.equal(tensors[0][k], tensors[1][k]) for k in tensors[0])


def test_export_needs_neither_the_base_nor_the_configuration_of_the_run(run):
    folder, config, expected = run
    export(Config(export=config.export))
    assert (folder / "planner.safetensors").read_bytes() == expected


@pytest.mark.parametrize("name", SETTINGS)
def test_a_resume_goes_on_or_is_refused_with_the_fields_name(run, name):
    _, config, _ = run
    edited = changed(config, "train", name)
    try:
        loop = make_loop(edited)
    except (TrainingError, ValueError) as error:  # settings that cannot be computed with here
        assert name.split(".")[-1] in str(error) or "bitsandbytes" in str(error) or "GPU" in str(error), error
        return
    if name == "out":
        loop.resume()
        assert loop.step == 0  # another run
    elif name.split(".")[0] in HARMLESS:
        loop.resume()
        assert loop.step == 2
    else:
        with pytest.raises(TrainingError, match=rf"^train\.{name}\S* must be .*, as when .* was trained, got "):
            loop.resume()


def test_a_change_that_is_asked_for_is_noted(world, tmp_path):
    config = config_for(world, out=tmp_path / "lora", max_steps=1)
    train(config)
    changes = {"optimizer": config.train.optimizer.model_copy(update={"learning_rate": 0.002}), "max_steps": 2}
    edited = config.model_copy(update={"train": config.train.model_copy(update=changes)})
    with pytest.raises(TrainingError, match=r"on purpose, add 'optimizer\.learning_rate' to train\.changes"):
        train(edited)
    edited.train.changes = ["optimizer"]
    train(edited)
    state = json.loads((latest_checkpoint(tmp_path / "lora") / "state.json").read_text())
    assert state["step"] == 2
    expected = {"step": 1, "field": "train.optimizer.learning_rate", "from": 0.01, "to": 0.002}
    assert state[RUN]["changes"] == [expected]
    edited.export.run, edited.export.out = tmp_path / "lora", tmp_path / "planner.safetensors"
    export(edited)
    assert edited.export.out.is_file()


@pytest.mark.parametrize("name", ["lora.alpha", "lora.targets"])
def test_what_the_weights_mean_cannot_be_changed(world, tmp_path, name):
    config = config_for(world, out=tmp_path / "lora", max_steps=1)
    train(config)
    edited = changed(config, "train", name)
    edited.train.changes = [name, "lora"]
    loop_or_error = pytest.raises(TrainingError, match=rf"train\.{name} must be|belongs to another model")
    with loop_or_error:
        train(edited)


def test_another_base_of_the_same_shape_is_refused(run, tmp_path):
    import shutil

    from safetensors.torch import save_file

    _, config, _ = run
    base = tmp_path / "base"
    shutil.copytree(config.train.base, base)
    moved = config.model_copy(update={"train": config.train.model_copy(update={"base": base})})
    loop = make_loop(moved)
    loop.resume()  # where it lies does not matter
    file = base / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    loop = make_loop(moved)
    with pytest.raises(TrainingError, match=r"train\.base has other contents than when .* was trained"):
        loop.resume()


def test_a_checkpoint_of_an_older_version_is_adopted_on_request(world, tmp_path):
    config = config_for(world, out=tmp_path / "lora", max_steps=1)
    train(config)
    state = latest_checkpoint(tmp_path / "lora") / "state.json"
    old = json.loads(state.read_text())
    state.write_text(json.dumps({k: v for k, v in old.items() if k not in (RUN, "date")}))
    config.train.max_steps = 2
    config.export.run = tmp_path / "lora"
    for command in (train, export):
        with pytest.raises(TrainingError, match=r"has no record of its settings .*changes=\[record\]"):
            command(config)
    config.train.changes = ["record"]
    train(config)
    config.train.changes = []
    config.export.out = tmp_path / "planner.safetensors"
    export(config)
    assert len(list_checkpoints(tmp_path / "lora")) == 2


def test_contents_count_and_places_do_not(tmp_path):
    from safetensors.torch import save_file

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_file({"w": torch.zeros(4_000_000)}, tmp_path / name / "weights.safetensors")
        (tmp_path / name / "config.json").write_text("{}")
    assert content_digest(tmp_path / "a") == content_digest(tmp_path / "b")
    first = content_digest(tmp_path / "a")
    save_file({"w": torch.ones(4_000_000)}, tmp_path / "a" / "weights.safetensors")
    assert content_digest(tmp_path / "a") != first
    (tmp_path / "b" / "config.json").write_text('{"x": 1}')
    assert content_digest(tmp_path / "b") != first


def test_records_differ_by_dotted_names():
    section = TrainSection(base=Path("b"), cache=Path("c"), out=Path("o"))
    one = make_record("train", section, {}, PlannerSpec(), shares=None)
    two = make_record(
        "train", section.model_copy(update={"seed": 5, "max_steps": 7}), {}, PlannerSpec(rows=2), shares=None
    )
    assert {"train.seed", "spec.rows"} <= differences(one, two).keys()
    assert not any("max_steps" in name for name in differences(one, two))
    assert differences(one, make_record("train", section, {}, PlannerSpec(), processes=1, shares=None)) == {}


def test_a_record_of_an_older_spec_version_goes_on():
    """What a new version of the spec adds is no change of a run that was started before it."""
    now = make_record("train", TrainSection(base=Path("b"), cache=Path("c"), out=Path("o")), {}, PlannerSpec())
    old = json.loads(json.dumps(now))
    for name in ("family", "cfg", "keyframes", "execution_steps", "goal_prompt"):
        del old["spec"][name]
    old["spec"]["version"] = 2
    assert check_record(old, now, Path("x"), [], 1) == now
    assert run_record({RUN: old}, Path("x"))["spec"] == now["spec"]
    fewer = {**now, "spec": {**now["spec"], "execution_steps": 2}}
    assert check_record(old, fewer, Path("x"), [], 1) == fewer
    old["spec"]["rows"] = 2
    with pytest.raises(TrainingError, match=r"spec\.rows must be 2, as when"):
        check_record(old, now, Path("x"), [], 1)


def test_settings_that_decide_nothing_change_nothing(world, tmp_path):
    """A run that is resumed under all of them ends with the weights of one that was never stopped, bit for bit."""
    whole = config_for(world, out=tmp_path / "whole", max_steps=3, ema_decay=0.5)
    train(whole)
    train(config_for(world, out=tmp_path / "parts", max_steps=1, ema_decay=0.5))
    other_settings = {
        "save_every": 1, "log_every": 2, "keep": 3, "gradient_checkpointing": True, "max_hours": 1.0, "run_hours": 2.0,
        "offload": 2,
        "validation": {"every": 1, "scenes": 1, "batches": 1},
    }  # fmt: skip
    train(config_for(world, out=tmp_path / "parts", max_steps=3, ema_decay=0.5, **other_settings))
    for part in ("weights", "averaged", "optimizer"):
        one, two = (
            load_file(latest_checkpoint(tmp_path / name) / f"{part}.safetensors") for name in ("whole", "parts")
        )
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one), part


@pytest.mark.parametrize("section", ["vae", "pretrain"])
def test_other_trainings_refuse_changed_settings_too(world, tmp_path, section):
    from training.tiny_base.pretrain import pretrain
    from training.tiny_base.vae import train_vae

    config = config_for(world)
    changes = {"out": tmp_path / "run", "max_steps": 1}
    if section == "pretrain":
        changes |= {"vae": world / "base" / "vae", "base": tmp_path / "base"}
    config = config.model_copy(update={section: getattr(config, section).model_copy(update=changes)})
    run_training = {"vae": train_vae, "pretrain": pretrain}[section]
    run_training(config)
    longer = getattr(config, section).model_copy(update={"max_steps": 2, "seed": 9})
    with pytest.raises(TrainingError, match=rf"^{section}\.seed must be 0, as when .* was trained, got 9"):
        run_training(config.model_copy(update={section: longer}))
    run_training(config.model_copy(update={section: longer.model_copy(update={"seed": 0})}))
    assert json.loads((latest_checkpoint(tmp_path / "run") / "state.json").read_text())["step"] == 2

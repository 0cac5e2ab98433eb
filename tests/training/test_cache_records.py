"""Caches and checkpoints of others: any value in any field is taken or refused in one line, and no name is a path."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from runtime.names import is_file_name
from support.small_world import SPEC
from training.cache.mixture import Mixture
from training.cache.read import FORMAT, Cache
from training.errors import TrainingError
from training.files import file_name
from training.loop.checkpoints import load_checkpoint, save_checkpoint
from training.planner.validation import Validation
from visual_planner.errors import PlannerError
from visual_planner.planner.spec import PlannerSpec

VALUES = [
    None, True, -1, 2**40, 10**400, 1.5, 1e400, "x", "x" * 10**6, "../x", "/etc/passwd", "a\x1b[2Jb", [], {}, [[]],
    [-1, "x"], ["../x"], {"a": 1}, {"../x": [1, "a"]}, {"targets": ["../a"], "conditions": ["b"]}, "\ud800", [None] * 9,
]  # fmt: skip
NAMES = [
    "../scene",
    "/absolute/scene",
    "a/b",
    "a\\b",
    "..",
    ".",
    "",
    "C:x",
    "a\nb",
    "\x1b[31m",
    "x" * 201,
    "é" * 101,
    "\ud800",
]


@pytest.fixture
def cache(tmp_path):
    """A cache of two pairs, written by hand."""
    folder, spec = tmp_path / "cache", PlannerSpec(**SPEC)
    folder.mkdir()
    size = (2, 16, *spec.latent_size)
    for kind in ("targets", "conditions"):
        save_file({"latents": torch.zeros(size, dtype=torch.float16)}, folder / f"{kind}-00000.safetensors")
    save_file({"states": torch.zeros(2, 4, 8), "pooled": torch.zeros(2, 8)}, folder / "text-00000.safetensors")
    manifest = {
        "format": FORMAT, "version": 2, "spec": asdict(spec), "encoders": {}, "settings": {}, "pairs": 2,
        "empty_prompt": 0, "shard_size": 2, "text_shard_size": 2, "files": {},
        "shards": {kind: [f"{kind}-00000.safetensors"] for kind in ("text", "targets", "conditions")},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    line = {"id": "a_text", "mode": "text", "split": "validation", "target": 1, "condition": 1, "text": 1}
    (folder / "pairs.jsonl").write_text(json.dumps(line) + "\n" + json.dumps({**line, "id": "b_text"}) + "\n")
    return folder


def change(folder, name, field, value):
    lines = [json.loads(line) for line in (folder / name).read_text().split("\n") if line]
    lines[0] = {**lines[0], field: value} if value != "remove" else {k: v for k, v in lines[0].items() if k != field}
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


def refused(read):
    try:
        return read(), False
    except PlannerError as error:
        assert str(error).isprintable() and len(str(error)) < 600
        return None, True


def test_the_cache_itself_is_read(cache):
    made = Cache(cache)
    assert [pair["id"] for pair in made.pairs] == ["a_text", "b_text"]
    assert made.latents("targets", 1).shape[0] == 16 and made.text(1)[0].shape == (4, 8)
    assert made.verify() == []


@pytest.mark.parametrize("name", ["manifest.json", "pairs.jsonl"])
def test_any_value_in_any_field_is_taken_or_refused_in_one_line(cache, name):
    whole = (cache / name).read_text()
    record = json.loads(whole.split("\n")[0])
    for field in record:
        for value in [*VALUES, "remove"]:
            change(cache, name, field, value)
            made, _ = refused(lambda: Cache(cache))
            if made is not None:
                for pair in made.pairs:
                    refused(
                        lambda pair=pair, made=made: (made.latents("targets", pair["target"]), made.text(pair["text"]))
                    )
                    refused(lambda pair=pair, made=made: made.latents("conditions", pair["condition"]))
                made.verify()
            (cache / name).write_text(whole)


@pytest.mark.parametrize("text", ["[" * 10**5, "{", "[]", "3", "\xff", '{"a": ' + "9" * 5000 + "}"])
@pytest.mark.parametrize("name", ["manifest.json", "pairs.jsonl"])
def test_what_is_no_record_is_one_line(cache, name, text):
    (cache / name).write_bytes(text.encode("latin-1"))
    assert refused(lambda: Cache(cache))[1]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_of_a_cache_is_a_path(cache, name):
    change(cache, "pairs.jsonl", "id", name)
    with pytest.raises(TrainingError, match=r"pairs\.jsonl line 1"):
        Cache(cache)


@pytest.mark.parametrize("name", NAMES)
def test_validation_writes_nothing_outside_its_folder(tmp_path, name):
    """Even for pairs that came past the reader."""
    validation = Validation.__new__(Validation)
    spec = PlannerSpec(**SPEC)
    picture = np.zeros((*spec.grid_size, 3), np.uint8)
    validation.mixture, validation.spec = SimpleNamespace(spec=spec, name="cache"), spec
    validation.section = SimpleNamespace(validation=SimpleNamespace(seed=0))
    validation.scenes, validation.folder = [{"id": name, "mode": "text"}], tmp_path / "run" / "validation"
    validation.given, validation.truth = [picture], [picture]
    loop = SimpleNamespace(step=1, log=None)
    if is_file_name(f"{name}_seed0"):
        validation._write(loop, [picture])
        assert all(path.parent == validation.folder / "00000001" for path in tmp_path.rglob("*.png"))
        return
    with pytest.raises(TrainingError, match="must be a plain file name"):
        validation._write(loop, [picture])
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    "name", ["a", "a.b", "pick up the cube", "\u6293\u4f4f\u65b9\u5757", "é" * 100, "ab:c", "-x", "x" * 200, "%2F"]
)
def test_plain_names_of_any_script_are_names(name):
    assert file_name(name, "id") == name


@pytest.mark.parametrize("name", [*NAMES, None, 3, [], True])
def test_other_names_are_none(name):
    with pytest.raises(TrainingError, match="id must be a plain file name of at most 200 bytes") as caught:
        file_name(name, "id")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 250


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_row_that_is_not_finite_is_named(cache, value):
    tensors = torch.zeros((2, 16, *PlannerSpec(**SPEC).latent_size), dtype=torch.float16)
    tensors[1, 3, 0, 0] = value
    save_file({"latents": tensors}, cache / "targets-00000.safetensors")
    assert Cache(cache).latents("targets", 0).isfinite().all()
    with pytest.raises(TrainingError, match=r"targets-00000\.safetensors: row 1 of latents must have finite values"):
        Cache(cache).latents("targets", 1)


def test_shards_of_other_tensors_are_named(cache):
    save_file({"other": torch.zeros(2, 3)}, cache / "targets-00000.safetensors")
    with pytest.raises(TrainingError, match="has no row 1 of latents"):
        Cache(cache).latents("targets", 1)
    save_file({"latents": torch.zeros(1, 16, 8, 8)}, cache / "targets-00000.safetensors")
    with pytest.raises(TrainingError, match="has no row 1 of latents"):
        Cache(cache).latents("targets", 1)
    save_file({"latents": torch.zeros(2, 16)}, cache / "targets-00000.safetensors")
    with pytest.raises(TrainingError, match="row 1 of latents must have 3 dimensions, got 1"):
        Cache(cache).latents("targets", 1)


def test_a_base_without_safetensors_cannot_pass_for_the_one_of_a_cache(cache, tmp_path):
    for part in ("vae", "text_encoder", "text_encoder_2"):
        (tmp_path / "base" / part).mkdir(parents=True)
        (tmp_path / "base" / part / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(TrainingError, match="must have weights as safetensors"):
        Mixture([Cache(cache)]).check_encoders(tmp_path / "base")


@pytest.fixture
def checkpoint(tmp_path):
    run = {"kind": "train", "spec": None, "settings": {"lora": {}}, "inputs": {"cache": "sha256:0"}}
    record = {"seconds": 1.5, "optimizers": [[{"k": 3, "d": 0.5}]], "run": run}
    parts = {
        "weights": {"a": torch.ones(2)},
        "optimizer": {"0.0.step": torch.ones(1)},
        "averaged": {"a": torch.ones(2)},
    }
    return save_checkpoint(tmp_path, 4, parts, record, 2)


@pytest.mark.parametrize("field", ["step", "seconds", "optimizers", "run", "date", "scaler"])
def test_any_value_in_a_checkpoints_record_is_taken_or_refused_in_one_line(checkpoint, field):
    assert load_checkpoint(checkpoint)[1]["step"] == 4
    for value in VALUES:
        record = json.loads((checkpoint / "state.json").read_text())
        (checkpoint / "state.json").write_text(json.dumps({**record, field: value}))
        _, was_refused = refused(lambda: load_checkpoint(checkpoint))
        fine = (
            field == "date"
            or (field in ("run", "scaler") and value is None)
            or (field == "seconds" and value in (1.5, 2**40))
        )
        fine |= (field == "optimizers" and value in ([], [[]])) or (field == "scaler" and value in ({}, {"a": 1}))
        assert was_refused is not fine, (field, value)
        (checkpoint / "state.json").write_text(json.dumps(record))


@pytest.mark.parametrize("name", ["weights", "averaged"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_checkpoint_of_weights_that_are_no_numbers_is_refused(checkpoint, name, value):
    save_file({"a": torch.tensor([1.0, value])}, checkpoint / f"{name}.safetensors")
    with pytest.raises(TrainingError, match=f"has 1 {name} that are not finite"):
        load_checkpoint(checkpoint)

"""Bases are read from this disk alone, as safetensors alone, and a broken one is one line."""

import ast
import shutil
import socket

import pytest
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from transformers import AutoTokenizer

from support.imports import ROOT
from training.errors import TrainingError
from training.model.bases.pretrained import load_tokenizer, load_weights
from training.tiny_base.parts import make_transformer

DOORS = {"training/model/bases/pretrained.py", "nodes/comfy/tiny/tiny_qwen.py"}  # a node has no `training`
ROOMS = ("visual_planner", "runtime", "nodes", "simulation", "worlds", "training", "launcher", "benchmarks")
UNPICKLING = {
    ("torch", "load"),
    ("pickle", "load"),
    ("joblib", "load"),
}  # of files; processes of ours may talk in pickles


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("base") / "transformer"
    make_transformer(1, 2, 2).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "transformer")


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments, **settings):
        raise AssertionError(f"asked the network: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def calls(path):
    """(what, name, keywords) of every call of an attribute in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            yield owner, node.func.attr, {keyword.arg for keyword in node.keywords}


def test_nothing_else_opens_weights():
    seen = set()
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            for owner, called, keywords in calls(path):
                assert (owner, called) not in UNPICKLING, name
                assert called != "from_single_file", name
                if called == "from_pretrained":
                    seen.add(name)
                    assert "local_files_only" in keywords, name
                if called == "load_config":
                    assert "local_files_only" in keywords, name
    assert seen == DOORS


def test_a_whole_base_loads_bit_for_bit(saved):
    wanted = FluxTransformer2DModel.from_pretrained(saved).state_dict()
    got = load_weights(FluxTransformer2DModel, saved).state_dict()
    assert wanted.keys() == got.keys()
    assert all(torch.equal(value, got[name]) for name, value in wanted.items())


def test_shards_load_as_well(saved, tmp_path):
    FluxTransformer2DModel.from_pretrained(saved).save_pretrained(tmp_path / "shards", max_shard_size="100KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    got = load_weights(FluxTransformer2DModel, tmp_path / "shards").state_dict()
    wanted = load_weights(FluxTransformer2DModel, saved).state_dict()
    assert all(torch.equal(value, got[name]) for name, value in wanted.items())


@pytest.mark.parametrize("name", ["output/transfomer", "black-forest-labs/FLUX.1-dev"])
@pytest.mark.parametrize("load", [load_weights, load_tokenizer])
def test_a_mistyped_folder_asks_nobody(monkeypatch, tmp_path, load, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrainingError, match=f"must be a folder, but {name} does not exist"):
        load(AutoTokenizer if load is load_tokenizer else FluxTransformer2DModel, name)


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "pytorch_model.bin", "model.pt", "weights.CKPT"])
def test_pickled_weights_are_refused(folder, name):
    weights = next(folder.glob("*.safetensors"))
    torch.save({}, folder / name)
    weights.unlink()
    with pytest.raises(TrainingError, match=f"must have its weights as safetensors, got {name}"):
        load_weights(FluxTransformer2DModel, folder)


def cut(folder, keep):
    file = next(folder.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:keep])


BREAKS = {
    "empty": lambda folder: cut(folder, 0),
    "header": lambda folder: cut(folder, 100),
    "half": lambda folder: cut(folder, -1000),
    "no weights": lambda folder: next(folder.glob("*.safetensors")).unlink(),
    "other bytes": lambda folder: next(folder.glob("*.safetensors")).write_bytes(b"\x00" * 4096),
    "a page": lambda folder: next(folder.glob("*.safetensors")).write_text("<html>404</html>"),
    "settings cut": lambda folder: (folder / "config.json").write_text('{"_class_name": "Flux'),
    "settings list": lambda folder: (folder / "config.json").write_text("[1]"),
    "settings bytes": lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe\x00"),
    "no settings": lambda folder: (folder / "config.json").unlink(),
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_base_is_one_line(folder, how):
    BREAKS[how](folder)
    with pytest.raises(TrainingError, match="base model's folder") as caught:
        load_weights(FluxTransformer2DModel, folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_folder_without_a_tokenizer_is_one_line(tmp_path):
    with pytest.raises(TrainingError, match="base model's folder") as caught:
        load_tokenizer(AutoTokenizer, tmp_path)
    assert "\n" not in str(caught.value)


def test_memory_that_ran_out_stays_what_it_is(folder, monkeypatch):
    def full(*arguments, **settings):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(AutoencoderKL, "from_pretrained", full)
    with pytest.raises(torch.OutOfMemoryError):
        load_weights(AutoencoderKL, folder)

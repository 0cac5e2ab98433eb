"""Parsers of what training makes and reads again: pairs, caches, checkpoints, weights."""

import importlib
import json
import struct
import sys
import types
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from runtime.parts import Part, check_parts, damaged_files, make_record, read_record
from support.small_world import SPEC
from training.cache.read import FORMAT, Cache
from training.data.check import check_pairs
from training.data.pairs_folder import FORMAT as PAIRS
from training.errors import TrainingError
from training.loop.checkpoints import load_checkpoint, save_checkpoint
from visual_planner.planner.spec import PlannerSpec

from .core_targets import ROOT
from .data_targets import within
from .law import LONGEST, Target
from .mutate import bytes_change, json_bytes, of_json, of_lines


def _pairs(home: Path) -> None:
    for name in ("conditions", "targets"):
        (home / name).mkdir(parents=True)
        Image.fromarray(np.zeros((96, 96, 3), np.uint8)).save(home / name / "a.png")
    (home / "dataset.json").write_text(json.dumps(_PAIRS_INFO))
    (home / "manifest.json").write_text(json.dumps(_MANIFEST))
    (home / "pairs.jsonl").write_text(json.dumps(_PAIR) + "\n")


_PAIRS_INFO = {"format": PAIRS, "version": 1, "spec": {**asdict(PlannerSpec(**SPEC))}, "first_frames": {"a": "0" * 64}}
_MANIFEST = {"format": "visual_planner.manifest", "version": 1, "files": {"targets/a.png": [9, "0" * 64]}}
_PAIR = {"id": "a_text", "episode": "a", "mode": "text", "source": "conditions/a.png", "target": "targets/a.png",
         "text": "push it", "split": "train", "rank": 0}  # fmt: skip


def _check(home: Path) -> None:
    for problem in check_pairs(home):
        if len(problem) > LONGEST or not problem.isprintable():
            raise AssertionError(f"a problem must be one short line, got {problem[:200]!r}")


def _cache(home: Path) -> None:
    home.mkdir(parents=True)
    size = (2, 16, *PlannerSpec(**SPEC).latent_size)
    for kind in ("targets", "conditions"):
        save_file({"latents": torch.zeros(size, dtype=torch.float16)}, home / f"{kind}-0.safetensors")
    save_file({"states": torch.zeros(2, 4, 8), "pooled": torch.zeros(2, 8)}, home / "text-0.safetensors")
    (home / "manifest.json").write_text(json.dumps(_CACHE))
    (home / "pairs.jsonl").write_text(json.dumps(_CACHED) + "\n")


_CACHE = {
    "format": FORMAT, "version": 2, "spec": _PAIRS_INFO["spec"], "encoders": {"vae/a": "0"},
    "settings": {"dtype": "float32"},
    "pairs": 1, "empty_prompt": 0, "shard_size": 2, "text_shard_size": 2, "files": {},
    "shards": {kind: [f"{kind}-0.safetensors"] for kind in ("text", "targets", "conditions")},
}  # fmt: skip
_CACHED = {"id": "a_text", "mode": "text", "split": "train", "rank": 0, "target": 1, "condition": 1, "text": 1}


def _open_cache(home: Path) -> None:
    cache = Cache(home)
    for pair in cache.pairs[:3]:
        (
            cache.latents("targets", pair["target"]),
            cache.latents("conditions", pair["condition"]),
            cache.text(pair["text"]),
        )
    cache.verify()


def _checkpoint(home: Path) -> None:
    parts = {"weights": {"a": torch.ones(2)}, "optimizer": {"0.0.step": torch.ones(1)}}
    save_checkpoint(home, 4, parts, {"seconds": 1.0, "optimizers": [], "run": None}, 2)


_STATE = {
    "step": 4, "seconds": 1.5, "optimizers": [[{"k": 3, "d": 0.5}]],
    "run": {"kind": "train", "spec": None, "settings": {"lora": {}}, "inputs": {"cache": "sha256:0"}},
}  # fmt: skip


def _reader() -> Callable[[Path, str], object]:
    """`read_header` of the nodes, which are reached by relative imports alone, as parts of a plugin."""
    name = "plugin_of_fuzz"
    for part, folder in ((name, ROOT), (f"{name}.nodes", ROOT / "nodes")):
        sys.modules[part] = types.ModuleType(part)
        sys.modules[part].__path__ = [str(folder)]
    return importlib.import_module(f"{name}.nodes.comfy.safetensors_files").read_header


read_header = _reader()
_TENSORS = {
    "__metadata__": {"visual_planner.spec": PlannerSpec().to_metadata()["visual_planner.spec"], "format": "pt"},
    "a.lora_up.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "a.alpha": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]},
}


def _safetensors(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + bytes(26)


def _broken_header(random: Random) -> bytes:
    data = _safetensors(of_json([_TENSORS])[1](random))
    return bytes_change(random, data) if random.random() < 0.3 else data


def _open_header(data: bytes, folder: Path) -> None:
    (folder / "a.safetensors").write_bytes(data)
    header = read_header(folder / "a.safetensors", "LoRA a")
    with safe_open(folder / "a.safetensors", "pt") as file:  # what passed is what the format's own reader opens
        assert {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()} == header.shapes  # noqa: SIM118
    PlannerSpec.from_metadata(header.metadata)


_MADE_FROM = {"cache.seed": 1, "spec.rows": 3, "pairs": "0" * 64}
_SHARD = json.loads(make_record("cache", Part(0, 1), _MADE_FROM, {"text-00000.safetensors": (9, "0" * 64)}))


def _merge(data: bytes, folder: Path) -> None:
    record = read_record(data)
    for held in check_parts("cache", 1, {Part(0, 1): record}, _MADE_FROM, TrainingError):
        list(damaged_files(folder, held["files"]))


TARGETS = [
    Target("records of shards", *of_json([_SHARD]), _merge),
    Target("safetensors headers", [_safetensors(json_bytes(_TENSORS))], _broken_header, _open_header),
    Target("pairs", *of_lines([_PAIR, _PAIR]), within("pairs.jsonl", _pairs, _check)),
    Target("pairs data set", *of_json([_PAIRS_INFO]), within("dataset.json", _pairs, _check)),
    Target("pairs manifest", *of_json([_MANIFEST]), within("manifest.json", _pairs, _check)),
    Target("cache manifest", *of_json([_CACHE]), within("manifest.json", _cache, _open_cache)),
    Target(
        "cache pairs", *of_lines([_CACHED, {**_CACHED, "id": "b_text"}]), within("pairs.jsonl", _cache, _open_cache)
    ),
    Target(
        "checkpoints",
        *of_json([_STATE]),
        within(
            "checkpoints/00000004/state.json",
            _checkpoint,
            lambda home: load_checkpoint(home / "checkpoints" / "00000004"),
        ),
    ),
]

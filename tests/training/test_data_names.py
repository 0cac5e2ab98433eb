"""Names of any script, dots, hidden files, and which folder is what."""

import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from support.data_files import plain, png, write_frames, write_lerobot, write_shard, write_video
from training.cache.read import encoder_digests
from training.data.sources import open_source
from training.data.sources.names import folded, unique_ids
from training.errors import TrainingError
from training.loop.checkpoints import load_checkpoint, save_checkpoint
from training.loop.record import content_digest
from training.model.pipeline import open_planner
from visual_planner.planner.spec import PlannerSpec

SCRIPTS = [
    "\u7ea2\u8272\u65b9\u5757",
    "Würfel_ä",
    "\u043a\u0443\u0431\u0438\u043a",
    "\u30ad\u30e5\u30fc\u30d6",
    "\u0645\u0643\u0639\u0628",
    "\u0918\u0928",
    "ép1",
    "\ud050\ube0c",
]
DOTTED = ["2024.01.02", "2024.01.03", "2024.01", "v1.0-run", "v1.1-run", "a.mp4.d"]
APPLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "


def frames(folder, names, count=3, shade=20):
    for number, name in enumerate(names):
        write_frames(folder / name, [plain((shade + 10 * number + step) % 250) for step in range(count)])
    return folder


def ids(source):
    return [entry.id for entry in source.entries]


@pytest.mark.parametrize("names", [SCRIPTS, DOTTED])
@pytest.mark.parametrize("kind", ["frames", "videos"])
def test_an_id_is_its_name(tmp_path, kind, names):
    if kind == "frames":
        frames(tmp_path, names)
    else:
        for name in names:
            write_video(tmp_path / f"{name}.mp4", [plain(20)] * 3)
    (tmp_path / "instructions.txt").write_text("".join(f"{name}\tpush {name}\n" for name in names), "utf-8")
    source = open_source(tmp_path)
    assert sorted(unicodedata.normalize("NFC", name) for name in names) == sorted(ids(source))
    assert all(entry.instruction == f"push {entry.id}" for entry in source.entries)


def test_decomposed_names_are_found_by_composed_ones(tmp_path):
    """macOS stores an umlaut as two letters, a table beside it as one."""
    frames(tmp_path, [unicodedata.normalize("NFD", "würfel"), "é"])
    (tmp_path / "instructions.csv").write_text("file,instruction\nwürfel,a\né,b\n", "utf-8")
    assert {entry.id: entry.instruction for entry in open_source(tmp_path).entries} == {"würfel": "a", "é": "b"}


ALIKE = [
    ["ep", "ep.", "ep..", "ep "],
    ["con", "CON", "con.txt", "NUL.d"],
    ["é", "e\u0301", "É"],
    ["a", "a\u200b", "\u200b"],
    ["a b", " a b", "a b ", "a\tb", "a/b", "a:b"],
    ["x" * 200, "x" * 199 + "y", "x" * 250],
]


@pytest.mark.parametrize("names", ALIKE)
def test_names_that_only_look_alike_stay_apart(names):
    """Windows and macOS take many names for the same, or take none of them."""
    made = unique_ids(names)
    assert len({folded(name) for name in made}) == len(names)
    for name in made:
        stem = name.split(".")[0].lower()
        assert name.isprintable() and name == name.strip(" .") and stem not in ("con", "nul") and len(name) < 200


LETTERS = [
    *"abAB1._- /\\:*?<>|\"'\n\t\0",
    "ä",
    "a\u0308",
    "ß",
    "\u017f",
    "\ufb01",
    "\u7ea2",
    "\U0001f916",
    "\u202e",
    "\ud800",
    "con",
    "nul",
]


def test_any_names_give_names_of_files_that_differ():
    random = np.random.default_rng(0)
    for _ in range(300):
        drawn = {"".join(random.choice(LETTERS, random.integers(1, 9))) for _ in range(6)}
        drawn |= {name.upper() for name in drawn} | {"x" * 400 + str(n) for n in range(2)}
        names = sorted(name for name in drawn if name.isprintable() or "\ud800" not in name)
        made = unique_ids(names)
        assert len({folded(name) for name in made}) == len(names)
        for name in made:
            assert name and Path(name).name == name and len(name.encode()) <= 255 and not name.startswith(".")
            assert name.isprintable() and not set(name) & set('<>:"/\\|?*') and name.lower() not in ("con", "nul")


def test_an_id_does_not_change_when_others_come():
    names = ["a b", "a_c", "x.y", "\u7ea2"]
    assert unique_ids([*names, "new", "an other"])[:4] == unique_ids(names)


def hide_beside(folder):
    """An AppleDouble file beside each file, and folders of the system, as a copy over a network leaves them."""
    for file in [file for file in folder.rglob("*") if file.is_file()]:
        (file.parent / f"._{file.name}").write_bytes(APPLE)
    for name in ("__MACOSX", ".git", "@eaDir"):
        (folder / name).mkdir()
        (folder / name / "a.mp4").write_bytes(APPLE)
        (folder / name / "1.png").write_bytes(APPLE)
    (folder / ".DS_Store").write_bytes(APPLE)


def make(kind, folder):
    if kind == "frames":
        frames(folder, ["a", "b"])
        (folder / "instructions.txt").write_text("push")
    elif kind == "videos":
        for name in "ab":
            write_video(folder / f"{name}.mp4", [plain(30)] * 3)
        (folder / "instructions.csv").write_text("file,instruction\na.mp4,x\nb.mp4,y\n")
    elif kind == "rlds":
        steps = {"steps/observation/image": [png(plain(shade)) for shade in (20, 60)]}
        write_shard(folder / "x-train.tfrecord-00000-of-00001", [{**steps, "language_instruction": [b"push"]}])
    elif kind == "v21":
        write_lerobot(folder, [{"episode_index": n, "length": 12, "tasks": ["push"]} for n in range(2)])
    else:
        shutil.copytree(Path(__file__).parent / "data" / "lerobot" / kind, folder)
    return folder


@pytest.mark.parametrize("kind", ["frames", "videos", "rlds", "v21", "v30_image", "v30_video"])
def test_hidden_files_are_nobodys_data(tmp_path, kind):
    folder = make(kind, tmp_path / "set")
    before = open_source(folder)
    seen = [before.frames(entry, [0, 1]) for entry in before.entries]
    hide_beside(folder)
    after = open_source(folder)
    assert [(e.id, e.instruction, e.length) for e in after.entries] == [
        (e.id, e.instruction, e.length) for e in before.entries
    ]
    assert all(np.array_equal(after.frames(e, [0, 1]), old) for e, old in zip(after.entries, seen, strict=True))


def test_hidden_files_beside_weights_are_no_weights(world, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(world / "base", base)
    before = encoder_digests(base, PlannerSpec()), content_digest(base)
    for file in [file for file in base.rglob("*") if file.is_file()]:
        (file.parent / f"._{file.name}").write_bytes(APPLE)
    (base / ".cache").mkdir()
    (base / ".cache" / "a.json").write_bytes(APPLE)
    assert (encoder_digests(base, PlannerSpec()), content_digest(base)) == before
    shutil.rmtree(base / "loras", ignore_errors=True)  # other tests of the shared world put theirs there
    (base / "loras").mkdir()
    (base / "loras" / "._a.safetensors").write_bytes(APPLE)
    with pytest.raises(TrainingError, match=r"must have one LoRA in loras/, got none: choose with --lora"):
        open_planner(base)


def test_hidden_files_in_a_checkpoint_are_no_parts(tmp_path):
    save_checkpoint(tmp_path, 3, {"weights": {"a": torch.ones(2)}, "optimizer": {}}, {"step": 3}, 2)
    folder = next((tmp_path / "checkpoints").glob("[0-9]*"))
    (folder / "._weights.safetensors").write_bytes(APPLE)
    parts, _ = load_checkpoint(folder)
    assert parts.keys() == {"weights", "optimizer"} and parts["weights"]["a"].tolist() == [1, 1]


@pytest.mark.parametrize("end", [".PNG", ".Jpg", ".JPEG"])
def test_endings_match_in_either_case(tmp_path, end):
    for episode in "ab":
        for step in range(3):
            write_frames(tmp_path / episode, [plain(40 + step)], f"{step}.png")
            if end.lower() == ".png":
                (tmp_path / episode / f"{step}.png").rename(tmp_path / episode / f"{step}{end}")
            else:
                (tmp_path / episode / f"{step}.png").unlink()
                Image.fromarray(plain(40 + step)).save(tmp_path / episode / f"{step}{end}", "JPEG")
    source = open_source(tmp_path)
    assert (source.format, [entry.length for entry in source.entries]) == ("frames", [3, 3])

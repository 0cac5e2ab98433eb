"""No name in a data set is a path: nothing is written outside its folder, whatever an id says."""

import json

import numpy as np
import pytest
from PIL import Image

from support.small_world import config_for, write_episodes
from training.data.episodes import EpisodeSet
from training.data.pairs import _write_picture
from training.data.prepare import prepare
from training.data.sources import open_source
from training.data.sources.base import Entry, Source
from training.errors import TrainingError

NAMES = ["../../scene", "../scene", "a/b", "..", "a\\b", "x" * 300, "a\nb", "a\x1b[2Jb", "C:scene"]


def tree(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", [*NAMES, "ABSOLUTE"])
def test_an_id_that_is_a_path_writes_nothing_elsewhere(tmp_path, name):
    write_episodes(tmp_path / "output" / "episodes")
    name = str(tmp_path / "scene") if name == "ABSOLUTE" else name
    for place in (tmp_path / "scene.png", tmp_path / "output" / "scene.png"):
        Image.fromarray(np.full((32, 288, 3), 7, np.uint8)).save(place)
    file = tmp_path / "output" / "episodes" / "episodes.jsonl"
    lines = [json.loads(line) for line in file.read_text().split("\n") if line]
    file.write_text("".join(json.dumps(line | ({"id": name} if n == 0 else {})) + "\n" for n, line in enumerate(lines)))
    before = tree(tmp_path)
    config = config_for(tmp_path)
    section = config.prepare.model_copy(update={"source": tmp_path / "output" / "episodes"})
    with pytest.raises(TrainingError, match="plain file name|names of files") as caught:
        prepare(config.model_copy(update={"prepare": section}))
    assert str(caught.value).isprintable()
    after = tree(tmp_path)
    assert {file: after.get(file) for file in before} == before
    inside = (tmp_path / "pairs", tmp_path / ".pairs.part")
    assert all(any(file.is_relative_to(home) for home in inside) for file in after.keys() - before.keys())
    with pytest.raises(TrainingError):
        open_source(tmp_path / "output" / "episodes")
    with pytest.raises(TrainingError):
        EpisodeSet.open(tmp_path / "output" / "episodes")


@pytest.mark.parametrize("change", [{"id": "../../scene"}, {"path_px": [[1, 2]]}, {"instruction": 7, "id": None}])
def test_a_broken_line_takes_no_mode_from_the_others(tmp_path, capsys, change):
    """Whether the data has paths is what its good lines say; what is left out is said."""
    write_episodes(tmp_path / "episodes")
    file = tmp_path / "episodes" / "episodes.jsonl"
    first, *rest = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps(json.loads(first) | change), *rest]) + "\n")
    config = config_for(tmp_path)
    section = config.prepare.model_copy(update={"broken": "skip"})
    prepare(config.model_copy(update={"prepare": section}))
    pairs = [json.loads(line) for line in (tmp_path / "pairs" / "pairs.jsonl").read_text().splitlines()]
    assert {(pair["episode"], pair["mode"]) for pair in pairs} == {
        (f"{number:06d}", mode) for number in range(1, 6) for mode in ("text", "trajectory", "both")
    }
    assert "15 pairs of 5 episodes, 1 left out (left_out in dataset.json says why)\n" in capsys.readouterr().out


class _Any(Source):
    """A format that somebody adds, and that does not look at its names."""

    format = "any"

    def frames(self, entry, indices):
        return np.zeros((len(indices), 8, 8, 3), np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_the_ids_of_every_format_are_names_of_files(tmp_path, name):
    with pytest.raises(TrainingError, match="the id of an episode must be a plain file name"):
        _Any(tmp_path, [Entry("fine", "", 9, "a"), Entry(name, "", 9, "b")])


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_written_under_names_of_files_alone(tmp_path, name):
    (tmp_path / "targets").mkdir()
    with pytest.raises(TrainingError, match="must be a plain file name"):
        _write_picture(tmp_path, f"targets/{name}", np.zeros((4, 4, 3), np.uint8))
    assert not list(tmp_path.rglob("*.png*"))


@pytest.mark.parametrize("name", ["\u7ea2\u8272\u65b9\u5757", "pick up the cup", "a.b.c", "Ä", "000000"])
def test_names_of_any_script_are_kept(tmp_path, name):
    (tmp_path / "targets").mkdir()
    _write_picture(tmp_path, f"targets/{name}.png", np.zeros((4, 4, 3), np.uint8))
    assert [file.name for file in (tmp_path / "targets").iterdir()] == [f"{name}.png"]

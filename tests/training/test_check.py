"""Check: every problem of a folder of pairs at once, each with its file."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from support.small_world import SPEC, write_episodes
from training.__main__ import main
from training.cache.check import check
from training.data.prepare import prepare
from training.sections.config import Config


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("check")
    write_episodes(folder / "episodes")
    section = {"source": folder / "episodes", "out": folder / "pairs", "processes": 1, "validation_episodes": 2}
    prepare(Config.model_validate({"spec": SPEC, "prepare": section}))
    return folder / "pairs"


@pytest.fixture
def pairs(prepared, tmp_path):
    return shutil.copytree(prepared, tmp_path / "pairs")


def change_lines(pairs, change):
    file = pairs / "pairs.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    change(rows)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_good_pairs_have_no_problem(pairs, capsys):
    assert check(pairs) == []
    assert main(["check", "--data", str(pairs)]) == 0
    assert "no problem found" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["targets/" + 300 * "a" + ".png", "../000000.png", "targets", "a\0b", ""])
def test_a_picture_that_is_no_file_of_the_folder_is_one_line(pairs, name):
    (pairs.parent / "000000.png").write_bytes((pairs / "targets" / "000001.png").read_bytes())
    change_lines(pairs, lambda rows: rows[0].update(target=name))
    (problem,) = check(pairs)
    assert "target" in problem and "\n" not in problem


def test_all_problems_are_reported_at_once_with_their_files(pairs, capsys):
    overlay = (pairs / "conditions" / "000002_overlay.png").read_bytes()
    clean = (pairs / "conditions" / "000002_clean.png").read_bytes()
    (pairs / "conditions" / "000002_overlay.png").write_bytes(clean)
    (pairs / "conditions" / "000002_clean.png").write_bytes(overlay)
    (pairs / "targets" / "000000.png").unlink()
    broken = pairs / "targets" / "000001.png"
    broken.write_bytes(broken.read_bytes()[:300])
    Image.new("RGB", (96, 80)).save(pairs / "targets" / "000003.png")
    shutil.copy(pairs / "targets" / "000005.png", pairs / "targets" / "000004.png")

    def change(rows):
        rows[6]["text"] = " "
        rows[7]["id"] = rows[6]["id"]
        rows[8]["mode"] = "dream"
        rows[17]["split"] = "train"

    change_lines(pairs, change)
    problems = check(pairs)
    wanted = [
        ("empty caption", "pairs.jsonl"), ("occurs 2 times", "pairs.jsonl"), ("mode 'dream'", "pairs.jsonl"),
        ("does not exist", "targets/000000.png"), ("cannot be read", "targets/000001.png"),
        ("must be (96, 96) (height, width), got (80, 96)", "targets/000003.png"),
        ("is identical to", "targets/000005.png"), ("has changed since it was prepared", "targets/000004.png"),
        ("mode text must show the first frame", "conditions/000002_clean.png"),
        ("must show a path", "conditions/000002_overlay.png"),
        ("is not that of", "conditions/000004_clean.png"),
        ("is in training and in validation", "pairs.jsonl"),
    ]  # fmt: skip
    for text, file in wanted:
        assert any(text in problem and file in problem for problem in problems), (text, problems)
    assert all("\n" not in problem for problem in problems)
    assert main(["check", "--data", str(pairs)]) == 1
    assert f"{len(problems)} problems" in capsys.readouterr().out


def test_a_grid_in_which_nothing_moves_and_cells_that_are_not_black(pairs):
    target = np.tile(np.full((32, 32, 3), 90, np.uint8), (3, 3, 1))
    Image.fromarray(target).save(pairs / "targets" / "000001.png")
    Image.fromarray(target).save(pairs / "conditions" / "000001_clean.png")
    problems = check(pairs)
    assert any("000001.png: all its frames are identical" in problem for problem in problems)
    assert any("000001_clean.png: all cells but the first frame's must be black" in problem for problem in problems)


def test_a_first_frame_on_both_sides_is_a_leak(pairs):
    file = pairs / "dataset.json"
    info = json.loads(file.read_text())
    info["first_frames"]["000005"] = info["first_frames"]["000000"]
    file.write_text(json.dumps(info))
    assert any("000005 (validation) has the first frame of episode 000000" in problem for problem in check(pairs))


def test_a_path_out_of_the_folder_is_a_problem(pairs):
    change_lines(pairs, lambda rows: rows[0].update(source="../../secret.png"))
    assert any("must lie in" in problem and "../../secret.png" in problem for problem in check(pairs))

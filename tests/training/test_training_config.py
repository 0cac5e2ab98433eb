"""Configuration files: known keys only, clear messages, the shipped files load."""

from pathlib import Path

import pytest

from training.__main__ import main
from training.errors import TrainingError
from training.sections.config import load_config

CONFIGS = sorted((Path(__file__).parents[2] / "training" / "configs").glob("*.yaml"))
TINY = next(path for path in CONFIGS if path.name == "tiny.yaml")


def test_every_shipped_configuration_loads():
    assert len(CONFIGS) >= 2
    for path in CONFIGS:
        assert load_config(path).planner_spec().layout.frames == 9


def test_an_unknown_key_is_named():
    with pytest.raises(TrainingError, match=r"train\.learning_rat: unknown key"):
        load_config(TINY, ["train.learning_rat=1"])


def test_an_unknown_spec_key_is_named():
    with pytest.raises(TrainingError, match="spec: unknown keys colour"):
        load_config(TINY, ["spec.colour=1"])


def test_a_value_out_of_range_is_named_with_what_it_was():
    with pytest.raises(TrainingError, match=r"train\.batch_size: .*greater than or equal to 1, got 0"):
        load_config(TINY, ["train.batch_size=0"])


def test_an_override_reaches_its_place():
    assert load_config(TINY, ["train.lora.rank=7"]).train.lora.rank == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "is not YAML"), ("- 1", "must be a mapping"), ("nonsense: {}", "nonsense: unknown key")],
)
def test_a_broken_file_is_one_line(tmp_path, capsys, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert main(["train", "--config", str(path)]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_a_missing_file_and_a_missing_section_are_named(tmp_path, capsys):
    assert main(["train", "--config", str(tmp_path / "none.yaml")]) == 2
    (tmp_path / "empty.yaml").write_text("")
    assert main(["train", "--config", str(tmp_path / "empty.yaml")]) == 2
    printed = capsys.readouterr().err
    assert "none.yaml is not a file" in printed
    assert "no section 'train'" in printed

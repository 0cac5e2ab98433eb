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


ALIASES = "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nspec: {rows: [*b, *b, *b]}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ALIASES, "anchors and aliases are not read"),
        ("spec: &x {rows: 3}\n", "anchors and aliases are not read"),
        ("spec: {steps: 2020-99-99}", "has a value that cannot be read: month must be in 1..12"),
        ("spec: {steps: 2020-01-01}", "planner spec steps must be a whole number of at least 1, got datetime.date("),
        ("spec: {steps: " + "9" * 5000 + "}", "has a value that cannot be read"),
        ("[" * 5000, "nested deeper than 32 levels"),
        ("a: " * 100, "is not YAML"),
        ("spec: {1: 2, rows: 3, 2020-01-01: 4}", "spec: unknown keys 1, datetime.date(2020, 1, 1)"),
        ("spec: {rows: 3, rows: 4}", "a key stands here more than once"),
        ("spec: [1]", "spec: Input should be a valid dictionary, got [1]"),
        ("prepare: {fit: crop}\nspec: [1]", "spec: Input should be a valid dictionary"),
        ("? [a, b]\n: 1", "is not YAML"),
        ('"\\e[31mred\\nerror": 1', "\\x1b[31mred\\nerror: unknown key"),
        ("x" * 2**21 + ": 1", "must have at most 1048576 characters"),
        ("\n".join(f"k{n}: 1" for n in range(20_000)), "and 19995 more"),
        ("spec: !!python/object/apply:os.system [ls]", "is not YAML"),
    ],
)  # fmt: skip
def test_a_hostile_file_is_one_short_line(tmp_path, capsys, text, message):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert main(["train", "--config", str(path), "--set", "spec.cols=3"][: 3 if "spec: [" in text else 5]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1 and len(printed) < 900 and printed.rstrip("\n").isprintable()


@pytest.mark.parametrize("data", [b"spec: {rows: 3} # \xe9", b"\xff\xfe\x00", b"\x80"])
def test_another_encoding_is_one_line(tmp_path, data):
    (tmp_path / "config.yaml").write_bytes(data)
    with pytest.raises(TrainingError, match="must be UTF-8 text, got byte 0x"):
        load_config(tmp_path / "config.yaml")


def test_a_change_of_a_file_that_is_a_list_is_one_line(tmp_path):
    (tmp_path / "config.yaml").write_text("- 1\n")
    with pytest.raises(TrainingError, match="must be a mapping, got list"):
        load_config(tmp_path / "config.yaml", ["spec.rows=3"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.optimizer.learning_rate=.inf", "finite number"),
        ("train.optimizer.learning_rate=.nan", "learning_rate"),
        ("train.lora.alpha=.inf", "finite number"),
        ("train.mode_weights={text: .inf}", "finite number"),
        ("train.objective.logit_mean=.nan", "finite number"),
        ("train.objective.guidance=[9, 1]", "from its smaller to its larger value, got 9 to 1"),
        ("train.batch_size=true", "batch_size must not be true or false, got True"),
        ("prepare.subsets=[4, true]", "subsets must not be true or false"),
        ("train.max_steps=1" + "0" * 400, "max_steps"),
        ("train.seed=-1" + "0" * 30, "seed"),
        ("train.seed=-1", "train.seed: Input should be greater than or equal to 0"),
        ("train.seed=4294967296", "train.seed: Input should be less than or equal to 4294967295"),
        ("pretrain.seed=-1", "pretrain.seed"),
        ("spec.rows=[[[1]]]", "planner spec rows must be a whole number"),
        ("spec.modes=[[text]]", "planner spec modes must be one or more"),
        ("train.out=*x", "is not YAML"),
    ],
)
def test_a_number_that_is_none_is_refused(change, message):
    with pytest.raises(TrainingError, match=message) as caught:
        load_config(TINY, [change])
    assert len(str(caught.value)) < 600 and str(caught.value).isprintable()


def test_ordinary_yaml_is_read_as_before(tmp_path):
    path = tmp_path / "config.yaml"
    text = "# a comment\nspec: {rows: 2, cols: 2, modes: [text]}\nexport:\n  run: a\n  out: b\n  averaged: false\n"
    path.write_text(text, encoding="utf-8-sig")
    config = load_config(path, ["export.averaged=true"])
    assert config.planner_spec().rows == 2 and config.export.averaged is True and config.export.run == Path("a")

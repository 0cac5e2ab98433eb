"""The list of all keys: it is whole, and what it says is what the configuration takes."""

import re
from pathlib import Path
from typing import get_args

from training.__main__ import main
from training.data.sources import FORMATS
from training.sections.config import Config
from training.sections.data import PrepareSection


def test_every_section_and_nested_key_is_described(capsys):
    assert main(["describe"]) == 0
    lines = capsys.readouterr().out.splitlines()
    sections = {line.split(".")[0] for line in lines}
    assert sections >= {"prepare", "cache", "vae", "pretrain", "train", "export", "evaluate"}
    assert sections <= Config.model_fields.keys()
    assert "train.optimizer.learning_rate (number, default 0.0001): learning rate of everything but Muon" in lines
    assert any(re.match(r"train\.cache \(.*, required\): folder written by `cache`", line) for line in lines)
    assert len(lines) > 100


def test_one_section_alone(capsys):
    assert main(["describe", "export"]) == 0
    assert all(line.startswith("export.") for line in capsys.readouterr().out.splitlines())
    assert main(["describe", "exprot"]) == 2
    assert "section must be one of" in capsys.readouterr().err


def test_the_reference_page_is_current(capsys):
    assert main(["describe", "--markdown"]) == 0
    page = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"
    assert page.read_text(encoding="utf-8") == capsys.readouterr().out, (
        f"{page.name} is out of date: .venv/bin/python -m training describe --markdown > docs/reference/{page.name}"
    )


def test_every_data_format_can_be_chosen_and_has_its_row():
    assert get_args(PrepareSection.model_fields["format"].annotation) == ("auto", *FORMATS)
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    sources = page.partition("\n## Sources\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", sources, re.MULTILINE) == list(FORMATS)

"""Publishing: the registry gets the repository's address and an icon that is there."""

import importlib.util
import tomllib
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / ".github" / "registry_metadata.py"


@pytest.fixture(scope="module")
def metadata():
    spec = importlib.util.spec_from_file_location("registry_metadata", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("address", ["https://github.com/someone/planner", "https://github.com/someone/planner.git"])
def test_addresses_are_filled_in_once(metadata, address):
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    once = metadata.filled(text, address, "main")
    made, before = tomllib.loads(once), tomllib.loads(text)
    assert made["project"].pop("urls")["Repository"] == "https://github.com/someone/planner"
    icon = made["tool"]["comfy"].pop("Icon")
    assert icon == f"https://raw.githubusercontent.com/someone/planner/main/{metadata.ICON}"
    before["tool"]["comfy"].pop("Icon")
    assert made == before, "nothing else changes"
    assert metadata.filled(once, "https://github.com/other/fork", "main") == once


def test_the_icon_is_a_small_square(metadata):
    with Image.open(ROOT / metadata.ICON) as icon:
        assert icon.width == icon.height <= 400  # the registry's limits


def test_another_address_is_refused(metadata):
    with pytest.raises(ValueError, match="must be https://github.com/OWNER/NAME, got 'https://example.com/a/b'"):
        metadata.filled("", "https://example.com/a/b", "main")

"""Publishing: the lists of packages agree, the registry gets the repository's address and an icon that is there."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / ".github" / "registry_metadata.py"


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def listed(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if re.match(r"[A-Za-z]", line)]


def test_the_list_that_a_manager_installs_is_the_projects():
    assert listed("requirements.txt") == project()["dependencies"]


def test_the_pinned_packages_are_within_the_projects_bounds():
    pins = {}
    for name in ("requirements-lock.txt", "requirements-lock-no-deps.txt"):
        for line in listed(name):
            requirement = Requirement(line.rstrip("\\ "))
            pins.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    wanted = [text for extra in project()["optional-dependencies"].values() for text in extra]
    for text in [*project()["dependencies"], *wanted]:
        bound = Requirement(text)
        for pin in pins[canonicalize_name(bound.name)]:
            (version,) = (part.version for part in pin.specifier)
            assert bound.specifier.contains(version), f"{pin} is not within {bound}"


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


@pytest.mark.parametrize("file", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda file: file.name)
def test_actions_are_pinned_by_commit(file):
    """A tag can be moved to other code; the comment says which version the commit is."""
    used = re.findall(r"uses: *(\S+)(.*)", file.read_text(encoding="utf-8"))
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # \S+", comment), f"{action} must say its version in a comment"

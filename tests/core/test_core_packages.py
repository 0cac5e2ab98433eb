"""What a room imports from elsewhere is in the extra that promises to bring it."""

import re
import sys
import tomllib

import pytest

from support.imports import ROOT, all_imports

PACKAGES = {"cv2": "opencv-python-headless", "PIL": "pillow", "yaml": "pyyaml", "skimage": "scikit-image"}
"""Import name -> package, where they differ."""
SAID_ELSEWHERE = {
    "huggingface_hub",  # asked for in one line when a hub id is given
    "scipy",  # brought by scikit-image
    "pydantic_core",  # brought by pydantic
}
OWN = {"visual_planner", "runtime", "simulation", "training", "launcher", "benchmarks", "worlds", "nodes"}


def promised(*extras: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    return {re.split(r"[^A-Za-z0-9_.-]", line)[0].lower().replace("_", "-") for line in lines}


@pytest.mark.parametrize(
    ("room", "extras"),
    [("simulation", ("simulation", "train")), ("training", ("train", "train-more", "simulation"))],
)
def test_every_package_that_a_room_imports_is_in_its_extra(room, extras):
    used = {entry.target for entry in all_imports(room)} - OWN - SAID_ELSEWHERE - set(sys.stdlib_module_names)
    assert len(used) > 2
    missing = {name for name in used if PACKAGES.get(name, name).lower().replace("_", "-") not in promised(*extras)}
    assert not missing

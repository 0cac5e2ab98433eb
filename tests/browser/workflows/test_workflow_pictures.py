"""The workflows' thumbnails, and what the template browser offers."""

from __future__ import annotations

import io
import re
import urllib.request

import numpy as np
import pytest
from browser.contact_sheet import HEIGHT, SHEETS, SIDE, WIDTH, contact_sheet, plan_node, plan_prompt
from browser.workflow_files import APPS, METAWORLD, TEMPLATES, TINY
from PIL import Image

from launcher.client import ComfyClient
from launcher.paths import PLUGIN_NAME, ROOT, WORKFLOWS


def test_each_workflow_has_a_picture() -> None:
    assert sorted(path.stem for path in WORKFLOWS.glob("*.json")) == sorted(TEMPLATES)
    assert sorted(path.stem for path in WORKFLOWS.glob("*.jpg")) == sorted(TEMPLATES)


def test_the_readme_names_each_workflow() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in TEMPLATES if not re.search(rf"\b{re.escape(name)}\b", text)] == []


@pytest.mark.parametrize("word", ["robot", "planner"])
def test_templates_are_found_by_the_words_that_people_type(word: str) -> None:
    """The template browser searches a pack's templates by name alone, in words that `_` and `-` separate."""
    found = [name for name in TEMPLATES if word in re.split(r"[-_]", name)]
    assert sorted(found) == sorted(APPS)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_picture_is_small_and_wide(name: str) -> None:
    file = WORKFLOWS / f"{name}.jpg"
    with Image.open(file) as picture:
        assert picture.format == "JPEG"
        assert picture.width == 640
        assert 240 <= picture.height <= 640
    assert file.stat().st_size < 100_000


def test_all_but_one_show_a_plan() -> None:
    assert sorted([*SHEETS, METAWORLD]) == sorted(TEMPLATES)
    for name in SHEETS:
        with Image.open(WORKFLOWS / f"{name}.jpg") as picture:
            assert picture.size == (WIDTH, HEIGHT), name


@pytest.mark.parametrize("name", TINY)
def test_a_picture_shows_the_plan_of_the_shipped_planner(client: ComfyClient, name: str) -> None:
    """Whoever changes the weights or the example makes the pictures again; the words below are another matter."""
    prompt = plan_prompt(name)
    run = client.run(prompt)
    frames = [Image.open(io.BytesIO(client.download(file))) for file in run.files(plan_node(prompt))]
    made = np.asarray(contact_sheet(name, frames), float)[: SIDE + 20]
    with Image.open(WORKFLOWS / f"{name}.jpg") as picture:
        kept = np.asarray(picture.convert("RGB"), float)[: SIDE + 20]
    assert np.abs(made - kept).mean() < 3
    other = contact_sheet(name, [frames[0]] * len(frames))
    assert np.abs(np.asarray(other, float)[: SIDE + 20] - kept).mean() > 3, "the comparison must see a plan"


def test_the_template_browser_offers_them_with_their_pictures(client: ComfyClient) -> None:
    assert sorted(client.get("/workflow_templates")[PLUGIN_NAME]) == sorted(TEMPLATES)
    for name in TEMPLATES:
        with urllib.request.urlopen(f"{client.url}/api/workflow_templates/{PLUGIN_NAME}/{name}.jpg") as answer:
            assert answer.read() == (WORKFLOWS / f"{name}.jpg").read_bytes()

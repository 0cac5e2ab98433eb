"""What `serve` lays out for the user before the server starts."""

from __future__ import annotations

import json
from pathlib import Path

from launcher.paths import WORKFLOWS
from launcher.serve import EXAMPLE_PICTURES, offer_workflows


def test_the_offered_workflows_find_the_picture_that_they_load(tmp_path: Path) -> None:
    offered = offer_workflows(tmp_path)
    assert [path.name for path in offered] == sorted(path.name for path in WORKFLOWS.glob("*.json"))
    assert len(offered) >= 5
    for path in offered:
        nodes = json.loads(path.read_text())["nodes"]
        pictures = [node["widgets_values"][0] for node in nodes if node["type"] == "LoadImage"]
        simulated = any(node["type"] == "VisualPlannerScene" for node in nodes)  # makes its first frame itself
        assert set(pictures) <= set(EXAMPLE_PICTURES)
        assert bool(pictures) != simulated
    for name in EXAMPLE_PICTURES:
        assert (tmp_path / "input" / name).read_bytes().startswith(b"\x89PNG")


def test_what_the_user_changed_stays(tmp_path: Path) -> None:
    (first, *_) = offer_workflows(tmp_path)
    first.write_text("mine")
    picture = tmp_path / "input" / next(iter(EXAMPLE_PICTURES))
    picture.write_bytes(b"mine too")
    offer_workflows(tmp_path)
    assert first.read_text() == "mine"
    assert picture.read_bytes() == b"mine too"

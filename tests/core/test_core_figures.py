"""Figures in texts are those of the results that they come from."""

import json
import re

import pytest

from support.imports import ROOT

CLOSED_LOOP = json.loads((ROOT / "models" / "tiny_planner" / "closed_loop.json").read_text())
METRICS = json.loads((ROOT / "models" / "tiny_planner" / "metrics.json").read_text())
CARD = (ROOT / "models" / "tiny_planner" / "README.md").read_text()
README = (ROOT / "README.md").read_text()
USUAL = ("text", "trajectory", "both")
MODES = (*USUAL, "goal", "text_goal", "trajectory_goal", "both_goal")


def rates() -> dict[str, dict]:
    """Row of the card -> result of the closed loop."""
    result = CLOSED_LOOP
    return {
        **{mode: result["success"][mode] for mode in MODES},
        "true keyframes": result["bounds"]["true_keyframes"],
        "true frames through the read-out": result["bounds"]["true_frames"],
        "true frames through the autoencoder": result["bounds"]["autoencoder"],
        "static plan": result["baselines"]["static"],
        **{f"no LoRA, {mode}": result["baselines"]["no_lora"][mode] for mode in MODES},
    }


@pytest.mark.parametrize("row", rates())
def test_the_cards_success_rates_are_the_results(row):
    value = rates()[row]
    cell = f"{value['successes']}/{value['n']} = {value['rate']:.0%} ({value['low']:.0%} to {value['high']:.0%})"
    tasks = [f"{task['successes']}/{task['n']}" for task in value["tasks"].values()]
    lines = [line for line in CARD.splitlines() if line.startswith(f"| {row} | ") and "/100" in line]
    assert len(lines) == 1, row
    assert [part.strip() for part in lines[0].strip("|").split("|")][1:] == [cell, *tasks]


def test_the_readme_says_what_was_executed():
    for modes, names in ((USUAL, "text / trajectory / both"), (MODES[3:5], "goal / text and goal")):
        figures = " / ".join(str(CLOSED_LOOP["success"][mode]["successes"]) for mode in modes)
        assert f"{names} | {figures} |" in README


def test_studies_say_their_own_rates():
    """Every "k/n, p%" of a study's page is a rate of the results beside it."""
    checked = 0
    for page in sorted((ROOT / "docs" / "studies").glob("*.md")):
        results = page.with_suffix(".json")
        if not results.is_file():
            continue
        known = set(_rates(json.loads(results.read_text())))
        for k, n in re.findall(r"\b(\d+)/(\d+), \d+%", page.read_text()):
            assert (int(k), int(n)) in known, f"{page.name}: {k}/{n}"
            checked += 1
    assert checked > 20


def test_every_study_says_what_can_be_answered():
    pages = [page for page in (ROOT / "docs" / "studies").glob("*.md") if page.name != "README.md"]
    assert len(pages) > 10
    assert [page.name for page in pages if page.read_text().count("**Answer:**") != 1] == []


def _rates(value: object):
    if isinstance(value, dict):
        if {"successes", "n"} <= value.keys():
            yield value["successes"], value["n"]
        for inner in value.values():
            yield from _rates(inner)
    if isinstance(value, list):
        for inner in value:
            yield from _rates(inner)


def test_meta_worlds_page_and_card_have_the_closed_loops_own_figures():
    from training.evaluation.closed_loop.table import table

    page = (ROOT / "docs" / "benchmarks" / "metaworld.md").read_text()
    result, paths = (
        json.loads((ROOT / "models" / "metaworld_planner" / f"closed_loop{name}.json").read_text())
        for name in ("", "_paths")
    )
    assert table(result) in page and table(paths) in page
    card = (ROOT / "models" / "metaworld_planner" / "README.md").read_text()
    for group in ("once", "success"):
        row = result[group]["text"]
        assert f"{row['successes']} ({row['rate']:.1%}, {row['low']:.0%} to {row['high']:.0%})" in card
    for mode, text in (("trajectory", "sentence it is {} and {}"), ("both", "with both {} and {}")):
        assert text.format(*(paths[group][mode]["successes"] for group in ("once", "success"))) in card

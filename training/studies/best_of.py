"""Does choosing among several plans, or planning again on the way, raise success?"""

from pathlib import Path

import numpy as np
from pydantic import Field

from ..closed_loop.evaluation import difference, evaluate_planner
from ..data_config import Positive
from ..files import write_json
from ..statistics import bootstrap
from .base import (
    SERIES,
    Study,
    StudySettings,
    bars,
    bench,
    change_cell,
    figure,
    markdown_table,
    method_lines,
    rate_cell,
)

BETTER, WORSE, OPEN = "raises success", "lowers success", "shows no difference that these scenes could tell"


class BestOfSettings(StudySettings):
    """Settings of this study."""

    best_of: Positive = Field(8, description="plans to choose from")
    replan: Positive = Field(4, description="moves between plans")


def measure(settings: BestOfSettings, out: Path) -> dict:
    """Success of one of several plans, of the best-looking, of any of them, and with re-planning of single plans."""
    with bench(settings) as b:
        chosen = evaluate_planner(b.planner, b.asked, b.world, b.net, settings.closed_loop(best_of=settings.best_of))
        write_json(out / "plans.json", chosen["plans"])  # another way of choosing can be tried on them
        again = evaluate_planner(b.planner, b.asked, b.world, b.net, settings.closed_loop(replan=settings.replan))
    result = {}
    for mode in settings.modes:
        replanned = {"replan": again["success"][mode], "replan_gain": again["replan_gain"][mode]}
        result[mode] = {"best": chosen["success"][mode], **replanned}
    return with_choice(result, chosen["plans"])


def with_choice(result: dict, plans: dict[str, list[dict]]) -> dict:
    """The results of each mode with what all plans, the chosen one and a perfect choice do; and the gain in all modes.

    Args:
        result: results by mode.
        plans: by mode, a row a scene, as `plan_and_execute` gives them.
    """
    drawn, kept = {}, {}
    for mode, rows in plans.items():
        done = [[plan["success"] for plan in row["plans"]] for row in rows]
        drawn[mode], kept[mode] = [float(np.mean(group)) for group in done], [row["success"] for row in rows]
        result[mode] |= {
            "single": share(drawn[mode]), "any": share([any(group) for group in done]),
            "best_gain": difference(kept[mode], drawn[mode]),
        }  # fmt: skip
    over_modes = difference(np.mean(list(kept.values()), axis=0), np.mean(list(drawn.values()), axis=0))
    return {**result, "best_gain_over_modes": over_modes}


def share(values: list[float]) -> dict:
    """Mean of the scenes' shares, with its interval over scenes."""
    low, high = bootstrap(np.asarray(values, float))
    return {"rate": float(np.mean(values)), "low": low, "high": high}


def plot(result: dict):
    """Success of each way, a panel a mode."""
    modes = result["settings"]["modes"]
    made, axes = figure(3.2 * len(modes), 3.4, len(modes))
    count, every = result["settings"]["best_of"], result["settings"]["replan"]
    names = {
        "single": "one\nplan",
        "best": f"best\nof {count}",
        "any": f"any\nof {count}",
        "replan": f"anew\nafter {every}",
    }
    for axis, mode in zip(axes, modes, strict=True):
        rows = {name: result[mode][key] for key, name in names.items()}
        colours = {name: SERIES[mode] for key, name in names.items() if key in ("best", "replan")}
        bars(axis, rows, colours)
        axis.set_title(mode)
    return made


def verdict(gain: dict) -> str:
    """What an interval of a difference allows to say."""
    return BETTER if gain["low"] > 0 else WORSE if gain["high"] < 0 else OPEN


def share_cell(row: dict) -> str:
    """`80% (72% to 87%)`."""
    return f"{row['rate']:.0%} ({row['low']:.0%} to {row['high']:.0%})"


def page(result: dict) -> str:
    """The study's page."""
    modes, settings = result["settings"]["modes"], result["settings"]
    head = ["mode", "one plan", f"best of {settings['best_of']}", "gain", f"any of {settings['best_of']}",
            f"anew after {settings['replan']}", "gain"]  # fmt: skip
    rows = [
        [mode, share_cell(row["single"]), rate_cell(row["best"]), change_cell(row["best_gain"]), share_cell(row["any"]),
         rate_cell(row["replan"]), change_cell(row["replan_gain"])]
        for mode in modes for row in (result[mode],)
    ]  # fmt: skip
    over = result["best_gain_over_modes"]
    words = f"- all modes together: choosing {verdict(over)}, by {change_cell(over)};\n" + "\n".join(
        f"- {mode}: choosing {verdict(result[mode]['best_gain'])}; "
        f"planning anew {verdict(result[mode]['replan_gain'])}."
        for mode in modes
    )
    return f"""# Best of {settings["best_of"]} and re-planning

![Success of each way](PLOT)

{markdown_table(head, rows)}

{words}

## Method
{method_lines(settings)} The best of several plans is chosen by its frames alone (drawn path,
checks, read-out, agreement with the other plans), as Rank Plans does; *any* is what a perfect choice would reach.
*One plan*: mean of all {settings["best_of"]} plans of a scene, interval over scenes. Gains are differences on the same
scenes: of the chosen plan from that mean, of re-planning from a single plan.

## Limits
A re-planned planner sees an arm in the middle of its work as first frame; training showed it that only as later frames.
"""


STUDY = Study(BestOfSettings, measure, plot, page)

"""Does choosing among several plans, or re-planning (by either method), raise success?"""

from pathlib import Path

import numpy as np
from pydantic import Field

from ...files import write_json
from ...sections.data import Positive
from ..charts import SERIES, bars, figure
from ..closed_loop.evaluation import difference, evaluate_planner
from ..closed_loop.settings import MOMENT, START
from ..statistics import bootstrap
from .base import Study, StudySettings, bench, change_cell, markdown_table, method_lines, rate_cell

WAYS = {START: "replan", MOMENT: "restart"}
"""Where a new plan begins -> name of its results."""
BETTER, WORSE, OPEN = "raises success", "lowers success", "shows no difference that these scenes could tell"


class BestOfSettings(StudySettings):
    """Settings of this study."""

    best_of: Positive = Field(8, description="plans to choose from")
    replan: Positive = Field(4, description="moves between plans")


def measure(settings: BestOfSettings, out: Path) -> dict:
    """Success of one of several plans, of the best-looking, of any of them, and of single plans with re-planning."""
    with bench(settings) as b:
        chosen = evaluate_planner(b.planner, b.asked, b.world, b.net, settings.closed_loop(best_of=settings.best_of))
        write_json(out / "plans.json", chosen["plans"])  # so that other selection rules can be tried on them
        again = {
            key: evaluate_planner(
                b.planner, b.asked, b.world, b.net, settings.closed_loop(replan=settings.replan, replan_from=begin)
            )
            for begin, key in WAYS.items()
        }
    result = {}
    for mode in settings.modes:
        result[mode] = {"best": chosen["success"][mode]}
        for key, rates in again.items():
            result[mode] |= {key: rates["success"][mode], f"{key}_gain": rates["replan_gain"][mode]}
    return with_choice(result, chosen["plans"])


def with_choice(result: dict, plans: dict[str, list[dict]]) -> dict:
    """Add to each mode's results the success of all plans, the chosen one and a perfect choice; and the overall gain.

    Args:
        result: results by mode.
        plans: by mode, one row per scene, as `plan_and_execute` returns them.
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
    """Mean of the scenes' fractions, with its interval over scenes."""
    low, high = bootstrap(np.asarray(values, float))
    return {"rate": float(np.mean(values)), "low": low, "high": high}


def plot(result: dict):
    """Success of each method, one panel per mode."""
    modes = result["settings"]["modes"]
    made, axes = figure(3.6 * len(modes), 3.6, len(modes))
    count, every = result["settings"]["best_of"], result["settings"]["replan"]
    names = {
        "single": "one\nplan",
        "best": f"best\nof {count}",
        "any": f"any\nof {count}",
        "replan": f"replan\nafter {every},\npast\nkept",
        "restart": f"replan\nafter {every},\nfrom\nnow",
    }
    for axis, mode in zip(axes, modes, strict=True):
        rows = {name: result[mode][key] for key, name in names.items()}
        colours = {name: SERIES[mode] for key, name in names.items() if key in ("best", *WAYS.values())}
        bars(axis, rows, colours)
        axis.set_title(mode)
    return made


def verdict(gain: dict) -> str:
    """What the interval of a difference allows one to conclude."""
    return BETTER if gain["low"] > 0 else WORSE if gain["high"] < 0 else OPEN


def share_cell(row: dict) -> str:
    """`80% (72% to 87%)`."""
    return f"{row['rate']:.0%} ({row['low']:.0%} to {row['high']:.0%})"


def page(result: dict) -> str:
    """The study's page."""
    modes, settings = result["settings"]["modes"], result["settings"]
    every = settings["replan"]
    head = ["mode", "one plan", f"best of {settings['best_of']}", "gain", f"any of {settings['best_of']}",
            f"replan after {every}, past kept", "gain", f"replan after {every}, from now", "gain"]  # fmt: skip
    rows = [
        [mode, share_cell(row["single"]), rate_cell(row["best"]), change_cell(row["best_gain"]), share_cell(row["any"]),
         *(cell for key in WAYS.values() for cell in (rate_cell(row[key]), change_cell(row[f"{key}_gain"])))]
        for mode in modes for row in (result[mode],)
    ]  # fmt: skip
    over = result["best_gain_over_modes"]
    words = f"**Answer:**\n- all modes together: choosing {verdict(over)}, by {change_cell(over)};\n" + "\n".join(
        f"- {mode}: choosing {verdict(result[mode]['best_gain'])}; "
        f"re-planning with the past kept {verdict(result[mode]['replan_gain'])}, from now "
        f"{verdict(result[mode]['restart_gain'])}."
        for mode in modes
    )
    return f"""# Best of {settings["best_of"]} and re-planning

{words}

![Success of each method](PLOT)

{markdown_table(head, rows)}

## Method
{method_lines(settings)} The best of several plans is chosen by its frames alone (drawn path,
checks, read-out, agreement with the other plans), as *Rank Plans* does; *any* is the success of a perfect choice.
*One plan*: mean over all {settings["best_of"]} plans of a scene, interval over scenes. Gains are differences on the
same scenes: between the chosen plan and that mean, and between re-planning and a single plan.

Re-planning, past kept: after {every} moves the whole task is planned again; the frames that have already happened
stay in the grid as observed (their latents are inserted at the noise level of each step, as with a noise mask), so
only the remaining frames are generated. Re-planning from now: the current image is the first frame of a new plan,
with the rest of the drawn path.

## Limits
A planner that starts from now sees an arm in mid-task in its first frame; in training it saw that only in later frames.
With the past kept it sees nothing unusual, but nothing unexpected happens in this simulator either: nobody moves an
object while the arm is moving, which is what re-planning is for.
"""


STUDY = Study(BestOfSettings, measure, plot, page)

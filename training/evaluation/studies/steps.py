"""How many sampler steps does a plan need for execution, and what does its picture lose with fewer?"""

import time
from pathlib import Path

import numpy as np
from pydantic import Field

from ...sections.data import Positive
from ..charts import SERIES, figure
from ..closed_loop.planning import make_plans
from ..closed_loop.rates import difference, one_rate, rate
from ..closed_loop.requests import Asked
from ..closed_loop.trial import execute_plan, judge_plan
from ..colours import HUE_TOLERANCE_DEG, colour_kept
from ..figures import ssim
from ..statistics import bootstrap
from .base import Bench, Study, StudySettings, bench, change_cell, markdown_table, method_lines, rate_cell


class StepsSettings(StudySettings):
    """Settings of this study."""

    steps: tuple[Positive, ...] = Field((1, 2, 4, 8), min_length=1, description="steps of the sampler to compare")


def measure(settings: StepsSettings, out: Path) -> dict:
    """Success, colours, similarity and CPU seconds of the same requests at each number of steps, against the most."""
    counts = sorted(set(settings.steps))
    with bench(settings) as b:
        make_plans(b.planner, b.asked[:1], settings.modes[0], steps=1)  # one-time set-up must not count
        rows = {mode: {count: plans(b, mode, count, settings) for count in counts} for mode in settings.modes}
        spec = b.planner.spec
        decoded = [b.planner.through_autoencoder(item.truth) for item in b.asked]
        bound = [row_of(frames, item, b, settings.modes[0]) for frames, item in zip(decoded, b.asked, strict=True)]
    return {
        "own": {"steps": spec.steps, "execution_steps": spec.execution_steps},
        "modes": {
            mode: {str(count): summary(of_mode[count], of_mode[counts[-1]], b.asked) for count in counts}
            for mode, of_mode in rows.items()
        },
        "autoencoder": summary(bound, bound, b.asked),
    }


def plans(b: Bench, mode: str, count: int, settings: StepsSettings) -> list[dict]:
    """One row for each request, of a plan with `count` steps."""
    start = time.process_time()  # over all threads; other programs on the machine do not count
    made = make_plans(b.planner, b.asked, mode, batch_size=settings.batch_size, steps=count)
    seconds = (time.process_time() - start) / len(made)
    rows = [row_of(group[0], item, b, mode) for group, item in zip(made, b.asked, strict=True)]
    return [{**row, "seconds": seconds} for row in rows]


def row_of(frames: np.ndarray, item: Asked, b: Bench, mode: str) -> dict:
    """What is measured on one plan (F, h, w, 3) uint8."""
    judged = judge_plan(frames, item, mode, b.net)
    likeness = ssim(frames, item.truth)
    row = {"success": execute_plan(judged, item, b.world), "sound": judged.report.ok, "ssim": likeness}
    told = colour_kept(frames, item.truth, item.request.held, item.request.colours)
    return row if told is None else {**row, "colour": told["kept"]}


def summary(rows: list[dict], most: list[dict], asked: list[Asked]) -> dict:
    """Rates of plans, and their paired differences from those with the most steps.

    Args:
        rows: rows of the requests, from `row_of`.
        most: rows of the same requests with the most steps.
        asked: the requests.
    """
    done, likeness = [row["success"] for row in rows], np.array([row["ssim"] for row in rows])
    low, high = bootstrap(likeness)
    result = {
        "success": rate(done, asked),
        "success_change": difference(done, [row["success"] for row in most]),
        "sound": one_rate([row["sound"] for row in rows]),
        "ssim": {"mean": float(likeness.mean()), "low": low, "high": high},
        "ssim_change": difference(list(likeness), [row["ssim"] for row in most]),
    }
    if held := [(row["colour"], other["colour"]) for row, other in zip(rows, most, strict=True) if "colour" in row]:
        kept, before = zip(*held, strict=True)
        result |= {"colour_kept": one_rate(kept), "colour_change": difference(kept, before)}
    if "seconds" in rows[0]:
        result |= {"seconds": rows[0]["seconds"], "of_most": rows[0]["seconds"] / most[0]["seconds"]}
    return result


def plot(result: dict):
    """Success, and the held object's colour, over the steps."""
    made, axes = figure(8.4, 3.4, 2)
    titles = {"success": "executed", "colour_kept": "held object keeps its colour"}
    for axis, (key, title) in zip(axes, titles.items(), strict=True):
        for place, (mode, by_count) in enumerate(result["modes"].items()):
            rows = {int(count): row[key] for count, row in by_count.items() if key in row}
            x = np.array(list(rows)) * 1.03**place
            axis.plot(x, [row["rate"] for row in rows.values()], "o-", color=SERIES[mode], label=mode)
            axis.vlines(x, *([row[end] for row in rows.values()] for end in ("low", "high")), color=SERIES[mode])
        counts = [int(count) for count in next(iter(result["modes"].values()))]
        axis.set_xscale("log", base=2)
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.set(xlabel="steps", ylim=(0, 1.04), title=title)
        axis.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25%", "50%", "75%", "100%"])
    axes[0].legend(frameon=False)
    return made


def verdict(change: dict, most: str) -> str:
    """What the interval of a paired difference allows one to conclude."""
    if change["low"] <= 0 <= change["high"]:
        return f"no difference from {most} that these scenes could tell"
    return f"{'more' if change['low'] > 0 else 'less'} than with {most}"


def page(result: dict) -> str:
    """The study's page."""
    head = [
        "mode, steps",
        "executed",
        "change",
        "colour kept",
        "change",
        "SSIM",
        "checks passed",
        "CPU seconds per plan",
    ]
    rows, sentences = [], []
    for mode, by_count in result["modes"].items():
        rows += [[f"{mode}, {count}", *cells(row)] for count, row in by_count.items()]
        (fewest, row), most = next(iter(by_count.items())), f"{max(map(int, by_count))} steps"
        parts = {"executed": "success_change", "colour kept": "colour_change", "SSIM": "ssim_change"}
        told = ", ".join(f"{name}: {verdict(row[key], most)}" for name, key in parts.items() if key in row)
        sentences.append(f"- {mode}, {fewest} step{'s' * (fewest != '1')}: {told}.")
    rows.append(["true frames through the autoencoder", *cells(result["autoencoder"])])
    own = result["own"]
    return f"""# Steps of the sampler

How many steps does a plan need that is executed, and what does its picture lose with fewer?
The planner's record says {own["steps"]} steps for looking at a plan and {own["execution_steps"]} for executing it.

**Answer:**
{chr(10).join(sentences)}

![Success and colour over the steps](PLOT)

{markdown_table(head, rows)}

## Method
{method_lines(result["settings"])} The same requests and the same noise at each number of steps; *change* is the
difference from the most steps on the same scenes. *Colour kept*: of the pick and place scenes, those in which the held
object is found in every frame where the demonstration shows it, its hue at most {HUE_TOLERANCE_DEG:g} degrees from that
of the first frame. SSIM is against the demonstration's frames. CPU seconds are of
all threads, in batches of {result["settings"]["batch_size"]}, text encoders and autoencoder included; in brackets, the
ratio to the most steps.

## Limits
An interval that contains 0 does not say that there is no difference: with {result["settings"]["scenes"]} scenes only
large ones would show. Nothing here was distilled: these are the planner's own steps, only fewer.
"""


def cells(row: dict) -> list[str]:
    """Cells of one row of the page's table."""
    likeness, held = row["ssim"], "colour_kept" in row
    return [
        rate_cell(row["success"]),
        change_cell(row["success_change"]),
        rate_cell(row["colour_kept"]) if held else "-",
        change_cell(row["colour_change"]) if held else "-",
        f"{likeness['mean']:.3f} ({likeness['low']:.3f} to {likeness['high']:.3f})",
        rate_cell(row["sound"]),
        f"{row['seconds']:.2f} ({row['of_most']:.2f})" if "seconds" in row else "-",
    ]


STUDY = Study(StepsSettings, measure, plot, page)

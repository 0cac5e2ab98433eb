"""How much the LoRA, the prompt's sentence and the drawn path contribute: each is left out in turn."""

from pathlib import Path

from visual_planner.planner.prompts import parts_of

from ...model.pipeline import PlannerPipeline, open_planner
from ..charts import SERIES, bars, figure
from ..closed_loop.evaluation import bounds, plan_and_execute, rate
from ..closed_loop.requests import Wording
from .base import Study, StudySettings, bench, by_side, markdown_table, method_lines, rate_cell

LEFT_OUT = {
    "nothing": Wording(),
    "sentence": Wording(template=False),
    "path": Wording(overlay=False),
    "LoRA": Wording(),
}


def measure(settings: StudySettings, out: Path) -> dict:
    """Success of every mode with each thing left out; the path only in the modes that have one."""
    result: dict = {"success": {}}
    with bench(settings) as b:
        _, lora = open_planner(settings.planner, settings.lora)
        base = PlannerPipeline.load(settings.planner, None, b.planner.spec)
        for mode in settings.modes:
            result["success"][mode] = {}
            for name, wording in LEFT_OUT.items():
                if name == "path" and not parts_of(mode).path:
                    continue
                planner = base if name == "LoRA" else b.planner
                rows = plan_and_execute(planner, b.asked, mode, b.world, b.net, settings.closed_loop(), wording)
                result["success"][mode][name] = rate([row["success"] for row in rows], b.asked)
        result["lora"] = lora.name
        result |= bounds(b.asked, b.world, b.net)
    return result


def plot(result: dict):
    """Success with each thing left out, one panel per mode."""
    made, axes = figure(3.8 * len(result["success"]), 3.4, len(result["success"]))
    for axis, (mode, rows) in zip(axes, result["success"].items(), strict=True):
        bars(axis, rows, {"nothing": SERIES[mode]})
        axis.set_title(mode)
        axis.set_xlabel("left out")
    return made


def answer(success: dict[str, dict[str, dict]]) -> str:
    """Which parts are needed in which modes, as far as intervals that do not overlap tell."""
    told: dict[int, list[str]] = {}
    for part in (name for name in LEFT_OUT if name != "nothing"):
        pairs = {mode: (rows[part], rows["nothing"]) for mode, rows in success.items() if part in rows}
        for side, names in by_side(pairs).items():
            told.setdefault(side, []).append(f"the {part} ({', '.join(names)})")
    words = {-1: "fewer plans succeed without {}", 1: "more plans succeed without {}", 0: "it cannot be told of {}"}
    return "**Answer:** " + "; ".join(words[side].format(", ".join(told[side])) for side in words if side in told) + "."


def page(result: dict) -> str:
    """The study's page."""
    names = list(LEFT_OUT)
    rows = [
        [mode, *(rate_cell(row[name]) if name in row else "-" for name in names)]
        for mode, row in result["success"].items()
    ]
    static, frames = result["baselines"]["static"], result["bounds"]["true_frames"]
    return f"""# What the LoRA, the prompt's sentence and the drawn path contribute

{answer(result["success"])}

![Success with each left out](PLOT)

{markdown_table(["mode, left out:", *names], rows)}

Static plan: {rate_cell(static)}. True frames: {rate_cell(frames)}.

## Method
{method_lines(result["settings"])}
Left out: *sentence*, the prompt is the bare instruction; *path*, the first frame has no drawn path; *LoRA*, the base
model alone plans, with the same condition and prompt.

## Limits
Each is left out at planning time, not in training; a planner trained without it might do better.
"""


STUDY = Study(StudySettings, measure, plot, page)

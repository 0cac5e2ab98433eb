"""Plot and page of a sweep: its planners side by side."""

import numpy as np

from ..charts import GREY, SERIES, bars, figure
from ..closed_loop.evaluation import difference
from .base import change_cell, markdown_table, method_lines, rate_cell

COLOURS = ("#2a9d8f", "#d1495b", "#e08e2b", "#3b6fb6", "#8d6cab", "#2b2d42")
"""Colours of the variants' loss curves."""
MEASURED = ("success", "hand_error_mm")
"""What is measured in each scene."""
MORE, LESS, OPEN = "more requests succeed", "fewer requests succeed", "no difference that could be told"
_ENOUGH = 0.5
"""If no variant has this rate of success, none has learned enough to be compared by it."""


def plot(result: dict):
    """Success over the variants: one curve per mode if they have places on an axis, otherwise bars."""
    variants, settings = result["variants"], result["settings"]
    modes = list(dict.fromkeys(mode for row in variants.values() for mode in row["success"]))
    if all(row["variant"]["x"] is not None for row in variants.values()):
        made, (axis,) = figure(6.4, 3.8)
        _success_curves(axis, variants, modes)
        axis.set(xlabel=settings["axis"], ylabel="success rate")
        return made
    losses = {name: row["loss"] for name, row in variants.items() if "loss" in row}
    panels = len(modes) + bool(losses)
    made, axes = figure(2.0 + 1.1 * len(variants) * panels, 3.6, panels)
    if losses:
        _loss_curves(axes[-1], losses)
    for axis, mode in zip(axes, modes, strict=False):
        rows = {name: row["success"][mode] for name, row in variants.items() if mode in row["success"]}
        bars(axis, rows, dict.fromkeys(rows, SERIES[mode]))
        axis.set_title(mode)
    return made


def _success_curves(axis, variants: dict[str, dict], modes: list[str]) -> None:
    """Success of every mode with its interval, and of true frames, over the variants' places on the axis."""
    places = [row["variant"]["x"] for row in variants.values()]
    bound = [row["bounds"]["true_frames"]["rate"] for row in variants.values()]
    axis.plot(places, bound, "--", color=GREY)
    ends = [(bound[-1], "true frames", GREY)]
    for mode in modes:
        points = [(row["variant"]["x"], row["success"][mode]) for row in variants.values() if mode in row["success"]]
        x, rates = [place for place, _ in points], [rate for _, rate in points]
        axis.fill_between(
            x, [rate["low"] for rate in rates], [rate["high"] for rate in rates], color=SERIES[mode], alpha=0.12
        )
        axis.plot(x, [rate["rate"] for rate in rates], "o-", color=SERIES[mode])
        ends.append((rates[-1]["rate"], mode, SERIES[mode]))
    axis.set_xscale("symlog", linthresh=min(place for place in places if place > 0))
    axis.set_xticks(places, [f"{place:g}" for place in places])
    axis.minorticks_off()
    axis.set_ylim(0, 1.02)
    _name_ends(axis, ends)


def _name_ends(axis, ends: list[tuple[float, str, str]]) -> None:
    """Names of curves at the right of their ends (value, name, colour), each at least a line's height from the next."""
    low, high = axis.get_ylim()
    place = low
    for value, name, colour in sorted(ends):
        place = max(value, place)
        axis.annotate(name, (1.02, place), xycoords=("axes fraction", "data"), color=colour, va="center")
        place += 0.075 * (high - low)


def _loss_curves(axis, losses: dict[str, list]) -> None:
    """Training loss of every variant, averaged over at most five lines of the log, with its name at its end."""
    ends = []
    for colour, (name, curve) in zip(COLOURS, losses.items(), strict=False):
        steps, values = np.array(curve).T
        width = min(5, len(values))
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        axis.plot(steps[width - 1 :], smooth, color=colour)
        ends.append((smooth[-1], name, colour))
    _name_ends(axis, ends)
    axis.set(xlabel="training step", title="training loss, same examples")


def page(result: dict) -> str:
    """The study's page."""
    settings = result["settings"]
    modes = list(dict.fromkeys(mode for row in result["variants"].values() for mode in row["success"]))
    rows = [
        [name, *(rate_cell(row["success"][mode]) if mode in row["success"] else "-" for mode in modes),
         *(rate_cell(row["bounds"][bound]) for bound in ("true_keyframes", "true_frames")),
         rate_cell(row["baselines"]["static"])]
        for name, row in result["variants"].items()
    ]  # fmt: skip
    changes = "\n".join(_described(name, row["variant"]) for name, row in result["variants"].items())
    hands = [
        [name, *(_millimetres(row["hand_error_mm"][mode]) if mode in row["hand_error_mm"] else "-" for mode in modes)]
        for name, row in result["variants"].items()
    ]
    compared = _compared(result["variants"], modes) + _loss_table(result["variants"])
    return f"""# {settings["title"]}

{settings["question"]}

{answer(result["variants"], modes)}

![Success of the variants](PLOT)

{markdown_table(["variant", *modes, "true keyframes", "true frames", "static plan"], rows)}
{_runs_table(result["variants"], modes)}
Distance between the plans' end effector, as read out, and the demonstration's [mm, mean over all frames but the first]:

{markdown_table(["variant", *modes], hands)}
{compared}
## Method
{method_lines(settings)} {_told_runs(settings)}Trained with `{settings["training"]}` and these changes:

{_described("all", {"changes": settings["changes"], "scenes": "unseen"})}
{changes}

## Limits
{settings["limits"]}
"""


def answer(variants: dict[str, dict], modes: list[str]) -> str:
    """What the intervals allow one to conclude of the variants' success, against the first one.

    A difference counts if its interval leaves 0 out and each run differs in the same direction.
    """
    rates = [(row["success"][mode]["rate"], name) for name, row in variants.items() for mode in row["success"]]
    if max(rates)[0] < _ENOUGH:
        return (
            f"**Answer:** it cannot be told, since not even the best variant ({max(rates)[1]}) succeeds in half of the "
            "scenes."
        )
    (base, first), *others = variants.items()
    found: dict[str, dict[str, list[str]]] = {MORE: {}, LESS: {}, OPEN: {}}
    for name, row in others:
        for mode in (mode for mode in modes if mode in row["success"] and mode in first["success"]):
            if (change := against(row, first, mode)) is not None:
                verdict = _verdict(row, first, mode, change["success"])
                found[verdict].setdefault(name, []).append(f"{mode} {change_cell(change['success'])}")
    if not any(found.values()):
        return "**Answer:** each rate stands for itself, since the variants acted in different scenes."
    lines = [f"**Answer:** compared with *{base}*"]
    for verdict, by_name in found.items():
        if by_name:
            lines.append(
                f"- {verdict}: " + "; ".join(f"*{name}* ({', '.join(told)})" for name, told in by_name.items())
            )
    return "\n".join(lines)


def _verdict(row: dict, first: dict, mode: str, change: dict) -> str:
    """`MORE`, `LESS` or `OPEN`."""
    own, other = (side.get("runs", [side["success"]]) for side in (row, first))
    count = max(len(own), len(other))  # the planner that the others start from has one run, however many they have
    pairs = zip(*(runs * count if len(runs) == 1 else runs for runs in (own, other)), strict=True)
    signs = {np.sign(mine[mode]["rate"] - theirs[mode]["rate"]) for mine, theirs in pairs}
    if change["low"] <= 0 <= change["high"] or len(signs) > 1:
        return OPEN
    return MORE if change["low"] > 0 else LESS


def _runs_table(variants: dict[str, dict], modes: list[str]) -> str:
    """Success of each run of the variants that were trained more than once; empty if none was."""
    rows = [
        [f"{name}, run {number}", *(rate_cell(run[mode]) if mode in run else "-" for mode in modes)]
        for name, row in variants.items()
        for number, run in enumerate(row.get("runs", []), 1)
    ]
    return f"\nEach run:\n\n{markdown_table(['run', *modes], rows)}\n" if rows else ""


def _told_runs(settings: dict) -> str:
    """A sentence on the runs, if there are several."""
    if not (seeds := settings.get("seeds")):
        return ""
    return (
        f"Each variant was trained {len(seeds)} times (`train.seed` {', '.join(map(str, seeds))}); rates are means "
        "over the runs, with bootstrap intervals over scenes: what a further run would give is not in them. "
    )


def _millimetres(row: dict) -> str:
    """`23 (21 to 25)`."""
    return f"{row['mean']:.1f} ({row['low']:.1f} to {row['high']:.1f})"


def _compared(variants: dict[str, dict], modes: list[str]) -> str:
    """A table of differences from the first variant; empty if no scenes are the same."""
    (base, first), *others = variants.items()
    rows = []
    for name, row in others:
        for mode in (mode for mode in modes if mode in row["scenes"] and mode in first["scenes"]):
            found = against(row, first, mode)
            if found is not None:
                done, hand = found["success"], found["hand_error_mm"]
                rows.append([
                    name, mode, change_cell(done),
                    f"{hand['difference']:+.1f} mm ({hand['low']:+.1f} to {hand['high']:+.1f})",
                ])  # fmt: skip
    if not rows:
        return ""
    head = ["variant", "mode", "success", "end effector error"]
    return f"\nDifferences from *{base}* on the same scenes:\n\n{markdown_table(head, rows)}\n"


def _loss_table(variants: dict[str, dict]) -> str:
    """Training losses in the second half of the steps, and their differences from the first variant's, step by step."""
    curves = {name: np.array(row["loss"])[:, 1] for name, row in variants.items() if "loss" in row}
    if not curves:
        return ""
    base, *_ = curves
    halves = {name: curve[len(curve) // 2 :] for name, curve in curves.items()}
    rows = []
    for name, half in halves.items():
        change = difference(half, halves[base])
        interval = f"{change['difference']:+.3f} ({change['low']:+.3f} to {change['high']:+.3f})"
        rows.append([name, f"{half.mean():.3f}", "-" if name == base else interval])
    head = ["variant", "training loss, second half", f"against *{base}*"]
    return (
        f"\nMean training loss over the logged steps of the second half; differences are of the same steps, whose "
        f"examples, times and noise are the same:\n\n{markdown_table(head, rows)}\n"
    )


def _described(name: str, variant: dict) -> str:
    """A line of a page about a variant."""
    changes = ", ".join(f"`{key}: {value}`" for key, value in variant["changes"].items()) or "as configured"
    scenes = ", judged on its training scenes" if variant["scenes"] == "training" else ""
    return f"- **{name}**: {changes}{scenes}"


def against(variant: dict, first: dict, mode: str) -> dict | None:
    """Differences of a variant from the first one on the same scenes, with their intervals; None on other scenes."""
    own, other = variant["scenes"][mode], first["scenes"][mode]
    if [scene["seed"] for scene in own] != [scene["seed"] for scene in other]:
        return None
    return {name: difference([scene[name] for scene in own], [scene[name] for scene in other]) for name in MEASURED}

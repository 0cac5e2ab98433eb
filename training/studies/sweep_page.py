"""Plot and page of a sweep: its planners side by side."""

from ..closed_loop.command import difference
from .base import SERIES, bars, change_cell, figure, markdown_table, method_lines, rate_cell


def plot(result: dict):
    """Success over the variants: a curve a mode where they have places on an axis, else bars."""
    variants, settings = result["variants"], result["settings"]
    modes = list(dict.fromkeys(mode for row in variants.values() for mode in row["success"]))
    if all(row["variant"]["x"] is not None for row in variants.values()):
        made, (axis,) = figure(6.4, 3.8)
        for mode in modes:
            points = [
                (row["variant"]["x"], row["success"][mode]) for row in variants.values() if mode in row["success"]
            ]
            x = [place for place, _ in points]
            axis.fill_between(
                x, [r["low"] for _, r in points], [r["high"] for _, r in points], color=SERIES[mode], alpha=0.15
            )
            axis.plot(x, [r["rate"] for _, r in points], "o-", color=SERIES[mode])
            axis.text(x[-1], points[-1][1]["rate"], f"  {mode}", color=SERIES[mode], va="center")
        axis.set_xscale("symlog", linthresh=min(place for place in x if place > 0))
        axis.set_xticks(x, [f"{place:g}" for place in x])
        axis.minorticks_off()
        axis.margins(x=0.15)
        axis.set(ylim=(0, 1), xlabel=settings["axis"], ylabel="requests carried out")
        return made
    made, axes = figure(2.0 + 1.1 * len(variants) * len(modes), 3.6, len(modes))
    for axis, mode in zip(axes, modes, strict=True):
        rows = {name: row["success"][mode] for name, row in variants.items() if mode in row["success"]}
        bars(axis, rows, dict.fromkeys(rows, SERIES[mode]))
        axis.set_title(mode)
    return made


def page(result: dict) -> str:
    """The study's page."""
    settings = result["settings"]
    modes = list(dict.fromkeys(mode for row in result["variants"].values() for mode in row["success"]))
    rows = [
        [name, *(rate_cell(row["success"][mode]) if mode in row["success"] else "-" for mode in modes),
         rate_cell(row["bounds"]["true_frames"]), rate_cell(row["baselines"]["static"])]
        for name, row in result["variants"].items()
    ]  # fmt: skip
    changes = "\n".join(_described(name, row["variant"]) for name, row in result["variants"].items())
    hands = [
        [name, *(_millimetres(row["hand_error_mm"][mode]) if mode in row["hand_error_mm"] else "-" for mode in modes)]
        for name, row in result["variants"].items()
    ]
    compared = _compared(result["variants"], modes)
    return f"""# {settings["title"]}

{settings["question"]}

![Success of the variants](PLOT)

{markdown_table(["variant", *modes, "true frames", "static plan"], rows)}

How far the plans' hand, as the read-out sees it, is from the demonstration's [mm, mean of all frames but the first]:

{markdown_table(["variant", *modes], hands)}
{compared}
## Method
{method_lines(settings)} Trained with `{settings["training"]}` and these changes:

{_described("all", {"changes": settings["changes"], "scenes": "unseen"})}
{changes}

## Limits
{settings["limits"]}
"""


def _millimetres(row: dict) -> str:
    """`23 (21 to 25)`."""
    return f"{row['mean']:.1f} ({row['low']:.1f} to {row['high']:.1f})"


def _compared(variants: dict[str, dict], modes: list[str]) -> str:
    """A table of differences from the first variant; nothing where no scenes are the same."""
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
    head = ["variant", "mode", "carried out", "hand error"]
    return f"\nDifferences from *{base}* on the same scenes:\n\n{markdown_table(head, rows)}\n"


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
    return {
        name: difference([scene[name] for scene in own], [scene[name] for scene in other])
        for name in ("success", "hand_error_mm")
    }

"""Plots of studies and reports, in one style: matplotlib figures without a window."""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from io import BytesIO, StringIO
from textwrap import fill

import numpy as np
from PIL import Image

INK, GOOD, BAD, GREY = "#2b2d42", "#2a9d8f", "#d1495b", "#9aa0a6"
SERIES = {
    "text": "#3b6fb6", "trajectory": "#e08e2b", "both": "#2a9d8f",
    "goal": "#8d5a97", "text_goal": "#1d3557", "trajectory_goal": "#9c5c10", "both_goal": "#14594f",
}  # fmt: skip
"""Colour of each mode, the same in every plot."""
_WINDOW = 5
_SVG = {"svg.fonttype": "none", "svg.hashsalt": "visual_planner", "font.family": "sans-serif"}
"""Text stays text, and equal figures give equal files."""


def figure(width: float = 7.0, height: float = 3.6, columns: int = 1):
    """A figure and its axes (a list).

    Args:
        width: [inches].
        height: [inches].
        columns: number of axes side by side.
    """
    from matplotlib.figure import Figure  # without pyplot, which would keep every figure until the process ends

    made = Figure(figsize=(width, height), layout="constrained")
    axes = made.subplots(1, columns, squeeze=False)
    for axis in axes[0]:
        axis.spines[["top", "right"]].set_visible(False)
    return made, list(axes[0])


def svg(made) -> str:
    """A figure as an SVG element for an HTML page."""
    from matplotlib import rc_context

    with rc_context(_SVG):
        text = StringIO()
        made.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def bars(axis, rows: dict[str, dict], colours: dict[str, str] | None = None) -> None:
    """Bars of success rates with their intervals, each with its figure above.

    Args:
        axis: axis to draw on.
        rows: rate, low and high by name.
        colours: colours by name.
    """
    for place, (name, row) in enumerate(rows.items()):
        axis.bar(place, row["rate"], 0.7, color=(colours or {}).get(name, GREY))
        axis.vlines(place, row["low"], row["high"], color=INK, linewidth=1.4)
        axis.text(place, row["high"] + 0.02, f"{row['rate']:.0%}", ha="center", va="bottom", color=INK)
    labels = ["\n".join(fill(line, 11, break_long_words=False) for line in name.splitlines()) for name in rows]
    axis.set_xticks(range(len(rows)), labels)
    axis.set_ylim(0, 1.12)
    axis.set_yticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "25%", "50%", "75%", "100%"])
    axis.set_ylabel("success rate")


def loss_curve(log: Sequence[dict], title: str):
    """Loss of a run over its steps, raw and as a mean of five lines; validation losses as dots.

    Args:
        log: lines of the run's log.
        title: printed above.
    """
    made, (axis,) = figure(4.4, 2.6)
    axis.set_title(title, fontsize="medium", parse_math=False)
    axis.set_xlabel("step")
    lines = [line for line in log if "loss" in line]
    unseen = [(line["step"], line["validation_loss"]) for line in log if "validation_loss" in line]
    if lines:
        steps, loss = np.array([[line["step"], line["loss"]] for line in lines], float).T
        width = min(_WINDOW, len(loss))
        axis.plot(steps, loss, color=GREY, linewidth=0.8)
        axis.plot(steps[width - 1 :], np.convolve(loss, np.ones(width) / width, mode="valid"), color=SERIES["both"])
        # A first loss far above the rest would flatten the curve.
        axis.set_ylim(0, max([float(np.quantile(loss, 0.98)), *(value for _, value in unseen)]) * 1.1 or 1.0)
    if unseen:
        axis.plot(*zip(*unseen, strict=True), "o", color=SERIES["text"], markersize=4, label="validation")
        axis.legend(frameon=False)
    return made


def interval_chart(figures: Mapping[str, Mapping], title: str):
    """One figure of several plans and baselines, as dots with their 95% intervals.

    Args:
        figures: {"value": v, "interval": (low, high)} by the name to print.
        title: printed above.
    """
    made, (axis,) = figure(4.4, max(2.6, 0.3 * len(figures) + 0.9))
    for place, row in enumerate(figures.values()):
        axis.hlines(place, *row["interval"], color=GREY, linewidth=3)
        axis.plot(row["value"], place, "o", color=INK)
    axis.set_yticks(range(len(figures)), figures, parse_math=False)
    axis.invert_yaxis()
    axis.set_title(title, fontsize="medium", parse_math=False)
    return made


def packed(frames: np.ndarray) -> str:
    """Frames (F, h, w, 3) uint8 side by side, as JPEG in base64, so that results contain what their plot shows."""
    file = BytesIO()
    Image.fromarray(np.concatenate(frames, axis=1)).save(file, "JPEG", quality=90)
    return b64encode(file.getvalue()).decode()


def strips(axis, groups: Sequence[tuple[str, Mapping[str, str]]]) -> None:
    """Strips of frames one below the other, each with its name at the left, the first of a group also with the group's.

    Args:
        axis: axis to draw on.
        groups: name of each group, and its strips (from `packed`) by their names.
    """
    stack, ticks, names = [], [], []
    for group, by_name in groups:
        for place, (name, text) in enumerate(by_name.items()):
            strip = np.asarray(Image.open(BytesIO(b64decode(text))).convert("RGB"))
            gap = np.full((len(strip) // 8, *strip.shape[1:]), 255, np.uint8)
            ticks.append(sum(map(len, stack)) + len(strip) / 2)
            names.append(name if place else f"{group}:\n{name}")
            stack += [strip, gap]
        stack.append(gap)
    axis.imshow(np.concatenate(stack))
    axis.set_yticks(ticks, names, fontsize="x-small", parse_math=False)
    axis.set_xticks([])
    axis.spines[:].set_visible(False)

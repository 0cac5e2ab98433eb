"""Plots as SVG text: loss curves of runs, and figures with their intervals. No plotting package is needed."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

_WINDOW = 5
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 420, 240, 56, 34, 26
_COLOURS = ("#d1495b", "#30638e", "#edae49", "#00798c", "#6a4c93")


def loss_curve(log: Sequence[dict], title: str) -> str:
    """Loss of a run over its steps, raw and as a mean of five lines; validation losses as dots.

    Args:
        log: lines of the run's log.
        title: printed above.
    """
    lines = [line for line in log if "loss" in line]
    unseen = [(line["step"], line["validation_loss"]) for line in log if "validation_loss" in line]
    if not lines:
        return _svg(title, [], (0.0, 1.0), (0.0, 1.0))
    steps, loss = np.array([[line["step"], line["loss"]] for line in lines], float).T
    width = min(_WINDOW, len(loss))
    smooth = np.convolve(loss, np.ones(width) / width, mode="valid")
    top = max([float(np.quantile(loss, 0.98)), *(value for _, value in unseen)]) * 1.1
    place = _Place((float(steps[0]), float(max(steps[-1], steps[0] + 1))), (0.0, top or 1.0))
    shapes = [
        _line(place, steps, np.minimum(loss, top), "#bbb", 1),
        _line(place, steps[width - 1 :], np.minimum(smooth, top), _COLOURS[0], 2),
    ]
    shapes += [
        f'<circle cx="{place.x(step):.1f}" cy="{place.y(min(value, top)):.1f}" r="3" fill="{_COLOURS[1]}">'
        f"<title>validation, step {step}: {value:.4f}</title></circle>"
        for step, value in unseen
    ]
    return _svg(title, shapes, place.across, place.up)


def interval_chart(figures: Mapping[str, Mapping], title: str) -> str:
    """One figure of several plans and baselines, as dots with their 95% intervals.

    Args:
        figures: {"value": v, "interval": (low, high)} by the name to print.
        title: printed above.
    """
    ends = [end for figure in figures.values() for end in (figure["value"], *figure["interval"])]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    margin = 0.08 * (high - low) or 0.5
    rows = len(figures)
    height = max(_HEIGHT, 22 * rows + _TOP + _BOTTOM)
    place = _Place((low - margin, high + margin), (0.0, float(max(rows, 1))), left=130, height=height)
    shapes = []
    for row, (name, figure) in enumerate(figures.items()):
        y, (start, end) = place.y(rows - row - 0.5), figure["interval"]
        shapes.append(f'<text x="124" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>')
        shapes.append(
            f'<line x1="{place.x(start):.1f}" x2="{place.x(end):.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{_COLOURS[1]}" '
            f'stroke-width="2"/><circle cx="{place.x(figure["value"]):.1f}" cy="{y:.1f}" r="4" fill="{_COLOURS[0]}">'
            f"<title>{figure['value']:.4f} ({start:.4f} to {end:.4f})</title></circle>"
        )
    return _svg(title, shapes, place.across, None, left=130, height=height)


class _Place:
    """From values to places on the paper."""

    def __init__(
        self, across: tuple[float, float], up: tuple[float, float], left: int = _LEFT, height: int = _HEIGHT
    ) -> None:
        self.across, self.up, self.left, self.height = across, up, left, height

    def x(self, value: float) -> float:
        low, high = self.across
        return self.left + (value - low) / (high - low) * (_WIDTH - self.left - 12)

    def y(self, value: float) -> float:
        low, high = self.up
        return self.height - _BOTTOM - (value - low) / (high - low) * (self.height - _BOTTOM - _TOP)


def _line(place: _Place, xs: np.ndarray, ys: np.ndarray, colour: str, width: float) -> str:
    points = " ".join(f"{place.x(x):.1f},{place.y(y):.1f}" for x, y in zip(xs, ys, strict=True))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _svg(
    title: str,
    shapes: list[str],
    across: tuple[float, float],
    up: tuple[float, float] | None,
    left: int = _LEFT,
    height: int = _HEIGHT,
) -> str:
    """The frame around a plot: title, both axes and their end values."""
    foot = height - _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f'<text x="{_WIDTH / 2}" y="15" text-anchor="middle" font-size="13">{escape(title)}</text>',
        f'<path d="M{left},{_TOP} V{foot} H{_WIDTH - 12}" fill="none" stroke="#333"/>',
        f'<text x="{left}" y="{foot + 15}">{across[0]:.4g}</text>',
        f'<text x="{_WIDTH - 12}" y="{foot + 15}" text-anchor="end">{across[1]:.4g}</text>',
    ]
    if up is not None:
        parts.append(f'<text x="{left - 5}" y="{foot}" text-anchor="end">{up[0]:.4g}</text>')
        parts.append(f'<text x="{left - 5}" y="{_TOP + 8}" text-anchor="end">{up[1]:.4g}</text>')
    return "\n".join([*parts, *shapes, "</svg>"])

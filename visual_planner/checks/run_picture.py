"""The picture of a training run: its progress, its loss curve, and the newest plans beside the ground truth."""

import math
from collections.abc import Sequence

import numpy as np

WIDTH = 480  # [px]
_MARGIN, _TEXT, _LINE = 12, 15, 21  # [px]
_LEFT, _CURVE, _BELOW = 52, 150, 26  # space for the labels of the losses, height of the curve, its labels [px]
_INK, _FAINT, _GRID, _PAPER = (32, 33, 36), (130, 134, 139), (222, 224, 227), (255, 255, 255)
_RAW, _MEAN, _HELD_OUT = (178, 203, 235), (26, 95, 180), (192, 86, 33)
_SMOOTH = 20
"""The line of means averages over 1 / `_SMOOTH` of all losses."""
_SHEETS = 3
"""Most sheets that are shown."""
Points = Sequence[tuple[float, float]]


def draw_run(
    lines: Sequence[str], losses: Points, held_out: Points, steps: int, sheets: Sequence[np.ndarray]
) -> np.ndarray:
    """Draw the picture.

    Args:
        lines: text above the curve.
        losses: (step, loss) of training, in order of steps.
        held_out: (step, loss) on held-out pairs.
        steps: number of steps of the whole run, which is the end of the axis.
        sheets: pictures (H, W, 3) uint8, of which the first `_SHEETS` are shown below the curve.

    Returns:
        (H, `WIDTH`, 3) uint8.
    """
    from PIL import Image, ImageDraw, ImageFont

    fitted = [_fitted(Image.fromarray(sheet)) for sheet in sheets[:_SHEETS]]
    top = _MARGIN + _LINE * len(lines) + 6
    below = top + _CURVE + _BELOW + 6
    height = below + sum(sheet.height + 6 for sheet in fitted) + 6
    picture = Image.new("RGB", (WIDTH, height), _PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(_TEXT)
    for number, line in enumerate(lines):
        pen.text((_MARGIN, _MARGIN + number * _LINE), line, _INK, font)
    _draw_curve(pen, ImageFont.load_default(12), top, losses, held_out, steps)
    for sheet in fitted:
        picture.paste(sheet, ((WIDTH - sheet.width) // 2, below))
        below += sheet.height + 6
    return np.asarray(picture)


def _fitted(sheet):
    """A sheet as wide as the picture has room for; small ones are enlarged by whole factors only."""
    from PIL import Image

    room = WIDTH - 2 * _MARGIN
    if sheet.width <= room:
        times = room // sheet.width
        return sheet.resize((sheet.width * times, sheet.height * times), Image.Resampling.NEAREST)
    return sheet.resize((room, max(1, round(sheet.height * room / sheet.width))), Image.Resampling.BICUBIC)


def _draw_curve(pen, font, top: int, losses: Points, held_out: Points, steps: int) -> None:
    right, bottom = WIDTH - _MARGIN, top + _CURVE
    low, high, ticks = axis([loss for _, loss in (*losses, *held_out)])
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0])))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        step, loss = point
        x = _LEFT + (right - _LEFT) * min(1.0, step / max(1, steps))
        return x, bottom - _CURVE * (loss - low) / (high - low)

    for tick in ticks:
        y = place((0, tick))[1]
        pen.line([(_LEFT, y), (right, y)], _GRID)
        pen.text((_LEFT - 6, y), f"{tick:.{decimals}f}", _FAINT, font, anchor="rm")
    for step, anchor in ((0, "lt"), (steps, "rt")):
        pen.text((place((step, low))[0], bottom + 5), f"{step}", _FAINT, font, anchor=anchor)
    legend = [("loss", _MEAN)] if losses else []
    legend += [("on held-out pairs", _HELD_OUT)] if held_out else []
    x = (_LEFT + right - sum(font.getlength(text) + 24 for text, _ in legend)) / 2
    for text, color in legend:
        pen.ellipse([x, bottom + 9, x + 6, bottom + 15], color)
        pen.text((x + 10, bottom + 5), text, _FAINT, font, anchor="lt")
        x += font.getlength(text) + 24
    _draw_line(pen, [place(point) for point in losses], _RAW, 1)
    _draw_line(pen, [place(point) for point in running_means(losses)], _MEAN, 2)
    _draw_line(pen, [place(point) for point in held_out], _HELD_OUT, 1)
    for x, y in map(place, held_out):
        pen.ellipse([x - 3, y - 3, x + 3, y + 3], _HELD_OUT)


def _draw_line(pen, places: list[tuple[float, float]], color: tuple[int, int, int], width: int) -> None:
    if len(places) > 1:
        pen.line(places, color, width, joint="curve")
    elif places:
        ((x, y),) = places
        pen.ellipse([x - 2, y - 2, x + 2, y + 2], color)


def running_means(points: Points) -> list[tuple[float, float]]:
    """Each loss averaged with those before it, over 1 / `_SMOOTH` of all losses, at the same steps."""
    window = max(1, len(points) // _SMOOTH)
    totals = np.concatenate([[0.0], np.cumsum([loss for _, loss in points])])
    means = []
    for index, (step, _) in enumerate(points):
        start = max(0, index + 1 - window)
        means.append((step, float(totals[index + 1] - totals[start]) / (index + 1 - start)))
    return means


def axis(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """Ends of an axis that spans all values, and the round numbers to mark on it, both ends included.

    Values that are not finite are left out; without any the axis is from 0 to 1.
    """
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    least = max(abs(high), abs(low), 1e-6) * 0.02  # a flat curve stays flat
    spacing = max(high - low, least) / 3
    unit = 10.0 ** math.floor(math.log10(spacing))
    spacing = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= spacing * 0.999)
    first, last = math.floor(low / spacing), math.ceil(high / spacing)
    last = max(last, first + 1)
    return first * spacing, last * spacing, [number * spacing for number in range(first, last + 1)]

"""Picture of what an adapter changes: blocks against kinds of layers, coloured by the size of the change."""

from typing import TYPE_CHECKING

import numpy as np

from .change import Table, shown

if TYPE_CHECKING:
    from PIL import ImageDraw

_INK, _PAPER, _EMPTY = (32, 33, 36), (255, 255, 255), (232, 234, 237)
_CELL, _ROW, _GAP, _TEXT, _SMALL = 40, 20, 10, 14, 11  # [px]
_LIGHT = 140  # below this luminance a cell's number is white
_BAR = 240  # width of the colour scale [px]


def draw_heat_maps(tables: list[Table], title: str, relative: bool) -> np.ndarray:
    """Draw the tables one below the other, each with its sums, and the colour scale that they share.

    Args:
        tables: one or more.
        title: above the picture.
        relative: whether the values are fractions of the weights' size.

    Returns:
        (H, W, 3) float32 in [0, 1].
    """
    from PIL import Image, ImageDraw, ImageFont

    font, small = ImageFont.load_default(_TEXT), ImageFont.load_default(_SMALL)
    label = 2 * _GAP + int(max(small.getlength(row) for table in tables for row in (*table.rows, "all together")))
    columns = max(table.values.shape[1] for table in tables)
    width = max(label + _CELL * columns + 2 * _GAP, int(font.getlength(title)) + 2 * _GAP, _BAR + 2 * _CELL + 2 * _GAP)
    height = 4 * _ROW + 2 * _GAP + sum(_height(table) for table in tables)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), title, _INK, font=font)
    most = max(float(np.nanmax(table.values)) for table in tables)
    top = _GAP + _ROW + _GAP
    _draw_scale(draw, top, most, relative, small)
    top += 2 * _ROW
    for table in tables:
        _draw_table(draw, table, (label, top), most, relative, (font, small))
        top += _height(table)
    return np.asarray(sheet, dtype=np.float32) / 255.0


def _height(table: Table) -> int:
    return (len(table.rows) + 3) * _ROW + _GAP


def _draw_scale(draw: "ImageDraw.ImageDraw", top: int, most: float, relative: bool, font) -> None:
    for place in range(_BAR):
        draw.line([(_GAP + place, top), (_GAP + place, top + _ROW - 6)], _colour(place / (_BAR - 1), 1.0))
    draw.text((_GAP, top + _ROW - 5), "0", _INK, font=font)
    draw.text((_GAP + _BAR, top + _ROW - 5), shown(most, relative), _INK, font=font, anchor="ma")


def _draw_table(
    draw: "ImageDraw.ImageDraw", table: Table, corner: tuple[int, int], most: float, relative: bool, fonts
) -> None:
    (left, top), (font, small) = corner, fonts
    draw.text((_GAP, top), table.title, _INK, font=font)
    for place, column in enumerate((*table.columns, "all")):
        draw.text((left + (place + 0.5) * _CELL, top + _ROW + 4), column, _INK, font=small, anchor="ma")
    for line, row in enumerate((*table.rows, "all together")):
        upper = top + (2 + line) * _ROW
        draw.text((_GAP, upper + 3), row, _INK, font=small)
        for place, value in enumerate(table.values[line]):
            x, colour = left + place * _CELL, _colour(float(value), most)
            draw.rectangle([x, upper, x + _CELL - 2, upper + _ROW - 2], colour)
            ink = _PAPER if np.dot(colour, (0.299, 0.587, 0.114)) < _LIGHT else _INK
            text = shown(float(value), relative).removesuffix("%")
            draw.text((x + _CELL / 2 - 1, upper + 3), text, ink, font=small, anchor="ma")


def _colour(value: float, most: float) -> tuple[int, int, int]:
    """Colour of a value from 0 to `most`; unchanged weights have a colour of their own."""
    import cv2

    if not np.isfinite(value):
        return _EMPTY
    level = np.uint8(np.clip(round(255 * value / most) if most > 0 else 0, 0, 255))
    blue, green, red = cv2.applyColorMap(np.full((1, 1), level), cv2.COLORMAP_VIRIDIS)[0, 0]
    return int(red), int(green), int(blue)

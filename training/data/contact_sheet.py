"""A picture to look at before anything is trained: conditions beside their grids, with the prompts."""

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..files import replacing
from .sources.pictures import read_picture

_PAIRS, _COLUMNS = 24, 3
_SIDE, _GAP, _TEXT = 260, 10, 13
"Height of a grid, gap and font height on the sheet [px]."


def write_sheet(folder: Path, pairs: Sequence[dict], cell: tuple[int, int], file: Path) -> None:
    """Write a JPEG of up to 24 pairs, spread over the data and its modes.

    Args:
        folder: folder of the pictures.
        pairs: lines of pairs.jsonl.
        cell: (h, w) of a cell [px]: of the condition only the first cell is shown.
        file: where to write.
    """
    count = min(_PAIRS, len(pairs))
    shown = [pairs[number * len(pairs) // count] for number in range(count)]
    font = ImageFont.load_default(_TEXT)
    tiles = [_tile(folder, pair, cell, font) for pair in shown]
    width, height = max(tile.width for tile in tiles), max(tile.height for tile in tiles)
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP), "white")
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(tile, (_GAP + column * (width + _GAP), _GAP + row * (height + _GAP)))
    with replacing(file) as temporary:
        # into memory first: Pillow's JPEG writer does not report why writing to disk failed
        held = io.BytesIO()
        sheet.save(held, "JPEG", quality=85)
        temporary.write_bytes(held.getvalue())


def _tile(folder: Path, pair: dict, cell: tuple[int, int], font: ImageFont.FreeTypeFont) -> Image.Image:
    files = [folder / pair[key] for key in ("source", "target")]
    condition, grid = (Image.fromarray(read_picture(file, f"picture {file}")) for file in files)
    first = condition.crop((0, 0, cell[1], cell[0]))
    grid = grid.resize((round(grid.width * _SIDE / grid.height), _SIDE), Image.Resampling.LANCZOS)
    first = first.resize((round(first.width * _SIDE / 2 / first.height), _SIDE // 2), Image.Resampling.LANCZOS)
    width = first.width + _GAP // 2 + grid.width
    lines = _wrapped(pair["text"], width, font)[:3]
    tile = Image.new("RGB", (width, _SIDE + (_TEXT + 4) * 4), "white")
    tile.paste(first, (0, 0))
    tile.paste(grid, (first.width + _GAP // 2, 0))
    draw = ImageDraw.Draw(tile)
    for number, line in enumerate([f"{pair['id']} ({pair['split']})", *lines]):
        draw.text((0, _SIDE + 3 + number * (_TEXT + 4)), line, "black" if number else "#8a2be2", font=font)
    return tile


def _wrapped(text: str, width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines

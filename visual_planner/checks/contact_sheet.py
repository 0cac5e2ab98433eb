"""The picture of a report: frames in time order with their numbers, verdicts below."""

import math

import numpy as np

_INK, _GOOD, _BAD, _PAPER = (32, 33, 36), (24, 128, 56), (197, 34, 31), (255, 255, 255)
_FRAME_SIDE = 160  # the longer side of a shown frame is at least this [px]
_GAP = 8
_TEXT = 15  # [px]


def draw_sheet(frames: np.ndarray, lines: list[tuple[bool, str]]) -> np.ndarray:
    """Draw the sheet.

    Args:
        frames: (F, h, w, 3) float32 in [0, 1].
        lines: (passed, text) per verdict.

    Returns:
        (H, W, 3) float32 in [0, 1].
    """
    from PIL import Image, ImageDraw, ImageFont

    count, height, width, _ = frames.shape
    # Whole multiples keep small frames sharp and every pixel visible.
    times = max(1, math.ceil(_FRAME_SIDE / max(height, width)))
    height, width = height * times, width * times
    cols = min(count, math.ceil(math.sqrt(count * 2)))
    rows = math.ceil(count / cols)
    label, spacing = _TEXT + 6, _TEXT + 8
    font = ImageFont.load_default(_TEXT)
    text_width = max((int(font.getlength(f"FAIL  {text}")) for _, text in lines), default=0)
    sheet_width = max(cols * (width + _GAP), text_width + _GAP) + _GAP
    sheet_height = rows * (height + label + _GAP) + _GAP + spacing * len(lines) + (_GAP if lines else 0)
    sheet = Image.new("RGB", (sheet_width, sheet_height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, frame in enumerate(frames):
        row, col = divmod(number, cols)
        left, top = _GAP + col * (width + _GAP), _GAP + row * (height + label + _GAP)
        picture = Image.fromarray(np.rint(frame * 255.0).astype(np.uint8))
        sheet.paste(picture.resize((width, height), Image.Resampling.NEAREST), (left, top + label))
        draw.text((left, top), f"frame {number + 1}" if number else "frame 1 (given)", _INK, font=font)
    top = rows * (height + label + _GAP) + _GAP
    for passed, text in lines:
        draw.text((_GAP, top), "ok" if passed else "FAIL", _GOOD if passed else _BAD, font=font)
        draw.text((_GAP + int(font.getlength("FAIL  ")), top), text, _INK, font=font)
        top += spacing
    return np.asarray(sheet, dtype=np.float32) / 255.0

"""Decode pictures: one decoder for training data, the demo's first frame and pictures that are looked at.

A picture is read as ComfyUI's Load Image shows it (turned as its EXIF orientation says) and as `grid.frame` takes
frames: transparency is laid over black, 16-bit greys count to 65535. Files are opened by the caller. Pillow is imported
when a picture is read, since the nodes never read one.
"""

from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from .errors import ImageError, plain
from .grid.frame import to_bytes, to_rgb

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""Formats that are opened. Pillow knows others, of which PostScript starts a program."""
MAX_SIDE_PX = 65535
MAX_PIXELS = 64 * 2**20
"""Bounds of a picture: a small file can declare one that fills the memory."""

_PIXELS_AT_ONCE = 2**18
_KEPT_MODES = ("L", "LA", "RGB", "RGBA", "I;16", "I;16B", "I;16L", "I;16N", "I", "F")
"Pillow's modes whose arrays `to_rgb` understands as they are."


def picture_size(stream: BinaryIO, what: str, error: type[Exception] = ImageError) -> tuple[int, int]:
    """Size (h, w) that a picture has once it is turned, from its header alone; see `read_picture` for the rest."""
    image = _opened(stream, what, error)
    # Pillow turns TIFF by itself, and gives its size as that of the turned picture already.
    turned = image.format != "TIFF" and _orientation(image) >= 5
    return (image.width, image.height) if turned else (image.height, image.width)


def read_picture(stream: BinaryIO, what: str, error: type[Exception] = ImageError) -> np.ndarray:
    """Picture (h, w, 3) uint8.

    Args:
        stream: content of a file.
        what: names it in messages.
        error: class of the error to raise.

    Raises:
        ImageError: (or `error`) it is truncated, of another format, no picture, or too large.
    """
    image = _opened(stream, what, error)
    try:
        return _pixels(image)
    except Exception as problem:  # decoders raise whatever a damaged file makes them
        raise error(f"{what} cannot be read: {_reason(problem)}") from problem


def _pixels(image: "Image.Image") -> np.ndarray:
    image.load()
    orientation = _orientation(image)
    mode = image.mode
    if "transparency" in image.info or mode in ("PA", "La", "RGBa"):
        image = image.convert("RGBA")
    elif mode not in _KEPT_MODES:
        image = image.convert("RGB")
    pixels = np.array(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        pixels = _eight_bit(pixels)
    return _turned(pixels, orientation)


def _eight_bit(pixels: np.ndarray) -> np.ndarray:
    """Picture (h, w) or (h, w, C) of any dtype as (h, w, 3) uint8, a few rows at a time to save memory."""
    if pixels.dtype.kind == "i":  # the scale of signed numbers depends on the largest of all rows
        low, high = int(pixels.min()), int(pixels.max())
        if low >= 0 and high <= 65535:
            pixels = pixels.astype(np.uint8 if high <= 255 else np.uint16)
    result = np.empty((*pixels.shape[:2], 3), np.uint8)
    rows = max(1, _PIXELS_AT_ONCE // pixels.shape[1])
    for start in range(0, len(pixels), rows):
        result[start : start + rows] = to_bytes(to_rgb(pixels[start : start + rows])[0])
    return result


def _opened(stream: BinaryIO, what: str, error: type[Exception]) -> "Image.Image":
    """A picture whose header is read and within bounds."""
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(stream, formats=FORMATS)
    except UnidentifiedImageError as problem:
        raise error(f"{what} cannot be read: it must be a picture ({', '.join(FORMATS)})") from problem
    except Exception as problem:
        raise error(f"{what} cannot be read: {_reason(problem)}") from problem
    width, height = image.size
    if max(width, height) > MAX_SIDE_PX or width * height > MAX_PIXELS:
        raise error(f"{what} must have at most {MAX_PIXELS} pixels, got {width}x{height}")
    return image


def _orientation(image: "Image.Image") -> int:
    """EXIF orientation, 1 to 8; a damaged or meaningless one counts as none."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # parsers of EXIF raise whatever a damaged block makes them; the picture itself is whole
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """A picture (h, w, 3) turned upright by its EXIF orientation: from 5 on rows and columns change places."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    flip_x, flip_y = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    return np.ascontiguousarray(pixels[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def _reason(problem: Exception) -> str:
    return plain(str(problem)) or type(problem).__name__

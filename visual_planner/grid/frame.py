"""Make any first frame fit a cell: sizes, channels and dtypes.

Pixel coordinates are continuous: (0, 0) is the frame's top-left corner, the first pixel's centre is (0.5, 0.5).
"""

import numpy as np
import torch

from ..errors import ImageError, brief
from .layout import whole_number

FITS = ("letterbox", "crop", "stretch")
"letterbox: whole image, black borders; crop: fill the cell, cut the rest evenly; stretch: ignore the aspect ratio."

FLOAT_SLACK = 0.25
"""Float values may leave [0, 1] by this much (resampling overshoots) and are clamped; beyond it the scale is wrong."""

_LARGEST_CROP, _LARGEST_CROP_PX = 64, 2**22
"""A picture that a crop would enlarge beyond both bounds is cut first: 1 x 16384 px would take 10 GB."""

_UNSIGNED_SCALE = {torch.uint8: 255.0, torch.uint16: 65535.0}
_SIGNED = (torch.int16, torch.int32, torch.int64)


def fit_frame(
    image: "torch.Tensor | np.ndarray", cell_height: int, cell_width: int, fit: str = "letterbox"
) -> torch.Tensor:
    """Bring a picture to the cell's size as RGB float32.

    Args:
        image: (B, h, w, C), (h, w, C) or (h, w); C is 1 (grey), 2 (grey + alpha), 3 (RGB) or 4 (RGBA). Alpha is
            laid over black. uint8 counts to 255 and uint16 to 65535; signed integers are 8-bit when no value
            exceeds 255, else 16-bit (Pillow returns 16-bit greys that way); floats are in [0, 1].
        cell_height: height of the result [px].
        cell_width: width of the result [px].
        fit: one of `FITS`.

    Returns:
        (B, cell_height, cell_width, 3) float32 in [0, 1]. A picture that has the size already is not resampled.

    Raises:
        ImageError: shape, channels, dtype or values cannot be a picture; unknown `fit`.
    """
    rgb = to_rgb(image)
    source = rgb.shape[1], rgb.shape[2]
    height, width = _pair((cell_height, cell_width), "cell size")
    resized_h, resized_w, top, left = _placement(source, (height, width), fit)
    if resized_h * resized_w > max(_LARGEST_CROP * height * width, _LARGEST_CROP_PX):
        middle = _middle(rgb, height, width)
        if middle.shape != rgb.shape:
            return fit_frame(middle, height, width, fit)
    if (resized_h, resized_w) != source:
        channels_first = rgb.permute(0, 3, 1, 2)
        # align_corners=False keeps continuous coordinates: x -> x * resized_w / w, as fit_transform says.
        channels_first = torch.nn.functional.interpolate(
            channels_first, size=(resized_h, resized_w), mode="bicubic", align_corners=False, antialias=True
        )
        rgb = channels_first.permute(0, 2, 3, 1).clamp(0.0, 1.0)
    if (resized_h, resized_w) == (height, width):
        return rgb.contiguous()
    result = rgb.new_zeros(rgb.shape[0], height, width, 3)
    to_y, to_x = max(top, 0), max(left, 0)
    cut = rgb[:, max(-top, 0) : max(-top, 0) + height, max(-left, 0) : max(-left, 0) + width]
    result[:, to_y : to_y + cut.shape[1], to_x : to_x + cut.shape[2]] = cut
    return result


def _middle(rgb: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The part of pictures (B, h, w, 3) that a crop shows, in whole pixels: as long as the cell is, at least one."""
    long, short = (1, 2) if rgb.shape[1] * width > rgb.shape[2] * height else (2, 1)
    shown = rgb.shape[short] * (height / width if long == 1 else width / height)
    kept = min(max(1, round(shown)), rgb.shape[long])
    return rgb.narrow(long, (rgb.shape[long] - kept) // 2, kept)


def fit_transform(
    source_size: tuple[int, int], cell_size: tuple[int, int], fit: str = "letterbox"
) -> tuple[float, float, float, float]:
    """The map that `fit_frame` applies, for points.

    Args:
        source_size: (h, w) of the picture [px].
        cell_size: (h, w) of the cell [px].
        fit: one of `FITS`.

    Returns:
        (scale_x, scale_y, offset_x, offset_y): `x_cell = x * scale_x + offset_x`, and the same for y [px].

    Raises:
        ImageError: a size is not positive; unknown `fit`.
    """
    source, cell = _pair(source_size, "source size"), _pair(cell_size, "cell size")
    resized_h, resized_w, top, left = _placement(source, cell, fit)
    return resized_w / source[1], resized_h / source[0], float(left), float(top)


def to_rgb(image: "torch.Tensor | np.ndarray") -> torch.Tensor:
    """Any supported picture as (B, h, w, 3) float32 in [0, 1]; see `fit_frame` for the forms and errors."""
    if isinstance(image, np.ndarray):
        if image.dtype.kind not in "buif":
            raise ImageError(f"image must hold numbers, got a numpy array of dtype {image.dtype}")
        native = np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("="))
        image = torch.from_numpy(native.astype(np.int64) if native.dtype in (np.uint32, np.uint64) else native)
    if not isinstance(image, torch.Tensor):
        raise ImageError(f"image must be a torch tensor or a numpy array, got {type(image).__name__}")
    shape = tuple(image.shape)
    if image.ndim == 2:
        image = image[None, :, :, None]
    elif image.ndim == 3:
        image = image[None]
    if image.ndim != 4 or 0 in image.shape:
        raise ImageError(f"image must have shape (B, h, w, C), (h, w, C) or (h, w), none of them 0, got {shape}")
    if image.shape[-1] > 4:
        raise ImageError(f"image must have 1, 2, 3 or 4 channels (grey, grey+alpha, RGB, RGBA) last, got shape {shape}")
    values = _to_unit_range(image)
    colour, alpha = (values[..., :-1], values[..., -1:]) if values.shape[-1] in (2, 4) else (values, None)
    rgb = colour if alpha is None else colour * alpha
    return rgb.expand(*rgb.shape[:-1], 3) if rgb.shape[-1] == 1 else rgb


def to_bytes(frames: torch.Tensor) -> np.ndarray:
    """Pictures of any shape with values in [0, 1] as uint8, rounded; values beyond are clamped."""
    return (frames.clamp(0.0, 1.0) * 255.0).round().byte().cpu().numpy()


def _to_unit_range(image: torch.Tensor) -> torch.Tensor:
    """Values as float32 in [0, 1], by the scale of the dtype."""
    if image.dtype == torch.bool:
        return image.to(torch.float32)
    if image.dtype in _UNSIGNED_SCALE:
        return image.to(torch.float32) / _UNSIGNED_SCALE[image.dtype]
    if image.dtype in _SIGNED:
        low, high = int(image.min()), int(image.max())
        if low < 0 or high > 65535:
            raise ImageError(
                f"image of {image.dtype} must have values from 0 to 255 (8-bit) or 65535 (16-bit), got {low} to {high}"
            )
        # A 16-bit picture without a value above 255 would look black, so it must be an 8-bit picture.
        return image.to(torch.float32) / (65535.0 if high > 255 else 255.0)
    if not image.dtype.is_floating_point:
        raise ImageError(f"image must be of an integer, bool or float dtype, got {image.dtype}")
    values = image.to(torch.float32)
    if not bool(torch.isfinite(values).all()):
        raise ImageError("image must have finite values, got NaN or infinity")
    low, high = float(values.min()), float(values.max())
    if low < -FLOAT_SLACK or high > 1.0 + FLOAT_SLACK:
        raise ImageError(f"image of floats must have values from 0 to 1, got {low:g} to {high:g}")
    return values.clamp(0.0, 1.0)


def _placement(source: tuple[int, int], cell: tuple[int, int], fit: str) -> tuple[int, int, int, int]:
    """Size (h, w) after resampling and the place (top, left) of its corner in the cell [px, may be negative]."""
    if fit not in FITS:
        raise ImageError(f"fit must be one of {', '.join(FITS)}, got {brief(fit)}")
    (source_h, source_w), (height, width) = source, cell
    if fit == "stretch":
        return height, width, 0, 0
    pick = min if fit == "letterbox" else max
    scale = pick(height / source_h, width / source_w)
    bound = min if fit == "letterbox" else max
    # Rounding must neither spill over a letterbox nor leave a gap in a crop.
    resized_h = bound(height, max(1, round(source_h * scale)))
    resized_w = bound(width, max(1, round(source_w * scale)))
    return resized_h, resized_w, (height - resized_h) // 2, (width - resized_w) // 2


def _pair(size: tuple[int, int], name: str) -> tuple[int, int]:
    height, width = size
    return whole_number(height, f"{name} height", error=ImageError), whole_number(
        width, f"{name} width", error=ImageError
    )

"""How a decoded frame is shown: turned, mirrored, with square pixels, transparency over black."""

from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import Type

from visual_planner.grid.frame import to_bytes, to_rgb

from ....errors import TrainingError

_MAX_SIDE_PX = 16384


def rgb_of(frame: av.VideoFrame, aspect: Fraction | None, what: str) -> np.ndarray:
    """Picture (H, W, 3) uint8 as a player shows it.

    Args:
        frame: as decoded.
        aspect: width of a pixel by its height; None or 0: square.
        what: names the video in messages.

    Raises:
        TrainingError: the pixel aspect gives a picture of an impossible size.
    """
    height, width = shown_size(frame.height, frame.width, aspect, what)
    size = {} if (height, width) == (frame.height, frame.width) else {"height": height, "width": width}
    if any(part.is_alpha for part in frame.format.components):
        picture = to_bytes(to_rgb(frame.to_ndarray(format="rgba", **size))[0])
    else:
        picture = frame.to_ndarray(format="rgb24", **size)
    return turned(picture, _display_matrix(frame))


def shown_size(height: int, width: int, aspect: Fraction | None, what: str) -> tuple[int, int]:
    """Size (h, w) with square pixels [px]: the side with too few pixels is enlarged, so that no detail is lost.

    Raises:
        TrainingError: it would be larger than any picture.
    """
    if not aspect or aspect <= 0 or aspect == 1:
        return height, width
    size = (height, round(width * aspect)) if aspect > 1 else (round(height / aspect), width)
    if max(size) > _MAX_SIDE_PX:
        raise TrainingError(
            f"{what} must have pixels of a possible shape, got {aspect} (width by height) at {width}x{height} px"
        )
    return size


def turned(picture: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """A picture (H, W, 3) as its display matrix (3, 3) places it: x' = a x + c y, y' = b x + d y, in right angles."""
    if matrix is None:
        return picture
    (a, b), (c, d) = matrix[0, :2], matrix[1, :2]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        flip_x, flip_y = a < 0, d < 0
    else:
        picture = picture.swapaxes(0, 1)
        flip_x, flip_y = c < 0, b < 0
    return np.ascontiguousarray(picture[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def _display_matrix(frame: av.VideoFrame) -> np.ndarray | None:
    """Display matrix of a frame (3, 3), in 16.16 fixed point; None: shown as stored."""
    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return None
    matrix = np.frombuffer(bytes(data), np.int32)
    if len(matrix) != 9 or not matrix[[0, 1, 3, 4]].any():
        return None
    return matrix.reshape(3, 3).astype(np.int64)

"""Follow points of a video: pyramidal Lucas-Kanade with a check forwards and backwards."""

import numpy as np
import torch

from ..errors import ImageError, TrajectoryError, brief
from ..grid.frame import to_bytes, to_rgb
from .path import DrawnPath
from .trajectory import Trajectory

WINDOW = 15
"Side of the patch that is searched for in the next frame [px]."
LEVELS = 3
"Levels of the image pyramid: motions of up to about WINDOW * 2**LEVELS / 2 px are found."


def track_points(
    frames: "torch.Tensor | np.ndarray", start: Trajectory, max_error_px: float = 1.0
) -> tuple[Trajectory, np.ndarray]:
    """Follow the start of each path through a video.

    Every step is followed back again; a point that does not come back to within `max_error_px` is lost from then on,
    and its path ends there (Kalal et al., "Forward-backward error", 2010). A point that is lost at once is an error.

    Args:
        frames: (T, h, w, 3) in time order, T >= 2.
        start: paths whose first points are followed; scaled to the frames' size.
        max_error_px: largest error of a step there and back [px].

    Returns:
        Trajectory of the frames' size with the paths' names, a point for each frame in which it was found; and
        whether it was, (T, paths).

    Raises:
        ImageError: fewer than two frames.
        TrajectoryError: a point is lost before the second frame, or the largest error is not positive.
    """
    import cv2

    if not max_error_px > 0:
        raise TrajectoryError(f"max_error_px must be more than 0 px, got {max_error_px}")
    pictures = to_bytes(to_rgb(frames))
    if len(pictures) < 2:
        raise ImageError(f"frames must be at least 2 pictures of a video, got {len(pictures)}")
    count, height, width = pictures.shape[:3]
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
    settings = {"winSize": (WINDOW, WINDOW), "maxLevel": LEVELS}
    start = start.scaled(width, height)
    # OpenCV's coordinates have the first pixel's centre at 0, ours at 0.5.
    places = np.zeros((count, len(start.paths), 2), dtype=np.float32)
    places[0] = [(path.points[0].x - 0.5, path.points[0].y - 0.5) for path in start.paths]
    found = np.zeros(places.shape[:2], dtype=bool)
    found[0] = True
    for now in range(1, count):
        there, seen, _ = cv2.calcOpticalFlowPyrLK(grey[now - 1], grey[now], places[now - 1, :, None], None, **settings)
        back, seen_back, _ = cv2.calcOpticalFlowPyrLK(grey[now], grey[now - 1], there, None, **settings)
        error = np.hypot(*(back[:, 0] - places[now - 1]).T)
        inside = ((there[:, 0] >= -0.5) & (there[:, 0] <= (width - 0.5, height - 0.5))).all(axis=1)
        found[now] = found[now - 1] & (seen[:, 0] == 1) & (seen_back[:, 0] == 1) & (error <= max_error_px) & inside
        places[now] = np.where(found[now][:, None], there[:, 0], places[now - 1])
    times = np.linspace(0.0, 1.0, count)
    paths = []
    for number, path in enumerate(start.paths):
        kept = found[:, number]
        if kept.sum() < 2:
            raise TrajectoryError(
                f"path {brief(path.name)}: its point at ({path.points[0].x:g}, {path.points[0].y:g}) is lost "
                "immediately; start on something that stands out from its surroundings"
            )
        rows = np.column_stack([places[kept, number] + 0.5, times[kept]])
        paths.append(DrawnPath.from_array(rows.tolist(), path.name))
    return Trajectory(width, height, tuple(paths)), found

"""Degrade frames like generated ones: blurred, ghosted, noisy, off in colour, with remnants of a drawn path."""

from itertools import pairwise

import cv2
import numpy as np

UNTOUCHED = 0.3
"Fraction of frames that stay unchanged."


def degrade(frame: np.ndarray, ghost: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Degrade one frame at random, with several effects at once, each rather weak.

    Args:
        frame: (H, W, 3) uint8.
        ghost: another frame of the same size that may shine through.
        rng: random source.

    Returns:
        (H, W, 3) uint8.
    """
    if rng.random() < UNTOUCHED:
        return frame
    height, width = frame.shape[:2]
    picture = frame.astype(np.float32)
    if rng.random() < 0.3:
        picture += rng.uniform(0.05, 0.4) * (ghost.astype(np.float32) - picture)
    if rng.random() < 0.25:
        _draw_path(picture, rng)
    if rng.random() < 0.35:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.4) * height / 64)
    if rng.random() < 0.2:
        picture = _soften(picture, rng.uniform(0.45, 0.8))
    if rng.random() < 0.4:
        mix = np.eye(3) + rng.normal(0.0, 0.06, (3, 3))
        picture = picture @ mix.T.astype(np.float32) + rng.normal(0.0, 8.0, 3).astype(np.float32)
    if rng.random() < 0.25:
        _cover(picture, rng)
    if rng.random() < 0.5:
        # coarse noise looks like what a sampler leaves behind, fine noise like a codec's
        size = (height, width) if rng.random() < 0.5 else (height // 4, width // 4)
        noise = rng.normal(0.0, rng.uniform(2.0, 16.0), (*size, 3)).astype(np.float32)
        picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _soften(picture: np.ndarray, scale: float) -> np.ndarray:
    height, width = picture.shape[:2]
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _draw_path(picture: np.ndarray, rng: np.random.Generator) -> None:
    """A faint line from red to blue, as overlays leave it behind."""
    height, width = picture.shape[:2]
    points = rng.uniform(0.1, 0.9, (int(rng.integers(2, 5)), 2)) * (width, height)
    drawn = picture.copy()
    for number, (a, b) in enumerate(pairwise(points)):
        share = number / max(1, len(points) - 2)
        colour = (255.0 * (1 - share), 0.0, 255.0 * share)
        cv2.line(drawn, tuple(map(int, a)), tuple(map(int, b)), colour, max(1, round(height / 64)), cv2.LINE_AA)
    picture += rng.uniform(0.1, 0.6) * (drawn - picture)


def _cover(picture: np.ndarray, rng: np.random.Generator) -> None:
    """A small patch, or a strip along a border, of one colour that is in the picture."""
    height, width = picture.shape[:2]
    colour = picture[int(rng.integers(height)), int(rng.integers(width))].copy()
    if rng.random() < 0.5:
        edge = int(rng.integers(1, max(2, height // 20)))
        strips = (picture[:edge], picture[-edge:], picture[:, :edge], picture[:, -edge:])
        strips[int(rng.integers(4))][:] = colour
        return
    side = int(rng.integers(2, max(3, height // 8)))
    top, left = int(rng.integers(height - side)), int(rng.integers(width - side))
    picture[top : top + side, left : left + side] = colour


def shift(frame: np.ndarray, across: float, down: float) -> np.ndarray:
    """Move a picture (H, W, 3) by `across` and `down` pixels; its border is continued."""
    matrix = np.array([[1, 0, across], [0, 1, down]], dtype=np.float32)
    size = frame.shape[1::-1]
    return cv2.warpAffine(frame, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

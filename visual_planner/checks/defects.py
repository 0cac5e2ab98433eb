"""Where the frames of a plan are defective, pixel by pixel: what `diagnostics` measures and `looking` marks."""

from collections.abc import Iterator

import torch
import torch.nn.functional as functional

WORKING_SIDE = 64
"""Shorter side that frames are reduced to [px]."""
CHANGE = 0.1
"A pixel counts as changed if a channel differs by more than this (of 1)."


def reduced(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures (F, 3, h, w) at the working size, smoothed with a 3x3 mean."""
    height, width = pictures.shape[-2:]
    scale = WORKING_SIDE / min(height, width)
    if scale < 1.0:
        size = max(WORKING_SIDE, round(height * scale)), max(WORKING_SIDE, round(width * scale))
        pictures = functional.interpolate(pictures, size=size, mode="bilinear", align_corners=False, antialias=True)
    return functional.avg_pool2d(functional.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def changed(frames: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Mask (F, h, w) of pixels that differ from the reference, (F, 3, h, w) or (1, 3, h, w)."""
    return (frames - reference).abs().amax(dim=1) > CHANGE


def seam_excess(frames: torch.Tensor, first_frame: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How far the step at each line along the border of a cell exceeds what the scene accounts for.

    For every line of pixels parallel to a side, the step to the next line is the median over the line of the largest
    channel's absolute difference: an object that crosses the border covers less than half of it and does not count.
    The highest step that the first frame has at that side is subtracted, or the frame's median step (its texture) if
    that is larger, so that only what the plan added counts: strips of the neighbouring cell, lines, bands.

    Args:
        frames: (F, 3, h, w) at full size.
        first_frame: (1, 3, h, w) at full size, the given one.

    Returns:
        excess between columns (F, w - 1) and between rows (F, h - 1); 0 beyond the outer 6% of each side.
    """
    pictures = torch.cat([first_frame, frames])
    excesses = []
    for axis in (-1, -2):
        steps = pictures.diff(dim=axis).abs().amax(dim=1)
        profile = steps.median(dim=1 if axis == -1 else 2).values
        zone = max(2, round(0.06 * profile.shape[1]))
        texture = profile[1:].median(dim=1, keepdim=True).values
        excess = torch.zeros_like(profile[1:])
        for side in (slice(0, zone), slice(profile.shape[1] - zone, None)):
            allowed = torch.maximum(profile[:1, side].amax(dim=1, keepdim=True), texture)
            excess[:, side] = profile[1:, side] - allowed
        excesses.append(excess)
    return excesses[0], excesses[1]


def ghosts(frames: torch.Tensor) -> Iterator[list[tuple[torch.Tensor, torch.Tensor]]]:
    """Double exposures in each frame from the second on.

    A pixel of frame t is a ghost when it is a blend `(1 - a) u + a v` with `a` in [0.3, 0.7] (least squares over the
    channels, residual at most 0.06) of two clearly different colours (root mean square distance 0.25 or more) that
    the plan shows at that place at other times. Something solid moves as a = 0 or 1; only half-transparent arms lie
    between. Specks thinner than 3 px, such as smooth edges, are removed.

    Args:
        frames: (F, 3, h, w), reduced.

    Yields:
        for u, v = the frames before and after (not for the last frame), and for u, v = the temporal median (the still
        background) and a neighbouring frame: mask (h, w) of ghosts, and mask (h, w) of where u and v differ.
    """
    still = frames.median(dim=0).values
    for t in range(1, len(frames)):
        neighbours = frames[t - 1 : t + 2 : 2]  # before and, but for the last frame, after
        groups = [[tuple(neighbours)]] if len(neighbours) == 2 else []
        groups.append([(still, neighbour) for neighbour in neighbours])
        found = ([_blends(frames[t], u, v) for u, v in group] for group in groups)
        yield [tuple(torch.stack(masks).any(dim=0) for masks in zip(*pairs, strict=True)) for pairs in found]


def _blends(frame: torch.Tensor, u: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks (h, w): where `frame` is half u, half v, and where u and v are clearly apart; see `ghosts`."""
    apart, offset = v - u, frame - u
    square = apart.square().sum(dim=0)
    share = (offset * apart).sum(dim=0) / square.clamp(min=1e-6)
    residual = (offset - share * apart).square().mean(dim=0).sqrt()
    different = square > 3 * 0.25**2
    ghost = (different & (share > 0.3) & (share < 0.7) & (residual < 0.06)).float()[None, None]
    eroded = -functional.max_pool2d(-ghost, 3, stride=1, padding=1)
    return functional.max_pool2d(eroded, 3, stride=1, padding=1)[0, 0] > 0.5, different

"""Which part of the grid the model generates, at the level of pixels and of latents.

Polarity everywhere: 1 (True) = generate, 0 (False) = keep. By default only the first frame is kept.
The two levels agree: a coarse element is 1 exactly when every pixel under it is 1.
"""

from collections.abc import Iterable

import torch

from .layout import GridLayout

VAE_DOWNSCALE = 8
"""Pixels per latent side of FLUX.1's VAE."""


def pixel_mask(
    layout: GridLayout, cell_height: int, cell_width: int, keep_frames: Iterable[int] = (0,)
) -> torch.Tensor:
    """Mask (1, H, W) float32 of the grid in pixels; 1 = generate.

    Args:
        layout: the grid.
        cell_height: height of one cell [px].
        cell_width: width of one cell [px].
        keep_frames: frames that are given and must stay (mask 0).

    Raises:
        LayoutError: a frame does not exist, or a size is not a positive whole number.
    """
    return _cell_mask(layout, cell_height, cell_width, keep_frames)[None]


def latent_mask(
    layout: GridLayout,
    cell_height: int,
    cell_width: int,
    keep_frames: Iterable[int] = (0,),
    downscale: int = VAE_DOWNSCALE,
) -> torch.Tensor:
    """Mask (1, H / downscale, W / downscale) float32 of the grid's latent; 1 = generate. Cell sizes in pixels.

    Raises:
        LayoutError: as `pixel_mask`, or a cell side does not divide by `downscale`.
    """
    size = layout.require_cells_divisible(cell_height, cell_width, downscale, "latent pixel")
    return _cell_mask(layout, *size, keep_frames)[None]


def _cell_mask(layout: GridLayout, height: int, width: int, keep_frames: Iterable[int]) -> torch.Tensor:
    mask = torch.ones(layout.grid_size(height, width), dtype=torch.float32)
    for frame in keep_frames:
        top, left, bottom, right = layout.cell_box(frame, height, width)
        mask[top:bottom, left:right] = 0.0
    return mask

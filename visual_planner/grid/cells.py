"""Convert frames into a grid picture and back, and build the first-frame condition grid.

Pictures are tensors (B, H, W, C), frames stand in time order. Several grids may share a batch: the first
`layout.frames` frames belong to the first grid, and so on. Assembling and slicing only move values, so they are
exact inverses for every dtype.
"""

import torch

from ..errors import ImageError, LayoutError
from .frame import FITS, fit_frame, fit_transform, to_rgb
from .layout import GridLayout

__all__ = [
    "FITS", "assemble_grid", "cell_of", "condition_grid", "first_cell", "fit_frame", "fit_transform", "slice_grid",
    "to_rgb",
]  # fmt: skip


def assemble_grid(frames: torch.Tensor, layout: GridLayout) -> torch.Tensor:
    """Put frames into their cells.

    Args:
        frames: (B * F, h, w, C) with F = layout.frames, in time order, grid after grid; any dtype.
        layout: where each frame goes.

    Returns:
        (B, rows * h, cols * w, C), same dtype and device.

    Raises:
        ImageError: `frames` is not a 4-D tensor with pixels in it.
        LayoutError: the number of frames does not fill whole grids.
    """
    count, height, width, channels = _image_shape(frames, "frames")
    if count % layout.frames:
        raise LayoutError(
            f"frames must have shape ({layout.frames}, h, w, C), or a multiple of {layout.frames} frames, to fill a "
            f"{layout.rows}x{layout.cols} grid, got {tuple(frames.shape)}"
        )
    batch = count // layout.frames
    cells = frames.reshape(batch, layout.frames, height, width, channels)
    cells = torch.stack([cells[:, frame] for frame in layout.frame_indices], dim=1)
    cells = cells.reshape(batch, layout.rows, layout.cols, height, width, channels)
    return cells.permute(0, 1, 3, 2, 4, 5).reshape(batch, layout.rows * height, layout.cols * width, channels)


def slice_grid(grid: torch.Tensor, layout: GridLayout) -> torch.Tensor:
    """Cut a grid picture into its frames: the exact inverse of `assemble_grid`.

    Args:
        grid: (B, H, W, C), any dtype.
        layout: where each frame stands.

    Returns:
        (B * F, h, w, C) in time order, grid after grid; same dtype and device.

    Raises:
        ImageError: `grid` is not a 4-D tensor with pixels in it.
        LayoutError: H or W does not divide into whole cells. Nothing is ever cropped.
    """
    batch, grid_height, grid_width, channels = _image_shape(grid, "grid")
    height, width = layout.cell_size(grid_height, grid_width)
    cells = grid.reshape(batch, layout.rows, height, layout.cols, width, channels).permute(0, 1, 3, 2, 4, 5)
    cells = cells.reshape(batch, layout.frames, height, width, channels)
    frames = torch.stack([cells[:, cell] for cell in layout.cell_indices], dim=1)
    return frames.reshape(batch * layout.frames, height, width, channels)


def condition_grid(first_frame: torch.Tensor, layout: GridLayout, goal: torch.Tensor | None = None) -> torch.Tensor:
    """Grid with the first frame in its cell, the goal picture in the last frame's, and every other cell black.

    Args:
        first_frame: (B, h, w, C), one first frame per grid.
        layout: where the first frame goes.
        goal: as `first_frame`; None leaves its cell black.

    Returns:
        (B, rows * h, cols * w, C), same dtype and device.

    Raises:
        ImageError: `first_frame` is not a 4-D tensor with pixels in it.
    """
    batch, height, width, channels = _image_shape(first_frame, "first_frame")
    grid = first_frame.new_zeros(batch, *layout.grid_size(height, width), channels)
    top, left, bottom, right = layout.cell_box(0, height, width)
    grid[:, top:bottom, left:right] = first_frame
    if goal is not None:
        top, left, bottom, right = layout.cell_box(layout.frames - 1, height, width)
        grid[:, top:bottom, left:right] = goal
    return grid


def first_cell(grid: torch.Tensor, layout: GridLayout) -> torch.Tensor:
    """The cell of the first frame; see `cell_of`."""
    return cell_of(grid, layout, 0)


def cell_of(grid: torch.Tensor, layout: GridLayout, frame: int) -> torch.Tensor:
    """The cell of one frame, (B, h, w, C), of grids (B, H, W, C): pictures or anything arranged like them.

    Raises:
        ImageError: `grid` is not a 4-D tensor with pixels in it.
        LayoutError: H or W does not divide into whole cells.
    """
    _, grid_height, grid_width, _ = _image_shape(grid, "grid")
    top, left, bottom, right = layout.cell_box(frame, *layout.cell_size(grid_height, grid_width))
    return grid[:, top:bottom, left:right]


def _image_shape(images: torch.Tensor, name: str) -> tuple[int, int, int, int]:
    """Shape (B, H, W, C) of a non-empty batch of pictures, or an ImageError that names it."""
    if not isinstance(images, torch.Tensor):
        raise ImageError(f"{name} must be a torch tensor of shape (B, H, W, C), got {type(images).__name__}")
    if images.ndim != 4 or 0 in images.shape:
        raise ImageError(f"{name} must have shape (B, H, W, C) with none of them 0, got shape {tuple(images.shape)}")
    return tuple(images.shape)

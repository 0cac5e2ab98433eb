"""The error of what the autoencoder's decoder makes of predicted latents.

A squared error of latents asks for their mean where the network is not sure. Decoders are not linear: what they make of
a mean of latents is no mean of pictures, and an object that is half here and half there comes out in a colour that
nobody has asked for. An error behind the decoder asks for latents that look right (latent perceptual losses: Berrada et
al., "Boosting Latent Diffusion with Perceptual Objectives", arXiv 2411.04873; here it is taken at the pixels).
"""

import torch
from torch import nn

from visual_planner.grid.cells import slice_grid
from visual_planner.grid.layout import GridLayout

from ..model.autoencoder import decoded_pixels
from ..sections.run import ObjectiveSection
from .objective import Batch, near_end_effector


class DecodedError:
    """Error of decoded frames.

    Args:
        vae: the autoencoder; it is not trained.
        layout: of the grids.
    """

    def __init__(self, vae: nn.Module, layout: GridLayout) -> None:
        self.vae, self.layout = vae.requires_grad_(False), layout

    def __call__(
        self, estimate: torch.Tensor, batch: Batch, section: ObjectiveSection, generator: torch.Generator
    ) -> torch.Tensor:
        """Mean absolute and squared error (a scalar) of one frame of each grid, which is drawn, but never the first.

        Pixels around the end effector count more, by `end_effector_weight`; weights have a mean of 1 per frame.

        Args:
            estimate: (B, C, H, W) clean latents as the model predicts them.
            batch: the true ones.
            section: weight and radius of the end effector's neighbourhood.
            generator: of the frames.
        """
        count, frames = len(estimate), self.layout.frames
        chosen = torch.randint(1, frames, (count,), generator=generator) if frames > 1 else torch.zeros(count).long()
        predicted = decoded_pixels(self.vae, self._cells(estimate, chosen)).float()
        with torch.no_grad():
            wanted = decoded_pixels(self.vae, self._cells(batch.target, chosen)).float()
        error = predicted - wanted
        error = error.abs() + 2 * error.square()
        if section.end_effector_weight and batch.end_effector is not None:
            places = batch.end_effector[torch.arange(count), chosen.to(batch.end_effector.device)][:, None]
            near = near_end_effector(places, GridLayout(1, 1), error.shape[-2:], section.end_effector_radius)
            weights = 1 + section.end_effector_weight * near
            error = error * (weights / weights.mean(dim=(-2, -1), keepdim=True))
        return error.mean()

    def _cells(self, grids: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """The chosen cell (B, C, h, w) of each grid of latents (B, C, H, W)."""
        cells = slice_grid(grids.movedim(1, -1), self.layout).unflatten(0, (len(grids), self.layout.frames))
        return cells[torch.arange(len(grids)), chosen.to(grids.device)].movedim(-1, 1)

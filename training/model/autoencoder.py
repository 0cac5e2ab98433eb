"""Pictures -> normalised FLUX latents, and back."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from visual_planner.grid.cells import assemble_grid, slice_grid
from visual_planner.grid.frame import to_bytes
from visual_planner.grid.layout import GridLayout
from visual_planner.planner.families import Family

from ..errors import TrainingError
from .bases.pretrained import load_weights
from .bases.registry import base_of_autoencoder, base_of_module


def load_vae(
    folder: str | Path, dtype: torch.dtype = torch.float32, device: str = "cpu", family: Family | None = None
) -> nn.Module:
    """Load the autoencoder of a diffusers folder.

    Args:
        folder: folder with its config.json.
        dtype: dtype of the weights.
        device: device of the weights.
        family: family that its latents must belong to; None: any known family.

    Raises:
        TrainingError: there is none, or it is of another class or family.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise TrainingError(f"autoencoder {folder} is not a diffusers folder (it has no config.json)")
    kind = base_of_autoencoder(folder, family).autoencoder
    vae = load_weights(kind, folder, torch_dtype=dtype).eval().requires_grad_(False)
    return vae.to(device, memory_format=torch.channels_last)


@torch.no_grad()
def encode_pictures(vae: nn.Module, pictures: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Normalised latents (B, C, h, w) float32 of the encoder's mean, in the form of the autoencoder's family.

    Args:
        vae: the autoencoder.
        pictures: (B, H, W, 3), uint8 or float in [0, 1].
    """
    pictures = torch.as_tensor(pictures)
    scale = 127.5 if pictures.dtype == torch.uint8 else 0.5
    pixels = (pictures.permute(0, 3, 1, 2).to(vae.device, torch.float32) / scale - 1).to(vae.dtype)
    latents = vae.encode(pixels.contiguous(memory_format=torch.channels_last)).latent_dist.mean.float()
    return base_of_module(vae).normalised(vae, latents)


def encode_cells(vae: nn.Module, frames: np.ndarray | torch.Tensor, layout: GridLayout) -> torch.Tensor:
    """Normalised latents (B, C, h, w) of grids whose frames (B * F, h, w, 3) are encoded one by one.

    The same picture then has the same latent in every cell. Encoded as one grid it would not, since convolutions,
    normalisation and attention look beyond a cell: with the tiny planner's narrow encoder, the static table differed
    more between two cells than between two scenes, and the model could not learn that it does not move.
    """
    latents = encode_pictures(vae, frames).permute(0, 2, 3, 1)
    return assemble_grid(latents, layout).permute(0, 3, 1, 2).contiguous()


def round_trip(vae: nn.Module, frames: np.ndarray, layout: GridLayout) -> np.ndarray:
    """True frames (F, h, w, 3) uint8 as a perfect plan would show them: encoded one by one, decoded as one grid."""
    grid = decode_latents(vae, encode_cells(vae, frames, layout))
    return to_bytes(slice_grid(grid, layout))


@torch.no_grad()
def decode_latents(vae: nn.Module, latents: torch.Tensor) -> torch.Tensor:
    """Pictures (B, H, W, 3) float32 in [0, 1] of normalised latents (B, C, h, w)."""
    return (decoded_pixels(vae, latents).float().permute(0, 2, 3, 1) / 2 + 0.5).clamp(0, 1)


def decoded_pixels(vae: nn.Module, latents: torch.Tensor) -> torch.Tensor:
    """Pixels (B, 3, H, W) in about [-1, 1] of normalised latents (B, C, h, w), with gradients."""
    raw = base_of_module(vae).raw(vae, latents.to(vae.device, vae.dtype))
    return vae.decode(raw.contiguous(memory_format=torch.channels_last)).sample

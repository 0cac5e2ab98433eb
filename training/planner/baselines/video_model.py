"""A video-diffusion planner: diffusers' 3-D U-Net denoises the frames of a plan, given the first one and the text.

As in AVDC (Ko et al. 2023, arXiv 2310.08576) the first frame is concatenated to every noisy frame along the channels
and the text enters through cross-attention. Latents, text embeddings, flow matching and noise schedule are the
grid planner's own, so that the two differ in how frames are represented and in where their weights come from.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UNet3DConditionModel
from pydantic import Field
from torch import nn
from torch.nn import Linear

from visual_planner.grid.cells import assemble_grid, slice_grid
from visual_planner.grid.layout import GridLayout
from visual_planner.planner.spec import PlannerSpec

from ...model.autoencoder import decode_latents, encode_pictures
from ...model.pipeline import PlannerPipeline
from .weights import VIDEO, BaselineRecord, Bounded, check_belongs, filled, read_baseline

_TIMESTEPS = 1000
"""The U-Net takes the noise level in thousandths, as diffusers' time embedding expects."""


class VideoRecord(BaselineRecord):
    """The record of a video-diffusion planner; sizes as in the section `video_baseline`."""

    channels: Annotated[list[Bounded], Field(min_length=1, max_length=6)]
    layers: Annotated[int, Field(ge=1, le=8)]
    heads: Annotated[int, Field(ge=1, le=64)]


class VideoNet(nn.Module):
    """The U-Net, and a layer that turns the pooled text into one more text embedding.

    Args:
        latent_channels: C of the autoencoder's latents.
        channels: widths of the U-Net, from full resolution down.
        layers: residual layers per resolution.
        heads: number of attention heads.
        text_width: D of the text embeddings.
        pooled_width: P of the pooled text; 0: there is none.
    """

    def __init__(
        self,
        latent_channels: int,
        channels: tuple[int, ...],
        layers: int,
        heads: int,
        text_width: int,
        pooled_width: int,
    ) -> None:
        super().__init__()
        self.unet = UNet3DConditionModel(
            in_channels=2 * latent_channels,
            out_channels=latent_channels,
            down_block_types=("CrossAttnDownBlock3D",) * len(channels),
            up_block_types=("CrossAttnUpBlock3D",) * len(channels),
            block_out_channels=tuple(channels),
            layers_per_block=layers,
            cross_attention_dim=text_width,
            attention_head_dim=heads,  # this diffusers class takes it as the number of heads
        )
        self.pooled = Linear(pooled_width, text_width) if pooled_width else None
        for module in self.unet.modules():
            if isinstance(module, nn.Dropout):  # its masks come from a generator that a resumed run does not restore
                module.p = 0.0

    def forward(
        self,
        noisy: torch.Tensor,
        sigma: torch.Tensor,
        first: torch.Tensor,
        text: torch.Tensor,
        pooled: torch.Tensor | None,
    ) -> torch.Tensor:
        """Velocity (B, C, F, h, w) of noisy frames.

        Args:
            noisy: (B, C, F, h, w) latents.
            sigma: (B,) noise levels in [0, 1].
            first: (B, C, h, w) latents of the first frames.
            text: (B, T, D) text embeddings.
            pooled: (B, P) pooled text, None in families without one.
        """
        if self.pooled is not None:
            text = torch.cat([text, self.pooled(pooled)[:, None]], dim=1)
        seen = torch.cat([noisy, first[:, :, None].expand_as(noisy)], dim=1)
        return self.unet(seen, sigma * _TIMESTEPS, text).sample


def frames_of(grids: torch.Tensor, layout: GridLayout) -> torch.Tensor:
    """Frames (B, C, F, h, w) in time order of grids (B, C, H, W)."""
    frames = slice_grid(grids.movedim(1, -1), layout)
    return frames.unflatten(0, (len(grids), layout.frames)).permute(0, 4, 1, 2, 3)


def grids_of(frames: torch.Tensor, layout: GridLayout) -> torch.Tensor:
    """The inverse of `frames_of`."""
    return assemble_grid(frames.permute(0, 2, 3, 4, 1).flatten(0, 1), layout).movedim(-1, 1)


class VideoPlanner:
    """A trained U-Net with the autoencoder and the text encoders of a planner.

    Args:
        net: the U-Net.
        spec: frames, cell size, prompts and noise schedule.
        vae: the autoencoder.
        encoders: the text encoders.
    """

    def __init__(self, net: VideoNet, spec: PlannerSpec, vae: nn.Module, encoders: nn.Module) -> None:
        self.net, self.spec, self.vae, self.encoders = net, spec, vae, encoders

    @torch.no_grad()
    def plan(
        self, first_frames: np.ndarray, prompts: list[str], noise: torch.Tensor, steps: int, cfg: float = 1.0
    ) -> torch.Tensor:
        """Plans (B, F, h, w, 3) float32 in [0, 1].

        The frames are decoded as one grid, since the autoencoder's decoder was trained on grids.

        Args:
            first_frames: (B, h, w, 3) uint8.
            prompts: one per first frame.
            noise: (B, C, H, W), as for the grid planner; each frame gets the noise of its cell.
            steps: Euler steps.
            cfg: classifier-free guidance against the empty prompt; 1: without.
        """
        layout, device = self.spec.layout, next(self.net.parameters()).device
        velocity = self._velocity(encode_pictures(self.vae, first_frames), prompts, cfg)
        scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / steps, steps).tolist(), mu=self.spec.mu(), device=device)
        video = frames_of(noise.to(device), layout)
        for time, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
            video = scheduler.step(velocity(video, sigma.expand(len(video))), time, video).prev_sample
        pictures = slice_grid(decode_latents(self.vae, grids_of(video, layout)), layout)
        return pictures.unflatten(0, (len(video), layout.frames))

    def _velocity(
        self, first: torch.Tensor, prompts: list[str], cfg: float
    ) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """A function (noisy frames, noise levels (B,)) -> velocity that encodes the prompts once."""
        texts = self.encoders(prompts)
        empty = None if cfg == 1 else self.encoders([""] * len(prompts))

        def call(video: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
            wanted = self.net(video, sigma, first, *texts)
            if empty is None:
                return wanted
            without = self.net(video, sigma, first, *empty)
            return without + cfg * (wanted - without)

        return call


def open_video(file: Path, planner: PlannerPipeline, folder: Path) -> tuple[VideoPlanner, VideoRecord]:
    """Open a trained video-diffusion planner with the encoders of the grid planner that it is compared with.

    Args:
        file: file written by `training video_baseline`.
        planner: the grid planner, whose autoencoder and text encoders are used.
        folder: folder of that planner.

    Raises:
        TrainingError: the file is missing or broken, or was trained for another planner.
    """
    tensors, record = read_baseline(file, VIDEO, VideoRecord)
    check_belongs(record, file, planner.spec, folder)
    spec = record.planner_spec
    widths = record.text_width, record.pooled_width
    net = VideoNet(spec.base_family.channels, tuple(record.channels), record.layers, record.heads, *widths)
    return VideoPlanner(filled(net, tensors, file), spec, planner.vae, planner.encoders), record

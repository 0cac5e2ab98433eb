"""A policy without pictures of the future: first frame and text -> the keyframes of the demonstration, in one pass.

Behaviour cloning as in BC-Z (Jang et al. 2021, arXiv 2202.02005): convolutions that the text modulates (FiLM, Perez
et al. 2018, arXiv 1709.07871), feature points by spatial softmax (Levine et al. 2016, arXiv 1504.00702, section 5.1)
beside pooled context, and a small head that predicts all keyframes at once.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import Conv2d, GroupNorm, Linear, functional

from visual_planner.execution.keyframes import gripper_states
from visual_planner.planner.spec import PlannerSpec

from ...data.sources.records import Finite
from ...model.pipeline import PlannerPipeline
from .weights import CLONING, BaselineRecord, Bounded, check_belongs, filled, read_baseline

_HEADS = 4
"""Number of weighted means of the text embeddings that the network uses."""
Three = Annotated[list[Finite], Field(min_length=3, max_length=3)]


class CloningRecord(BaselineRecord):
    """The record of a policy; sizes as in the section `cloning_baseline`, `mean` and `spread` of positions [m]."""

    channels: Annotated[list[Bounded], Field(min_length=2, max_length=2)]
    blocks: Annotated[int, Field(ge=1, le=32)]
    points: Bounded
    hidden: Bounded
    mean: Three
    spread: Three


class CloningNet(nn.Module):
    """The policy's network.

    Args:
        frames: number F of keyframes of a plan.
        channels: widths of the first convolution and of the others, divisible by 8.
        blocks: number of residual blocks.
        points: number of feature points.
        hidden: width of the text layers and of the last layers.
        text_width: D of the text embeddings.
        pooled_width: P of the pooled text; 0: there is none.
    """

    def __init__(
        self,
        frames: int,
        channels: tuple[int, int],
        blocks: int,
        points: int,
        hidden: int,
        text_width: int,
        pooled_width: int,
    ) -> None:
        super().__init__()
        first, wide = channels
        self.frames = frames
        self.attend = Linear(text_width, _HEADS)
        self.words = nn.Sequential(Linear(_HEADS * text_width + pooled_width, hidden), nn.SiLU())
        self.stem = nn.Sequential(
            Conv2d(3, first, 5, stride=2, padding=2), GroupNorm(8, first), nn.SiLU(),
            Conv2d(first, wide, 3, stride=2, padding=1), GroupNorm(8, wide), nn.SiLU(),
        )  # fmt: skip
        self.blocks = nn.ModuleList(_Modulated(wide, hidden) for _ in range(blocks))
        self.heat = Conv2d(wide, points, 1)
        self.head = nn.Sequential(
            Linear(3 * points + wide + hidden, hidden), nn.SiLU(), Linear(hidden, hidden), nn.SiLU(),
            Linear(hidden, 4 * frames),
        )  # fmt: skip

    def forward(
        self, pixels: torch.Tensor, text: torch.Tensor, pooled: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised places (B, F, 3), and logits (B, F) that the gripper is closed.

        Args:
            pixels: (B, 3, H, W) in [-1, 1].
            text: (B, T, D) text embeddings.
            pooled: (B, P) pooled text, None in families without one.
        """
        weights = self.attend(text).softmax(dim=1)
        means = torch.einsum("bth,btd->bhd", weights, text).flatten(1)
        words = self.words(means if pooled is None else torch.cat([means, pooled], dim=1))
        features = self.stem(pixels)
        for block in self.blocks:
            features = block(features, words)
        read = torch.cat([feature_points(self.heat(features)), features.mean(dim=(2, 3)), words], dim=1)
        values = self.head(read).unflatten(1, (self.frames, 4))
        return values[..., :3], values[..., 3]


class _Modulated(nn.Module):
    """A residual block whose channels the text scales and shifts; at initialisation it does neither."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = (Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm = GroupNorm(8, channels)
        self.film = Linear(hidden, 2 * channels)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, features: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        scale, shift = self.film(words)[..., None, None].chunk(2, dim=1)
        inner = self.norm(self.first(features)) * (1 + scale) + shift
        return features + self.second(functional.silu(inner))


def feature_points(heat: torch.Tensor) -> torch.Tensor:
    """Expected places and levels (B, 3 N) of maps (B, N, h, w): x and y in [-1, 1], and the mean of the map there."""
    rows, cols = heat.shape[-2:]
    where = heat.flatten(2).softmax(dim=-1).view_as(heat)
    across = (where.sum(2) * torch.linspace(-1, 1, cols, device=heat.device)).sum(-1)
    down = (where.sum(3) * torch.linspace(-1, 1, rows, device=heat.device)).sum(-1)
    return torch.cat([across, down, (where * heat).sum((2, 3))], dim=1)


def pixels_of(pictures: np.ndarray) -> torch.Tensor:
    """Pictures (B, H, W, 3) uint8 in the network's form."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


class CloningPolicy:
    """A trained network with the text encoders of a planner.

    Args:
        net: the network.
        record: the record of its weights.
        encoders: the text encoders.
    """

    def __init__(self, net: CloningNet, record: CloningRecord, encoders: nn.Module) -> None:
        self.net, self.record, self.encoders = net, record, encoders
        self.spec: PlannerSpec = record.planner_spec

    @torch.no_grad()
    def keyframes(self, first_frames: np.ndarray, instructions: list[str]) -> np.ndarray:
        """Keyframes (B, F, 4): x, y, z [m] and gripper, 0 open or 1 closed, in the form of those read off plans.

        Args:
            first_frames: (B, h, w, 3) uint8.
            instructions: one per first frame.
        """
        texts = self.encoders([self.spec.prompt("text", words) for words in instructions])
        device = next(self.net.parameters()).device
        places, closed = (part.cpu().double() for part in self.net(pixels_of(first_frames).to(device), *texts))
        positions = places.numpy() * self.record.spread + self.record.mean
        gripper = np.stack([gripper_states(row) for row in closed.sigmoid().numpy()])
        return np.concatenate([positions, gripper[..., None]], axis=-1)


def open_cloning(file: Path, planner: PlannerPipeline, folder: Path) -> tuple[CloningPolicy, CloningRecord]:
    """Open a trained policy with the text encoders of the planner that it is compared with.

    Args:
        file: file written by `training cloning_baseline`.
        planner: the planner.
        folder: folder of that planner.

    Raises:
        TrainingError: the file is missing or broken, or was trained for another planner.
    """
    tensors, record = read_baseline(file, CLONING, CloningRecord)
    check_belongs(record, file, planner.spec, folder)
    net = CloningNet(
        record.planner_spec.layout.frames, tuple(record.channels), record.blocks, record.points, record.hidden,
        record.text_width, record.pooled_width,
    )  # fmt: skip
    return CloningPolicy(filled(net, tensors, file), record, planner.encoders), record

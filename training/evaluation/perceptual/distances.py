"""LPIPS and FVD: distances in the features of published networks, whose weights the user names by path.

Nothing is downloaded and nothing unpickled: weights are safetensors files with the names of the published checkpoints
(docs/training.md says how to make them). Distances on other features are not offered.

- LPIPS (Zhang et al. 2018, version 0.1, AlexNet): torchvision's `features.N.weight/bias` and `linK.model.1.weight`.
- FVD (Unterthiner et al. 2018): Fréchet distance of the logits of I3D (Carreira & Zisserman 2017, RGB, Kinetics-400).
"""

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import Conv2d, functional

from ...errors import TrainingError
from .i3d import I3D

_ALEX = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1))
"""Channels in and out, kernel, stride, padding of AlexNet's convolutions."""
_NUMBERS = (0, 3, 6, 8, 10)
"""Their places in torchvision's `features`."""
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""ImageNet's mean and standard deviation for pictures in [-1, 1], as in LPIPS 0.1."""
_LEAST_FRAMES, _I3D_PX = 10, 224


class LpipsAlex(nn.Module):
    """LPIPS 0.1 on AlexNet."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.ModuleDict({str(n): Conv2d(*shape) for n, shape in zip(_NUMBERS, _ALEX, strict=True)})
        for number, shape in enumerate(_ALEX):
            # the dropout before it in the published module is index 0
            setattr(self, f"lin{number}", nn.ModuleDict({"model": nn.ModuleDict({"1": _channel_weights(shape[1])})}))
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1), persistent=False)

    def _taps(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        x, taps = (pictures - self.shift) / self.scale, []
        for place, number in enumerate(_NUMBERS):
            if place in (1, 2):
                x = functional.max_pool2d(x, 3, 2)
            x = functional.relu(self.features[str(number)](x))
            taps.append(x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10))
        return taps

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Distance (B,) of pictures (B, 3, H, W) in [-1, 1]."""
        total = torch.zeros(len(first), device=first.device)
        for number, (one, other) in enumerate(zip(self._taps(first), self._taps(second), strict=True)):
            weighted = getattr(self, f"lin{number}")["model"]["1"]((one - other).square())
            total = total + weighted.mean(dim=(1, 2, 3))
        return total


def _channel_weights(channels: int) -> nn.Conv2d:
    return Conv2d(channels, 1, 1, bias=False)


class Perceptual:
    """The distances whose weights are given.

    Args:
        lpips: safetensors file of LPIPS' weights, or None.
        fvd: safetensors file of I3D's weights, or None.
        device: device on which they are computed.

    Raises:
        TrainingError: a file is missing or does not hold that network's weights.
    """

    def __init__(self, lpips: Path | None, fvd: Path | None, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.lpips = None if lpips is None else _load(LpipsAlex(), lpips, "evaluate.lpips").to(device)
        self.i3d = None if fvd is None else _load(I3D(), fvd, "evaluate.fvd").to(device)

    def protocol(self, frames: int) -> list[str]:
        """How the distances are computed, for the results."""
        lines = []
        if self.lpips is not None:
            lines.append("LPIPS 0.1 (AlexNet) per frame at the frames' own size, mean over frames and scenes")
        if self.i3d is not None:
            padded = f", padded to {_LEAST_FRAMES} with the last frame" if frames < _LEAST_FRAMES else ""
            lines.append(
                f"FVD: Fréchet distance of I3D's logits over all scenes at once, T = {frames} frames with the given "
                f"first one{padded}, {_I3D_PX} px; N is each row's number of scenes"
            )
        return lines

    @torch.no_grad()
    def row(self, plan: np.ndarray, truth: np.ndarray) -> dict:
        """LPIPS of one plan (F, h, w, 3 uint8), without its first frame."""
        if self.lpips is None:
            return {}
        made, real = (_signed(frames[1:]).to(self.device) for frames in (plan, truth))
        return {"lpips_alex": float(self.lpips(made, real).mean())}

    @torch.no_grad()
    def features(self, videos: list[np.ndarray]) -> list[np.ndarray]:
        """I3D's logits (400,) of each video (F, h, w, 3 uint8); none without its weights."""
        return (
            []
            if self.i3d is None
            else [self.i3d(i3d_input(video).to(self.device))[0].cpu().numpy() for video in videos]
        )

    def distance(self, made: list[np.ndarray], real: list[np.ndarray]) -> dict:
        """FVD of plans against the truth, if both have at least two videos."""
        if self.i3d is None or min(len(made), len(real)) < 2:
            return {}
        return {"fvd_i3d": {"value": frechet(np.stack(made), np.stack(real)), "n": len(made)}}


def i3d_input(video: np.ndarray) -> torch.Tensor:
    """A video (F, h, w, 3 uint8) in I3D's form: (1, 3, T, 224, 224) in [-1, 1], a short one padded at its end."""
    frames = functional.interpolate(_signed(video), size=(_I3D_PX, _I3D_PX), mode="bilinear", align_corners=False)
    missing = max(0, _LEAST_FRAMES - len(frames))
    return torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)]).transpose(0, 1)[None]


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """Fréchet distance of two Gaussians with the means and covariances of features (N, D) and (M, D).

    `|m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½)`; the trace of the root is the sum of the roots of C1 C2's eigenvalues,
    which are those of the symmetric C1^½ C2 C1^½.
    """
    mean = first.mean(axis=0) - second.mean(axis=0)
    one, other = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    values, vectors = np.linalg.eigh(np.atleast_2d(one))
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ np.atleast_2d(other) @ root)
    return float(mean @ mean + np.trace(np.atleast_2d(one + other)) - 2 * np.sqrt(cross.clip(0)).sum())


def _signed(frames: np.ndarray) -> torch.Tensor:
    """Frames (F, h, w, 3 uint8) as (F, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1


def _load(network: nn.Module, file: Path, name: str) -> nn.Module:
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{name} {file} cannot be read as safetensors: {error}") from error
    # the number of batches seen is not used, and older files lack it
    wanted = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    wrong = [key for key, value in wanted.items() if key not in tensors or tensors[key].shape != value.shape]
    if wrong:
        raise TrainingError(
            f"{name} {file} lacks {len(wrong)} of {len(wanted)} weights of that network, first {wrong[0]!r}"
        )
    network.load_state_dict({key: tensors[key] for key in wanted}, strict=False)
    return network.eval().requires_grad_(False)

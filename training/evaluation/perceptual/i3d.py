"""I3D (Carreira & Zisserman 2017): Inception-v1 inflated to video, the network in whose features FVD is measured.

Module names are those of the published PyTorch weights (`rgb_imagenet`: Conv3d_1a_7x7, Mixed_3b, ..., logits).
"""

import torch
from torch import nn
from torch.nn import Conv3d, functional

_MIXED = {
    "Mixed_3b": (192, 64, 96, 128, 16, 32, 32),
    "Mixed_3c": (256, 128, 128, 192, 32, 96, 64),
    "Mixed_4b": (480, 192, 96, 208, 16, 48, 64),
    "Mixed_4c": (512, 160, 112, 224, 24, 64, 64),
    "Mixed_4d": (512, 128, 128, 256, 24, 64, 64),
    "Mixed_4e": (512, 112, 144, 288, 32, 64, 64),
    "Mixed_4f": (528, 256, 160, 320, 32, 128, 128),
    "Mixed_5b": (832, 256, 160, 320, 32, 128, 128),
    "Mixed_5c": (832, 384, 192, 384, 48, 128, 128),
}
"""Channels in; then of branch 0, of branch 1 (two layers), of branch 2 (two layers), of branch 3."""


def _same_padding(x: torch.Tensor, kernel: tuple, stride: tuple) -> torch.Tensor:
    """Pad x with zeros like TensorFlow's SAME: an odd one goes to the end."""
    padding: list[int] = []
    for size, width, step in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        total = max(width - step if size % step == 0 else width - size % step, 0)
        padding += [total // 2, total - total // 2]
    return functional.pad(x, padding)


class Unit(nn.Module):
    """Convolution, batch normalisation, ReLU; the last one of the network has only the convolution, with a bias."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple, stride: tuple = (1, 1, 1), last: bool = False) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv3d = Conv3d(inputs, outputs, kernel, stride, bias=last)
        self.bn = None if last else nn.BatchNorm3d(outputs, eps=0.001)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, T, H, W) -> (B, C', T', H', W')."""
        x = self.conv3d(_same_padding(x, self.kernel, self.stride))
        return x if self.bn is None else functional.relu(self.bn(x))


def _pool(x: torch.Tensor, kernel: tuple, stride: tuple) -> torch.Tensor:
    return functional.max_pool3d(_same_padding(x, kernel, stride), kernel, stride)


class Mixed(nn.Module):
    """Four branches side by side."""

    def __init__(self, inputs: int, b0: int, b1a: int, b1b: int, b2a: int, b2b: int, b3: int) -> None:
        super().__init__()
        one, three = (1, 1, 1), (3, 3, 3)
        self.b0 = Unit(inputs, b0, one)
        self.b1a, self.b1b = Unit(inputs, b1a, one), Unit(b1a, b1b, three)
        self.b2a, self.b2b = Unit(inputs, b2a, one), Unit(b2a, b2b, three)
        self.b3b = Unit(inputs, b3, one)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, T, H, W) -> (B, sum of the branches, T, H, W)."""
        pooled = self.b3b(_pool(x, (3, 3, 3), (1, 1, 1)))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), pooled], dim=1)


class I3D(nn.Module):
    """The RGB stream.

    Args:
        classes: number of logits (400 of Kinetics).
    """

    def __init__(self, classes: int = 400) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, (7, 7, 7), (2, 2, 2))
        self.Conv3d_2b_1x1 = Unit(64, 64, (1, 1, 1))
        self.Conv3d_2c_3x3 = Unit(64, 192, (3, 3, 3))
        for name, channels in _MIXED.items():
            self.add_module(name, Mixed(*channels))
        self.logits = Unit(1024, classes, (1, 1, 1), last=True)

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes), averaged over time, of videos (B, 3, T, 224, 224) in [-1, 1], T at least 9."""
        x = _pool(self.Conv3d_1a_7x7(video), (1, 3, 3), (1, 2, 2))
        x = _pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        for name in _MIXED:
            if name == "Mixed_4b":
                x = _pool(x, (3, 3, 3), (2, 2, 2))
            elif name == "Mixed_5b":
                x = _pool(x, (2, 2, 2), (2, 2, 2))
            x = self.get_submodule(name)(x)
        x = functional.avg_pool3d(x, (2, 7, 7), stride=1)
        return self.logits(x).squeeze(4).squeeze(3).mean(dim=2)

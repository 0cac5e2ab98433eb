"""Read-out: pictures of an arm -> where its end effector is, how far the gripper is closed, and how sure that is.

A small network looks at each frame, and then at its neighbours in time: fingers of two pixels are hard to see, an
object that moves with the gripper is not. What it was trained for (picture size, widths, camera, scales) is recorded
in a `ReadoutSpec` in the header of its weights. It estimates a place in the picture and its height (or distance), which
a `View` turns into the robot's coordinates; so another camera of the same scene needs another `View`, and another robot
needs another training run. Without a view (a camera that nobody calibrated) it answers in the robot's coordinates.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import Conv1d, Conv2d, GroupNorm, Linear, functional

from ..errors import ReadoutError, brief, plain
from ..grid.frame import to_rgb
from ..json_text import json_record
from ..versions import upgrade
from .camera import THIRDS, View

READOUT_KEY = "visual_planner.readout"
"""Key of the record in a safetensors header."""
READOUT_VERSION = 1
_UPGRADES: dict = {}
"""Steps from older versions of the record; there are none yet."""
MAX_SIDE_PX, MAX_CHANNELS, MOST = 1024, 1024, 1e9
"""Bounds of a record: a network is built from it, and the file may come from anyone."""
TOLERANCE_M = 0.02
"Confidence is the expected fraction of errors below this [m]: about the tolerance of a grasp of a 6.5 cm object."
_LEAST_SCALE = -6.0
_HIDDEN = 160


@dataclass(frozen=True)
class ReadoutSpec:
    """What a read-out was trained for.

    Args:
        version: version of this record.
        height: height of the pictures that the network sees [px], divisible by 16; others are brought to it.
        width: the same for the width.
        channels: widths of the first convolution and of the others.
        points: number of feature points.
        context: blocks that look at the frames before and after; 0: each frame by itself.
        sees_camera: the network is given the camera's place, since the same arm looks different from elsewhere.
        view: the camera of training, or None for a network that answers in the robot's coordinates.
        third: what is estimated beside the place in the picture, with a view: "depth" or "height" (see `view.THIRDS`).
        mean: mean of u, v, depth or height (or x, y, z) in training (3,).
        spread: their standard deviations (3,).

    Raises:
        ReadoutError: a field is wrong; the message names it.
    """

    version: int = READOUT_VERSION
    height: int = 64
    width: int = 64
    channels: tuple[int, int] = (32, 48)
    points: int = 32
    context: int = 0
    sees_camera: bool = False
    view: View | None = None
    third: str = "depth"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    spread: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if self.version != READOUT_VERSION:
            raise ReadoutError(f"read-out version must be {READOUT_VERSION}, got {brief(self.version)}")
        for name in ("height", "width"):
            value = getattr(self, name)
            if type(value) is not int or not 16 <= value <= MAX_SIDE_PX or value % 16:
                raise ReadoutError(
                    f"read-out {name} must be a multiple of 16 from 16 to {MAX_SIDE_PX} [px], got {brief(value)}"
                )
        for name, kind, count, low in (
            ("channels", int, 2, 8), ("mean", float, 3, -MOST), ("spread", float, 3, 1e-9),
        ):  # fmt: skip
            values = getattr(self, name)
            try:
                values = tuple(kind(value) for value in values) if len(values) == count else ()
            except (TypeError, ValueError, OverflowError):
                values = ()
            if len(values) != count or not all(low <= value <= MOST for value in values):
                raise ReadoutError(
                    f"read-out {name} must be {count} numbers of at least {low}, got {brief(getattr(self, name))}"
                )
            object.__setattr__(self, name, values)
        if any(width % 8 or width > MAX_CHANNELS for width in self.channels):
            raise ReadoutError(
                f"read-out channels must divide by 8 and be at most {MAX_CHANNELS}, got {brief(self.channels)}"
            )
        if type(self.points) is not int or not 1 <= self.points <= 512:
            raise ReadoutError(f"read-out points must be a whole number from 1 to 512, got {brief(self.points)}")
        if type(self.context) is not int or not 0 <= self.context <= 8:
            raise ReadoutError(f"read-out context must be a whole number from 0 to 8, got {brief(self.context)}")
        if not isinstance(self.sees_camera, bool):
            raise ReadoutError(f"read-out sees_camera must be true or false, got {brief(self.sees_camera)}")
        if self.third not in THIRDS:
            raise ReadoutError(f"read-out third must be one of {', '.join(THIRDS)}, got {brief(self.third)}")
        if self.view is not None and not isinstance(self.view, Mapping | View):
            raise ReadoutError(f"read-out view must be a camera or null, got {brief(self.view)}")
        if isinstance(self.view, Mapping):
            object.__setattr__(self, "view", View(self.view.get("eye_m"), self.view.get("rays")))

    def camera_features(self, views: Sequence[View]) -> torch.Tensor:
        """How cameras differ from that of training (B, 12): 0 where they agree; place and rays in units of 0.1."""

        def flat(view: View) -> np.ndarray:
            return np.concatenate([view.eye_m, np.ravel(view.rays)])

        away = np.stack([flat(view) for view in views]) - flat(self.view)
        return torch.from_numpy(10 * away).float()

    def to_metadata(self) -> dict[str, str]:
        """The record as an entry of a safetensors header."""
        return {READOUT_KEY: json.dumps(asdict(self))}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str] | None) -> "ReadoutSpec":
        """Read the record of a safetensors header.

        Raises:
            ReadoutError: there is none, or it is broken.
        """
        if metadata is not None and not isinstance(metadata, Mapping):
            raise ReadoutError(f"the read-out's record must stand in a header of texts, got {brief(metadata)}")
        text = (metadata or {}).get(READOUT_KEY)
        if text is None:
            raise ReadoutError(f"read-out weights must have a record {READOUT_KEY!r} in their header, got none")
        try:
            record = json_record(text, "the read-out's record", ReadoutError)
            return cls(**upgrade(record, _UPGRADES, READOUT_VERSION, "read-out", ReadoutError))
        except (ValueError, TypeError) as error:
            if isinstance(error, ReadoutError):
                raise
            raise ReadoutError(f"the read-out's record cannot be read: {plain(str(error), 200)}") from None


@dataclass(frozen=True)
class Reading:
    """What was read off the frames of one plan.

    Args:
        positions_m: end effector in the robot's frame (F, 3) [m].
        gripper: how far it is closed (F,) [0 open, 1 closed].
        error_m: expected distance from the truth (F,) [m], as the network estimates it.
        confidence: expected fraction of errors below `TOLERANCE_M` (F,) [0..1].
        picture_norm: end effector in the picture (F, 2), (x, y) in fractions of width and height; NaN without a view.
    """

    positions_m: np.ndarray
    gripper: np.ndarray
    error_m: np.ndarray
    confidence: np.ndarray
    picture_norm: np.ndarray

    def as_dict(self) -> dict:
        """Plain object for JSON; metres to 0.1 mm."""
        return {
            "end_effector_m": self.positions_m.round(4).tolist(),
            "gripper": self.gripper.round(3).tolist(),
            "error_m": self.error_m.round(4).tolist(),
            "confidence": self.confidence.round(3).tolist(),
        }


class ReadoutNet(nn.Module):
    """Convolutions, feature points (spatial softmax) beside pooled context, and a small head.

    Feature points keep places finer than the feature map's pixels (spatial softmax: Levine et al., 2016, section 5.1);
    the context says how the arm stands, which tells the distance.

    Args:
        spec: sizes and scales.
    """

    def __init__(self, spec: ReadoutSpec) -> None:
        super().__init__()
        self.spec = spec
        first, wide = spec.channels
        self.stages = nn.Sequential(
            Conv2d(3, first, 7, stride=4, padding=2), GroupNorm(8, first), nn.SiLU(),
            Conv2d(first, wide, 3, padding=1), GroupNorm(8, wide), nn.SiLU(),
            _Residual(wide), _Residual(wide),
        )  # fmt: skip
        self.heat = Conv2d(wide, spec.points, 1)
        self.sharpness = nn.Parameter(torch.tensor(1.5))
        self.context = nn.Sequential(
            Conv2d(wide, wide, 3, stride=2, padding=1), nn.SiLU(),
            Conv2d(wide, wide, 3, stride=2, padding=1), nn.SiLU(), nn.Flatten(),
        )  # fmt: skip
        cells = (spec.height // 16) * (spec.width // 16)
        self.hidden = nn.Sequential(Linear(3 * spec.points + wide * cells, _HIDDEN), nn.SiLU())
        self.camera = Linear(12, _HIDDEN, bias=False) if spec.sees_camera else None
        if self.camera is not None:
            nn.init.zeros_(self.camera.weight)
        self.neighbours = nn.Sequential(*(_InTime(_HIDDEN) for _ in range(spec.context)))
        self.place, self.scale, self.gripper = Linear(_HIDDEN, 3), Linear(_HIDDEN, 3), Linear(_HIDDEN, 1)

    def forward(
        self, pixels: torch.Tensor, cameras: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Normalised places, their log scales, and gripper logits.

        Args:
            pixels: (B, F, 3, height, width) in [-1, 1], frames that follow each other.
            cameras: (B, 12) of `ReadoutSpec.camera_features`; None: that of training.

        Returns:
            (B, F, 3) in units of the spec's spread around its mean, (B, F, 3) natural logarithm of the expected
            absolute error in the same units, and (B, F) logit that the gripper is closed.
        """
        features = self.stages(pixels.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        heat = self.heat(features)
        batch, points, rows, cols = heat.shape
        shares = (heat.flatten(2) * self.sharpness.exp()).softmax(dim=-1).view(batch, points, rows, cols)
        across = (shares.sum(2) * torch.linspace(-1, 1, cols, device=pixels.device)).sum(-1)
        down = (shares.sum(3) * torch.linspace(-1, 1, rows, device=pixels.device)).sum(-1)
        level = (shares * heat).sum((2, 3))
        first, act = self.hidden
        hidden = first(torch.cat([across, down, level, self.context(features)], dim=1)).unflatten(0, pixels.shape[:2])
        if self.camera is not None and cameras is not None:
            hidden = hidden + self.camera(cameras)[:, None]
        hidden = self.neighbours(act(hidden).mT).mT
        return self.place(hidden), self.scale(hidden).clamp(min=_LEAST_SCALE), self.gripper(hidden)[..., 0]


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = Conv2d(channels, channels, 3, padding=1), GroupNorm(8, channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + functional.silu(self.norm(self.conv(features)))


class _InTime(nn.Module):
    """Add to features (B, channels, F) a function of their neighbours in time that is 0 at initialisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.look, self.add = Conv1d(channels, channels, 3, padding=1), Conv1d(channels, channels, 1)
        nn.init.zeros_(self.add.weight)
        nn.init.zeros_(self.add.bias)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.add(functional.silu(self.look(features)))


def load_net(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None) -> ReadoutNet:
    """The network of a safetensors file's tensors and header.

    Raises:
        ReadoutError: no record, or tensors that do not match it.
    """
    net = ReadoutNet(ReadoutSpec.from_metadata(metadata))
    wanted = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wanted != given:
        odd = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
        raise ReadoutError(
            f"read-out weights do not fit their record: {len(odd)} tensors differ ({', '.join(odd[:3])})"
        )
    net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return net.eval().requires_grad_(False)


def network_pixels(frames: "torch.Tensor | np.ndarray", spec: ReadoutSpec) -> torch.Tensor:
    """Frames (F, h, w, 3) in any form of `frame.to_rgb` as the network takes them, (F, 3, height, width) in [-1, 1]."""
    pictures = to_rgb(frames).permute(0, 3, 1, 2)
    if pictures.shape[-2:] != (spec.height, spec.width):
        pictures = functional.interpolate(
            pictures, size=(spec.height, spec.width), mode="bilinear", align_corners=False, antialias=True
        )
    return pictures * 2 - 1


@torch.no_grad()
def read_frames(net: ReadoutNet, frames: "torch.Tensor | np.ndarray", view: View | None = None) -> Reading:
    """Read the end effector off frames.

    Args:
        net: from `load_net`.
        frames: (F, h, w, 3) in time order, any size; floats in [0, 1] or any form that `frame.to_rgb` takes.
        view: the camera that took the frames; None: that of training.

    Raises:
        ReadoutError: a view for a network that was trained without one, or one that does not suit it.
    """
    spec = net.spec
    if view is not None and spec.view is None:
        raise ReadoutError("this read-out was trained without a camera view, so it cannot be given another one")
    device = net.sharpness.device
    pixels = network_pixels(frames, spec)[None].to(device)
    cameras = spec.camera_features([view]).to(device) if view is not None and spec.sees_camera else None
    place, scale, gripper = (part[0].cpu().double().numpy() for part in net(pixels, cameras))
    values, errors = place * spec.spread + spec.mean, np.exp(scale) * spec.spread
    if spec.view is None:
        positions, picture, error_m = values, np.full((len(values), 2), np.nan), np.linalg.norm(errors, axis=-1)
    else:
        camera = view or spec.view
        if spec.third == "height":
            camera.check_heights()
        positions, picture = camera.place(values, spec.third), values[:, :2]
        # the length of a small step of u, v or the third in space
        stepped = (camera.place(values + np.eye(3)[k] * errors, spec.third) for k in range(3))
        steps = [np.linalg.norm(places - positions, axis=-1) for places in stepped]
        error_m = np.linalg.norm(steps, axis=0)
    confidence = 1 - np.exp(-TOLERANCE_M / np.maximum(error_m, 1e-6))
    return Reading(positions, 1 / (1 + np.exp(-gripper)), error_m, confidence, picture)

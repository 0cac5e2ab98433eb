"""`python -m training readout`: train the read-out, measure it on episodes it has not seen, write weights and card."""

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from visual_planner.readout import ReadoutNet, ReadoutSpec, load_net

from ..config import Config, save_config
from ..errors import TrainingError
from ..files import write_tensors
from ..loop import Loop, make_accelerator
from ..train_config import ReadoutSection
from .data import Frames, load_frames, split, through_autoencoder
from .degrade import degrade, shift
from .measure import measure, write_card
from .planned import planned_pictures
from .weights import WEIGHTS, open_readout

_LEAST_SPREAD = 1e-3


def train_readout(config: Config) -> None:
    """Train (or go on training) the read-out and write it to `readout.model`."""
    section: ReadoutSection = config.section("readout")
    accelerator = make_accelerator(section)
    frames, held_out = split(load_frames(section), section.held_out, section.seed)
    net = start(section, frames).to(memory_format=torch.channels_last)
    draw = Batches(frames, section, net.spec)

    def loss_of(model: torch.nn.Module, index: int, generator: torch.Generator) -> torch.Tensor:
        pixels, places, gripper = (part.to(accelerator.device) for part in draw(generator))
        return readout_loss(*model(pixels.contiguous(memory_format=torch.channels_last)), places, gripper)

    loop = Loop(section, net, loss_of, accelerator)
    loop.resume()
    finished = loop.run()
    if not accelerator.is_main_process:
        return
    loop.use_averaged()
    save_config(config, Path(section.out) / "config.yaml")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    metadata = net.spec.to_metadata()
    write_tensors(Path(section.model) / WEIGHTS, tensors, metadata)
    figures = measure(load_net(tensors, metadata), held_out, section)
    write_card(
        Path(section.model), figures, section, loop.step, len(frames.gripper), sum(t.numel() for t in tensors.values())
    )
    state = "" if finished else f" after {loop.step} of {section.max_steps} steps (the same command goes on)"
    clean = figures["clean"]
    print(
        f"read-out: {Path(section.model) / WEIGHTS}{state}; held out: median error "
        f"{clean['error_mm']['median']:.1f} mm, gripper {clean['gripper']['rate']:.1%}"
    )


def start(section: ReadoutSection, frames: Frames) -> ReadoutNet:
    """An untrained network for these frames, or the one of `init`.

    Raises:
        TrainingError: that of `init` answers in other coordinates than these frames ask for.
    """
    if section.init is None:
        return ReadoutNet(spec_for(section, frames))
    net = open_readout(section.init).requires_grad_(True).train()
    if (net.spec.view is None) == bool(frames.views):
        raise TrainingError(
            f"readout.init {section.init} and the sources must both have a camera view, or none of them"
        )
    return net


def spec_for(section: ReadoutSection, frames: Frames) -> ReadoutSpec:
    """The record of a network that is to be trained on these frames."""
    view = frames.views[0] if frames.views else None
    mean, spread = frames.seen.mean(axis=0), np.maximum(frames.seen.std(axis=0), _LEAST_SPREAD)
    plain = section.network()
    return ReadoutSpec(
        height=plain.height, width=plain.width, channels=plain.channels, points=plain.points, view=view,
        mean=tuple(mean.tolist()), spread=tuple(spread.tolist()),
    )  # fmt: skip


class Batches:
    """Draws batches of spoilt frames; a batch is a function of its generator.

    Args:
        frames: what to draw from.
        section: sizes, shares and the autoencoder.
        spec: record of the network.
    """

    def __init__(self, frames: Frames, section: ReadoutSection, spec: ReadoutSpec) -> None:
        self.frames, self.section, self.spec = frames, section, spec
        self.targets = ((frames.seen - spec.mean) / np.array(spec.spread)).astype(np.float32)
        far = np.abs(self.targets).max(axis=1)
        self.rare = np.flatnonzero(far >= np.quantile(far, 0.9))
        self.made: list[tuple[dict[int, np.ndarray], float]] = []
        if section.vae is not None:
            decoded = through_autoencoder(
                frames.pictures, section.vae, section.vae_pictures, section.vae_noise, section.seed
            )
            self.made.append((decoded, section.vae_share))
        if section.planner is not None:
            self.made.append((planned_pictures(frames, section.planner, section.seed), section.planner.share))

    def __call__(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pixels (B, 3, H, W) in [-1, 1], normalised places (B, 3), and gripper states (B,)."""
        rng = np.random.default_rng(torch.randint(2**62, (), generator=generator).item())
        chosen = rng.integers(len(self.frames.gripper), size=self.section.batch_size)
        chosen = np.where(rng.random(len(chosen)) < self.section.rare_share, rng.choice(self.rare, len(chosen)), chosen)
        of = np.zeros(len(chosen), np.int64)
        for kind, (made, share) in enumerate(self.made, start=1):
            taken = rng.random(len(chosen)) < share
            chosen = np.where(taken, rng.choice(np.fromiter(made, dtype=np.int64), len(chosen)), chosen)
            of[taken] = kind
        places, pictures = self.targets[chosen].copy(), []
        for row, (number, kind) in enumerate(zip(chosen.tolist(), of.tolist(), strict=True)):
            picture = self.made[kind - 1][0][number] if kind else self.frames.pictures[number]
            picture = degrade(picture, self.frames.pictures[self._neighbour(number, rng)], rng)
            if self.spec.view is not None and self.section.shift_px and rng.random() < 0.5:
                # moving the picture moves u and v alike: as good as more cameras
                moved = rng.uniform(-self.section.shift_px, self.section.shift_px, 2)
                picture = shift(picture, *moved)
                places[row, :2] += moved / (self.spec.width, self.spec.height) / np.array(self.spec.spread)[:2]
            pictures.append(picture)
        pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
        return pixels, torch.from_numpy(places), torch.from_numpy(self.frames.gripper[chosen].astype(np.float32))

    def _neighbour(self, number: int, rng: np.random.Generator) -> int:
        """A frame up to two before or after, of the same episode where there is one."""
        other = int(np.clip(number + rng.integers(-2, 3), 0, len(self.frames.episode) - 1))
        return other if self.frames.episode[other] == self.frames.episode[number] else number


def readout_loss(
    place: torch.Tensor, scale: torch.Tensor, logit: torch.Tensor, places: torch.Tensor, gripper: torch.Tensor
) -> torch.Tensor:
    """Absolute error of the places, likelihood of that error under the named scale, and of the gripper.

    The scale's part does not pull at the places: a network may otherwise excuse what it finds hard.

    Args:
        place: (B, 3), normalised.
        scale: (B, 3), logarithm of the expected absolute error.
        logit: (B,) of the gripper.
        places: (B, 3), the truth.
        gripper: (B,) in [0, 1], the truth.
    """
    error = (place - places).abs()
    likelihood = scale + error.detach() / scale.exp()
    fit = functional.smooth_l1_loss(place, places, beta=0.1)
    return 2 * fit + 0.1 * likelihood.mean() + 0.5 * functional.binary_cross_entropy_with_logits(logit, gripper)

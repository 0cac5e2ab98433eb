"""The tiny base's image autoencoder: diffusers' AutoencoderKL, narrow, trained from scratch.

The loss has reconstruction terms (mean absolute and squared error, and the error of differences between neighbouring
pixels, which keeps edges) and a pull of the latents towards mean 0 and variance 1. Latents get noise before decoding,
since those decoded later are generated and never exact.
"""

from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL

from visual_planner.grid.cells import assemble_grid
from visual_planner.planner.families import FLUX1
from visual_planner.trajectory.overlay import draw_overlay
from visual_planner.trajectory.path import DrawnPath, Point
from visual_planner.trajectory.trajectory import Trajectory

from ..data.episodes import EpisodeSet
from ..files import filling
from ..loop.loop import Loop, make_accelerator
from ..loop.randomness import step_generator
from ..loop.record import make_record
from ..model.autoencoder import encode_cells, load_vae
from ..sections.config import Config
from ..sections.planner import DecoderSection, VaeSection

_OVERLAID = 0.5
"Fraction of training images with a drawn path, like that of condition images."
_PATH_WEIGHT = 4.0
"Weight of a path's pixels relative to the others: it is thin, and its colours encode when the arm is where."
_SHUFFLED = 0.1
"Fraction of images with permuted colour channels, so that colours that the scenes lack can be encoded as well."


def make_vae(section: VaeSection) -> AutoencoderKL:
    """An untrained autoencoder: 8 x smaller, 16 channels, latents used as they are (scale 1, shift 0)."""
    levels = len(section.channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=section.channels,
        layers_per_block=1,
        latent_channels=FLUX1.channels,
        norm_num_groups=32,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=0.3611,
        shift_factor=0.1159,
    )


class Pictures:
    """All frames of some episode data sets in memory, drawn at random.

    Args:
        folders: episode data sets.
    """

    def __init__(self, folders: list[Path]) -> None:
        frames = [episode.load_frames() for folder in folders for episode in EpisodeSet.open(folder).episodes]
        self.frames = np.concatenate(frames)

    def batch(self, count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures (count, 3, H, W) float32 in [-1, 1], some with a random path drawn on them, and pixels' weights.

        Returns:
            The pictures, and weights (count, 1, H, W): more where a path is.
        """
        chosen = torch.randint(len(self.frames), (count,), generator=generator).tolist()
        plain = [self._vary(self.frames[i], generator) for i in chosen]
        drawn = [_with_path(frame, generator) for frame in plain]
        path = np.any(np.stack(drawn) != np.stack(plain), axis=-1)
        weights = 1 + (_PATH_WEIGHT - 1) * torch.from_numpy(path).float()
        return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() / 127.5 - 1, weights[:, None]

    @staticmethod
    def _vary(frame: np.ndarray, generator: torch.Generator) -> np.ndarray:
        if torch.rand((), generator=generator) >= _SHUFFLED:
            return frame
        return np.ascontiguousarray(frame[..., torch.randperm(3, generator=generator).numpy()])


def _with_path(frame: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """The frame, usually with a random path whose colours run by time or by length."""
    if torch.rand((), generator=generator) >= _OVERLAID:
        return frame
    height, width = frame.shape[:2]
    count = int(torch.randint(2, 8, (), generator=generator))
    places = torch.rand(count, 2, generator=generator)
    # Times in unequal steps: an arm that waits leaves a jump of colour.
    times = torch.cumsum(torch.rand(count, generator=generator).square() + 0.02, 0)
    times = (times - times[0]) / (times[-1] - times[0])
    points = tuple(
        Point(float(x) * width, float(y) * height, float(t)) for (x, y), t in zip(places, times, strict=True)
    )
    kind = "spline" if torch.rand((), generator=generator) < 0.5 else "polyline"
    color_by = "time" if torch.rand((), generator=generator) < 0.7 else "arc"
    trajectory = Trajectory(width, height, (DrawnPath("any", points, kind),))
    return draw_overlay(frame, trajectory, color_by=color_by)


def vae_loss(
    vae: AutoencoderKL, pixels: torch.Tensor, weights: torch.Tensor, noise: float, generator: torch.Generator
) -> torch.Tensor:
    """Loss of one batch of pictures (B, 3, H, W) in [-1, 1] with weights (B, 1, H, W)."""
    latents = vae.encode(pixels).latent_dist.mean
    normalised = (latents - vae.config.shift_factor) * vae.config.scaling_factor
    spread = normalised.transpose(0, 1).flatten(1)
    regular = spread.mean(1).square().mean() + (spread.std(1) - 1).square().mean()
    jitter = noise / vae.config.scaling_factor * torch.randn(latents.shape, generator=generator).to(latents)
    return picture_loss(vae.decode(latents + jitter).sample, pixels, weights) + 0.01 * regular


def picture_loss(decoded: torch.Tensor, pixels: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Absolute and squared error, and the absolute error of neighbour differences, which keeps edges.

    Args:
        decoded: (B, 3, H, W).
        pixels: (B, 3, H, W), what it should be.
        weights: (B, 1, H, W), of a pixel's error; None for 1.
    """
    difference = decoded - pixels
    edges = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    if weights is not None:
        return (difference.abs() * weights).mean() + 2 * (difference.square() * weights).mean() + edges
    return difference.abs().mean() + 2 * difference.square().mean() + edges


def train_vae(config: Config) -> None:
    """Train (or resume training) the autoencoder and write it as a diffusers folder `<out>/vae`."""
    section: VaeSection = config.section("vae")
    accelerator: Accelerator = make_accelerator(section)
    vae = make_vae(section) if section.init is None else load_vae(section.init).requires_grad_(True).train()
    vae = vae.to(memory_format=torch.channels_last)
    pictures = Pictures(section.source)

    def loss_of(model: torch.nn.Module, index: int, generator: torch.Generator) -> torch.Tensor:
        batch = pictures.batch(section.batch_size, step_generator(section.seed + 1, index, accelerator.process_index))
        pixels, weights = (part.to(accelerator.device) for part in batch)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        return vae_loss(model, pixels, weights, section.latent_noise, generator)

    record = make_record("vae", section, {"source": section.source}, processes=accelerator.num_processes)
    loop = Loop(section, vae, loss_of, accelerator, record=record)
    loop.resume()
    finished = loop.run()
    if accelerator.is_main_process and finished:
        loop.use_averaged()
        with filling(Path(section.out) / "vae") as part:
            vae.to(memory_format=torch.contiguous_format).save_pretrained(part)
        print(f"autoencoder: {Path(section.out) / 'vae'}, {reconstruction(vae, pictures):.2f} dB on training images")


def train_decoder(config: Config) -> None:
    """Train (or resume training) the decoder alone on whole grids, and put it into the base's `vae` folder.

    Normalisation and attention see the whole picture, so a decoder that has only seen single frames lets colours
    of one cell leak into others. The encoder is not changed, so existing latents remain valid.
    """
    section: DecoderSection = config.section("decoder")
    spec = config.planner_spec()
    layout = spec.layout
    accelerator = make_accelerator(section)
    folder = Path(section.vae)
    vae = load_vae(folder)
    vae.decoder.requires_grad_(True)
    episodes = [episode for source in section.source for episode in EpisodeSet.open(source).episodes]

    def loss_of(model: torch.nn.Module, index: int, generator: torch.Generator) -> torch.Tensor:
        draw = step_generator(section.seed + 1, index, accelerator.process_index)
        chosen = torch.randint(len(episodes), (section.batch_size,), generator=draw).tolist()
        frames = torch.from_numpy(np.concatenate([episodes[i].load_frames() for i in chosen]))
        grids = assemble_grid(frames, layout)
        latents = encode_cells(model, frames, layout)
        latents = latents + section.latent_noise * torch.randn(latents.shape, generator=generator).to(latents)
        raw = latents / vae.config.scaling_factor + vae.config.shift_factor
        pixels = grids.permute(0, 3, 1, 2).to(latents) / 127.5 - 1
        return picture_loss(model.decode(raw.contiguous(memory_format=torch.channels_last)).sample, pixels)

    # The autoencoder is not listed as an input: the result replaces it.
    record = make_record("decoder", section, {"source": section.source}, spec, accelerator.num_processes)
    loop = Loop(section, vae, loss_of, accelerator, record=record)
    loop.resume()
    finished = loop.run()
    if accelerator.is_main_process and finished:
        loop.use_averaged()
        with filling(folder) as part:
            vae.to(memory_format=torch.contiguous_format).save_pretrained(part)
        print(f"decoder: {folder}")


@torch.no_grad()
def reconstruction(vae: AutoencoderKL, pictures: Pictures, count: int = 128) -> float:
    """Peak signal-to-noise ratio [dB] of decode(encode(picture)) over random pictures."""
    batch = pictures.batch(count, step_generator(7, 0))[0].to(vae.device)
    decoded = vae.decode(vae.encode(batch).latent_dist.mean).sample.clamp(-1, 1)
    return float(-10 * torch.log10((decoded - batch).div(2).square().mean()))

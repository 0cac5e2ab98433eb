"""`python -m training video_baseline`: train a video-diffusion planner on a cache of pairs."""

import json
from dataclasses import asdict
from pathlib import Path

import torch

from visual_planner.planner.conditioning import add_noise, velocity
from visual_planner.planner.prompts import parts_of
from visual_planner.planner.spec import PlannerSpec

from ...cache.mixture import Mixture
from ...cache.read import encoder_digests
from ...errors import TrainingError
from ...loop.loop import Loop, make_accelerator
from ...loop.randomness import step_generator
from ...loop.record import json_digest, make_record
from ...model.in_context import InContext
from ...sections.baselines import VideoBaselineSection
from ...sections.config import Config, save_config
from ...sections.run import ObjectiveSection
from ..batches import CachedPairs
from ..objective import Batch, draw_sigma, loss_weights
from .video_model import VideoNet, VideoRecord, frames_of
from .weights import VIDEO, write_baseline

_DECIDES_NOTHING = ("held_out_batches",)


def train_video(config: Config) -> None:
    """Train (or resume training) the video-diffusion planner and write it to `video_baseline.model`.

    Raises:
        TrainingError: the cache does not suit it.
    """
    section: VideoBaselineSection = config.section(VIDEO)
    mixture = Mixture.open(section.cache)
    check_cache(mixture)
    if goals := [mode for mode, weight in section.mode_weights.items() if weight and parts_of(mode).goal]:
        raise TrainingError(f"video_baseline.mode_weights must name no mode with a goal picture, got {goals[0]}")
    mixture.check_encoders(Path(section.base))
    accelerator = make_accelerator(section, section.device)
    spec, share = mixture.spec, (accelerator.process_index, accelerator.num_processes)
    net = make_net(section, mixture)
    pairs = CachedPairs(mixture, section, share=share)

    def loss_of(model: torch.nn.Module, index: int, generator: torch.Generator) -> torch.Tensor:
        return video_loss(model, pairs.batch(index, accelerator.device), spec, section.objective, generator, share)

    inputs = {"cache": json_digest([cache.manifest for cache in mixture.caches])}
    record = make_record(VIDEO, section, inputs, spec, share[1], _DECIDES_NOTHING, shares=mixture.shares)
    loop = Loop(section, net, loss_of, accelerator, record=record)
    loop.resume()
    if accelerator.is_main_process:
        save_config(config, loop.run_folder / "config.yaml")
    finished = loop.run()
    if not accelerator.is_main_process:
        return
    loop.use_averaged()
    net = accelerator.unwrap_model(loop.model)
    kept = held_out_loss(net, mixture, section, accelerator.device)
    write_baseline(section.model, net, _record(section, mixture, net, loop, kept))
    state = "" if finished else " (stopped: the same command resumes)"
    told = ", ".join(f"{name} {value:.4f}" for name, value in kept.items())
    print(f"video baseline: {section.model}, step {loop.step}{state}{', held out: ' if told else ''}{told}")


def check_cache(mixture: Mixture) -> None:
    """Raise TrainingError unless a cache's grids can be cut into frames with the first one as condition."""
    if not mixture.spec.condition_is_cell:
        raise TrainingError(
            f"cache {mixture.name} must have conditions of the first cell for a video baseline, got "
            f"spec.condition_tokens {mixture.spec.condition_tokens}"
        )
    for cache in mixture.caches:
        encoded = cache.manifest.get("settings", {}).get("encode")
        if encoded != "cells":
            raise TrainingError(
                f"cache {cache.folder} must have its frames encoded one by one (cache.encode: cells) for a video "
                f"baseline, got {encoded}"
            )


def make_net(section: VideoBaselineSection, mixture: Mixture) -> VideoNet:
    """An untrained network for the latents and the text of a cache."""
    text, pooled = mixture.caches[0].text(mixture.caches[0].manifest["empty_prompt"])
    widths = text.shape[-1], 0 if pooled is None else pooled.shape[-1]
    channels = mixture.spec.base_family.channels
    return VideoNet(channels, tuple(section.channels), section.layers, section.heads, *widths)


def video_loss(
    net: torch.nn.Module,
    batch: Batch,
    spec: PlannerSpec,
    section: ObjectiveSection,
    generator: torch.Generator,
    share: tuple[int, int] = (0, 1),
) -> torch.Tensor:
    """The flow-matching loss of one batch (a scalar), on frames instead of grids.

    Args:
        net: predicts velocities, see `VideoNet.forward`.
        batch: latents of grids and first frames, and text embeddings, on the network's device.
        spec: layout of the grids.
        section: noise levels and weights.
        generator: CPU generator of noise levels and noise.
        share: number of this process and count of processes; noise is drawn for the batches of all.
    """
    total, device = len(batch.target) * share[1], batch.target.device
    own = slice(len(batch.target) * share[0], len(batch.target) * (share[0] + 1))
    sigma = draw_sigma(total, section, generator)[own].to(device)
    noise = torch.randn(total, *batch.target.shape[1:], generator=generator)[own].to(device)
    clean, noise = frames_of(batch.target, spec.layout), frames_of(noise, spec.layout)
    first = batch.condition[..., : clean.shape[-1]]  # to its right there may be space for a goal picture
    predicted = net(add_noise(clean, noise, sigma), sigma, first, batch.text, batch.pooled)
    error = (predicted.float() - velocity(clean, noise)).square()
    weights = loss_weights(batch, InContext(spec, device), section)
    if weights is not None:
        error = error * frames_of(weights, spec.layout)
    return error.mean()


@torch.no_grad()
def held_out_loss(
    net: torch.nn.Module, mixture: Mixture, section: VideoBaselineSection, device: torch.device
) -> dict[str, float]:
    """Mean loss on the validation split; empty if the cache has none in the trained modes."""
    modes = {mode for mode, weight in section.mode_weights.items() if weight}
    held = any(pair["split"] == "validation" and pair["mode"] in modes for pair in mixture.pairs)
    if not held or not section.held_out_batches:
        return {}
    pairs, losses = CachedPairs(mixture, section, "validation"), []
    for index in range(section.held_out_batches):
        generator = step_generator(section.seed + 2, index)
        losses.append(video_loss(net, pairs.batch(index, device), mixture.spec, section.objective, generator).item())
    return {"loss": sum(losses) / len(losses)}


def _record(
    section: VideoBaselineSection, mixture: Mixture, net: VideoNet, loop: Loop, kept: dict[str, float]
) -> VideoRecord:
    text, pooled = mixture.caches[0].text(mixture.caches[0].manifest["empty_prompt"])
    return VideoRecord(
        kind=VIDEO,
        spec=json.loads(json.dumps(asdict(mixture.spec))),
        encoders=encoder_digests(Path(section.base), mixture.spec),
        text_width=text.shape[-1],
        pooled_width=0 if pooled is None else pooled.shape[-1],
        steps=loop.step,
        hours=loop.seconds / 3600,
        parameters=sum(p.numel() for p in net.parameters()),
        held_out=kept,
        channels=section.channels,
        layers=section.layers,
        heads=section.heads,
    )

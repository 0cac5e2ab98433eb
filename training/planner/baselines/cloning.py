"""`python -m training cloning_baseline`: train a policy that predicts keyframes without painting them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from visual_planner.planner.spec import PlannerSpec

from ...cache.read import encoder_digests
from ...data.episodes import Episode, EpisodeSet
from ...errors import TrainingError
from ...loop.loop import Loop, make_accelerator
from ...loop.randomness import step_generator
from ...loop.record import make_record
from ...model.bases.registry import base_of
from ...sections.baselines import CloningBaselineSection
from ...sections.config import Config, save_config
from .cloning_model import CloningNet, CloningRecord, pixels_of
from .weights import CLONING, write_baseline

_AT_ONCE = 64
"""Number of prompts or pictures that are encoded or measured at once."""
_LEAST_SPREAD_M = 1e-3
_MIX, _SHIFT, _NOISE = 0.06, 8.0, 8.0
"""Augmentation: standard deviations of colour mixing and shift, and the largest one of pixel noise (of 255)."""


@dataclass(frozen=True)
class Demonstrations:
    """Inputs and targets of the policy.

    Args:
        first: first frames (N, h, w, 3) uint8.
        keyframes: end effector [m] and gripper (N, F, 4).
        prompt: number of each one's prompt (N,).
        text: (P, T, D) text embeddings of the distinct prompts.
        pooled: (P, W) their pooled text, None in families without one.
    """

    first: np.ndarray
    keyframes: np.ndarray
    prompt: np.ndarray
    text: torch.Tensor
    pooled: torch.Tensor | None

    def texts(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Text embeddings and pooled text of some demonstrations."""
        chosen = torch.from_numpy(self.prompt[rows])
        return self.text[chosen], None if self.pooled is None else self.pooled[chosen]


class Batches:
    """Draws batches of demonstrations; a batch is a function of (seed, index, process).

    Args:
        data: all demonstrations.
        section: batch size, seed, and how often a first frame is augmented.
    """

    def __init__(self, data: Demonstrations, section: CloningBaselineSection) -> None:
        self.data, self.section = data, section
        self.trained = len(data.first) - section.held_out
        places = data.keyframes[: self.trained, :, :3].reshape(-1, 3)
        self.mean, self.spread = places.mean(axis=0), np.maximum(places.std(axis=0), _LEAST_SPREAD_M)

    def __call__(self, index: int, process: int = 0) -> tuple[torch.Tensor | None, ...]:
        """Pixels (B, 3, h, w), text (B, T, D), pooled (B, W), normalised places (B, F, 3) and grippers (B, F)."""
        draw = step_generator(self.section.seed + 1, index, process)
        rows = torch.randint(self.trained, (self.section.batch_size,), generator=draw).numpy()
        rng = np.random.default_rng(torch.randint(2**62, (), generator=draw).item())
        pictures = [self._seen(self.data.first[row], rng) for row in rows]
        keys = self.data.keyframes[rows]
        places = torch.from_numpy(((keys[..., :3] - self.mean) / self.spread).astype(np.float32))
        closed = torch.from_numpy(keys[..., 3].astype(np.float32))
        return pixels_of(np.stack(pictures)), *self.data.texts(rows), places, closed

    def _seen(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return augmented(picture, rng) if rng.random() < self.section.augmented else picture


def augmented(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture (h, w, 3) uint8 with colours slightly mixed and shifted, and noise, as of other light or sensors."""
    mix = np.eye(3) + rng.normal(0.0, _MIX, (3, 3))
    changed = picture @ mix.T + rng.normal(0.0, _SHIFT, 3) + rng.normal(0.0, rng.uniform(0.0, _NOISE), picture.shape)
    return np.clip(changed, 0, 255).astype(np.uint8)


def train_cloning(config: Config) -> None:
    """Train (or resume training) the policy and write it to `cloning_baseline.model`.

    Raises:
        TrainingError: the episodes are of another size, or have no keyframes.
    """
    section: CloningBaselineSection = config.section(CLONING)
    spec = config.planner_spec()
    accelerator = make_accelerator(section, section.device)
    data = load_demonstrations(section, spec)
    draw, net = Batches(data, section), make_net(section, spec, data)

    def loss_of(model: torch.nn.Module, index: int, generator: torch.Generator) -> torch.Tensor:
        batch = draw(index, accelerator.process_index)
        pixels, text, pooled, places, closed = (None if p is None else p.to(accelerator.device) for p in batch)
        return cloning_loss(*model(pixels, text, pooled), places, closed)

    inputs = {"source": section.source, "text": [Path(section.base) / name for name in base_of(spec).text_folders]}
    record = make_record(CLONING, section, inputs, spec, accelerator.num_processes)
    loop = Loop(section, net, loss_of, accelerator, record=record)
    loop.resume()
    if accelerator.is_main_process:
        save_config(config, loop.run_folder / "config.yaml")
    finished = loop.run()
    if not accelerator.is_main_process:
        return
    loop.use_averaged()
    made = _record(section, spec, loop, draw)
    write_baseline(section.model, accelerator.unwrap_model(loop.model), made)
    state = "" if finished else " (stopped: the same command resumes)"
    print(
        f"cloning baseline: {section.model}, step {loop.step}{state}, held out: median error "
        f"{made.held_out['median_error_mm']:.1f} mm, gripper {made.held_out['gripper']:.1%}"
    )


def make_net(section: CloningBaselineSection, spec: PlannerSpec, data: Demonstrations) -> CloningNet:
    """An untrained network for the data's keyframes and text."""
    widths = data.text.shape[-1], 0 if data.pooled is None else data.pooled.shape[-1]
    return CloningNet(
        spec.layout.frames, section.channels, section.blocks, section.points, section.hidden, *widths
    )  # fmt: skip


def _record(section: CloningBaselineSection, spec: PlannerSpec, loop: Loop, draw: Batches) -> CloningRecord:
    data, net = draw.data, loop.accelerator.unwrap_model(loop.model)
    digests = encoder_digests(Path(section.base), spec)
    return CloningRecord(
        kind=CLONING,
        spec=json.loads(json.dumps(asdict(spec))),
        encoders={name: value for name, value in digests.items() if not name.startswith("vae/")},
        text_width=data.text.shape[-1],
        pooled_width=0 if data.pooled is None else data.pooled.shape[-1],
        steps=loop.step,
        hours=loop.seconds / 3600,
        parameters=sum(p.numel() for p in net.parameters()),
        held_out=measured(net, draw),
        channels=list(section.channels),
        blocks=section.blocks,
        points=section.points,
        hidden=section.hidden,
        mean=draw.mean.tolist(),
        spread=draw.spread.tolist(),
    )


def load_demonstrations(section: CloningBaselineSection, spec: PlannerSpec) -> Demonstrations:
    """All demonstrations of the configuration, the held-out ones last.

    Raises:
        TrainingError: there are too few, they are of another size, or one has no keyframes.
    """
    data = EpisodeSet.open(section.source)
    found = data.info["frames"], data.info["height"], data.info["width"]
    wanted = spec.layout.frames, spec.cell_height, spec.cell_width
    if found != wanted:
        raise TrainingError(
            f"episodes {section.source} must have the spec's {wanted[0]} frames of {wanted[1]}x{wanted[2]} px, got "
            f"{found[0]} of {found[1]}x{found[2]}"
        )
    episodes = data.episodes[: section.episodes]
    if len(episodes) <= section.held_out:
        raise TrainingError(
            f"cloning_baseline.held_out must be below the number of episodes, {len(episodes)}, got {section.held_out}"
        )
    prompts = [spec.prompt("text", episode.record.get("instruction", "")) for episode in episodes]
    distinct = sorted(set(prompts))
    place = {prompt: number for number, prompt in enumerate(distinct)}
    text, pooled = encoded(distinct, Path(section.base), spec)
    return Demonstrations(
        np.stack([episode.load_frames()[0] for episode in episodes]),
        np.stack([keyframes_of(episode, spec.layout.frames, section.source) for episode in episodes]),
        np.array([place[prompt] for prompt in prompts]), text, pooled,
    )  # fmt: skip


def keyframes_of(episode: Episode, frames: int, source: Path) -> np.ndarray:
    """Keyframes (F, 4) of a demonstration: end effector [m], and gripper [0 open, 1 closed].

    Raises:
        TrainingError: its record has none.
    """
    record = episode.record
    try:
        places, gripper = (np.array(record[name], float) for name in ("end_effector_m", "gripper"))
        keys = np.column_stack([places, gripper])
    except (KeyError, TypeError, ValueError):
        keys = np.empty(0)
    if keys.shape != (frames, 4) or not np.isfinite(keys).all():
        raise TrainingError(
            f"episode {episode.id} of {source} must have end_effector_m and gripper at each of its {frames} frames"
        )
    return keys


@torch.no_grad()
def encoded(prompts: list[str], base: Path, spec: PlannerSpec) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Text embeddings (P, T, D) of prompts and, where the family has one, their pooled text (P, W)."""
    encoders = base_of(spec).load_text(base, 0, torch.float32)
    parts = [encoders(prompts[start : start + _AT_ONCE]) for start in range(0, len(prompts), _AT_ONCE)]
    texts, pooled = zip(*parts, strict=True)
    return torch.cat(texts), None if pooled[0] is None else torch.cat(pooled)


def cloning_loss(
    places: torch.Tensor, logits: torch.Tensor, wanted: torch.Tensor, closed: torch.Tensor
) -> torch.Tensor:
    """Error of the places and likelihood of the gripper states, weighted as in the read-out's training.

    Args:
        places: (B, F, 3), normalised.
        logits: (B, F) that the gripper is closed.
        wanted: (B, F, 3), the truth.
        closed: (B, F) in [0, 1], the truth.
    """
    fit = functional.smooth_l1_loss(places, wanted, beta=0.1)
    return 2 * fit + 0.5 * functional.binary_cross_entropy_with_logits(logits, closed)


@torch.no_grad()
def measured(net: CloningNet, draw: Batches) -> dict[str, float]:
    """Median error of the held-out places [mm] and rate of correct gripper states, over all keyframes but the first."""
    net.eval()
    data, device = draw.data, next(net.parameters()).device
    errors, right = [], []
    for start in range(draw.trained, len(data.first), _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, len(data.first)))
        texts = (None if value is None else value.to(device) for value in data.texts(rows))
        places, logits = (value.cpu().numpy() for value in net(pixels_of(data.first[rows]).to(device), *texts))
        keys = data.keyframes[rows]
        errors.append(np.linalg.norm(places * draw.spread + draw.mean - keys[..., :3], axis=-1)[:, 1:])
        right.append(((logits > 0) == (keys[..., 3] > 0.5))[:, 1:])
    return {
        "median_error_mm": float(1000 * np.median(np.concatenate(errors))),
        "gripper": float(np.concatenate(right).mean()),
    }

"""Validation during a run: plans of held-out scenes beside the truth, and the loss on them.

The plans are those of the file that `export` would write at that step: EMA weights if it takes them, rounded to its
dtype. Noise and schedule are those of ComfyUI, so the exported file gives the same picture there for the same seed.
Latents and text embeddings come from the cache; of the encoders only the autoencoder is loaded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from visual_planner.grid.frame import to_bytes
from visual_planner.planner.spec import PlannerSpec

from ..cache.mixture import Mixture
from ..errors import TrainingError
from ..files import file_name, replacing
from ..loop.loop import Loop
from ..loop.parallel import like, whole
from ..loop.randomness import step_generator
from ..loop.runlog import BESIDE, PLANS
from ..model.autoencoder import decode_latents, load_vae
from ..model.in_context import InContext
from ..model.sampling import draw_noise, sample
from ..sections.planner import TrainSection
from ..sections.result import ExportSection
from .batches import CachedPairs
from .objective import BatchLoss


class Validation:
    """Makes pictures and measures the loss; called by the loop.

    Args:
        section: settings of the run.
        export: how the file will be written; None: with the defaults.
        mixture: caches with pairs of the split "validation".
        transformer: the model with its adapter.
        in_context: the spec's token and id arrangement.
        accelerator: from `make_accelerator`.
        spec: how plans are sampled: steps, guidance, cfg.
        loss: loss of the training.

    Raises:
        TrainingError: the caches have no pair to validate on.
    """

    def __init__(
        self,
        section: TrainSection,
        export: ExportSection | None,
        mixture: Mixture,
        transformer: torch.nn.Module,
        in_context: InContext,
        accelerator: Accelerator,
        spec: PlannerSpec,
        loss: BatchLoss,
    ) -> None:
        self.section, self.export, self.spec, self.loss = section, export, spec, loss
        self.mixture, self.transformer = mixture, transformer
        self.in_context, self.accelerator = in_context, accelerator
        self.scenes = _choose(mixture, self.section.validation.scenes)
        dtype = getattr(torch, self.section.validation.dtype)
        self.vae = load_vae(Path(self.section.base) / "vae", dtype, accelerator.device, mixture.spec.base_family)
        self.folder = Path(self.section.out) / PLANS
        self.given = [self._decode(mixture.condition(pair)) for pair in self.scenes]
        self.truth = [self._decode(mixture.target(pair)) for pair in self.scenes]

    def _decode(self, latents: torch.Tensor) -> np.ndarray:
        return to_bytes(decode_latents(self.vae, latents[None].float())[0])

    def __call__(self, loop: Loop) -> dict[str, float]:
        """Write the pictures of one step and return the loss on unseen pairs."""
        was_training = self.transformer.training
        self.transformer.eval()
        try:
            with _as_exported(loop, self.section, self.export), self.accelerator.autocast(), torch.no_grad():
                pictures = [self._picture(number, pair) for number, pair in enumerate(self.scenes)]
                loss = self._loss()
        finally:
            self.transformer.train(was_training)
        if self.accelerator.is_main_process:
            self._write(loop, pictures)
        return {"validation_loss": loss} if self.section.validation.batches else {}

    def _picture(self, number: int, pair: dict) -> np.ndarray:
        """The plan's grid (H, W, 3) uint8 of one scene."""
        states, pooled = self.mixture.text(pair)
        condition = self.mixture.condition(pair)[None].float()
        noise = draw_noise(self.spec, [self.section.validation.seed + number])
        text = states[None], None if pooled is None else pooled[None]
        empty = None
        if self.spec.cfg != 1:
            words, vector = self.mixture.text(pair, dropped=True)
            empty = words[None], None if vector is None else vector[None]
        made = sample(self.transformer, self.in_context, self.spec, noise, condition, *text, empty=empty)
        return to_bytes(decode_latents(self.vae, made)[0])

    def _write(self, loop: Loop, pictures: list[np.ndarray]) -> None:
        spec = self.spec
        for number, (pair, picture) in enumerate(zip(self.scenes, pictures, strict=True)):
            width = spec.condition_size[1] if spec.condition_is_cell else spec.cell_width
            given = self.given[number][: spec.cell_height, :width]
            sheet = _side_by_side(given, self.truth[number], picture)
            notes = {
                "seed": str(self.section.validation.seed + number), "steps": str(spec.steps), "pair": pair["id"],
                "mode": pair["mode"], "training_step": str(loop.step),
            }  # fmt: skip
            name = file_name(f"{pair['id']}_seed{notes['seed']}", f"id of a pair in cache {self.mixture.name}")
            _save(self.folder / f"{loop.step:08d}" / f"{name}.png", picture, notes)
            _save(self.folder / f"{loop.step:08d}" / f"{name}{BESIDE}.png", sheet, notes)
            if loop.log is not None:
                loop.log.picture(f"plans/{name}", sheet, loop.step)

    def _loss(self) -> float:
        """Mean loss over fixed batches of unseen pairs with fixed noise; every process computes the same."""
        count = self.section.validation.batches
        if not count:
            return 0.0
        pairs = CachedPairs(self.mixture, self.section, "validation")
        objective = self.section.objective.model_copy(update={"caption_dropout": 0.0, "condition_dropout": 0.0})
        total = 0.0
        for index in range(count):
            batch = pairs.batch(index, self.accelerator.device)
            generator = step_generator(self.section.validation.seed, index)
            loss = self.loss(self.transformer, batch=batch, section=objective, generator=generator)
            total += loss.item() / count
        return total


def _choose(mixture: Mixture, count: int) -> list[dict]:
    """The first unseen pairs, alternating between modes."""
    unseen = [pair for pair in mixture.pairs if pair["split"] == "validation"]
    if not unseen:
        raise TrainingError(
            f"train.validation needs held-out pairs, but cache {mixture.name} has none: set "
            "prepare.validation_episodes, or train.validation.every to 0"
        )
    queues = {mode: [pair for pair in unseen if pair["mode"] == mode] for mode in mixture.spec.modes}
    chosen = []
    while len(chosen) < min(count, len(unseen)):
        for queue in queues.values():
            if queue and len(chosen) < count:
                chosen.append(queue.pop(0))
    return chosen


@contextmanager
def _as_exported(loop: Loop, section: TrainSection, export) -> Iterator[None]:
    """The adapter with exactly the values that the exported file would have."""
    averaged = loop.averaged if loop.averaged and (export is None or export.averaged) else loop.trained
    dtype = getattr(torch, export.dtype if export is not None else "bfloat16")
    scale = section.lora.alpha / section.lora.rank
    kept = {name: parameter.detach().clone() for name, parameter in loop.trained.items()}
    with torch.no_grad():
        for name, parameter in loop.trained.items():
            factor = scale if ".lora_B." in name else 1.0
            value = (whole(averaged[name].detach()).float() * factor).to(dtype).float() / factor
            parameter.copy_(like(value.to(parameter.dtype), parameter))
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in loop.trained.items():
                parameter.copy_(kept[name])


def _side_by_side(given: np.ndarray, truth: np.ndarray, plan: np.ndarray, gap: int = 4) -> np.ndarray:
    """Given first frame, true grid and plan on one white sheet."""
    height = truth.shape[0]
    first = np.full((height, given.shape[1], 3), 255, np.uint8)
    first[: given.shape[0]] = given
    line = np.full((height, gap, 3), 255, np.uint8)
    return np.concatenate([first, line, truth, line, plan], axis=1)


def _save(path: Path, pixels: np.ndarray, notes: dict[str, str]) -> None:
    info = PngInfo()
    for key, value in notes.items():
        info.add_text(f"visual_planner.{key}", value)
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, "png", pnginfo=info)

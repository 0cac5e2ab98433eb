"""Planning with diffusers' model classes: for validation, evaluation and use without ComfyUI."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import autocast

from visual_planner.grid.cells import slice_grid
from visual_planner.grid.masks import latent_mask
from visual_planner.planner.condition_picture import condition_picture, encode_condition
from visual_planner.planner.spec import PlannerSpec

from ..errors import TrainingError
from .autoencoder import decode_latents, encode_cells, encode_pictures, load_vae, round_trip
from .bases.registry import base_of
from .in_context import InContext
from .lora import fuse_lora
from .sampling import draw_noise, sample
from .transformer import load_transformer


class PlannerPipeline:
    """A FLUX pipeline with a planner LoRA.

    Args:
        transformer: a transformer of the spec's family, with its adapter if it has one.
        vae: the autoencoder.
        encoders: the text encoders.
        spec: the planner's record.
    """

    def __init__(self, transformer, vae, encoders: torch.nn.Module, spec: PlannerSpec) -> None:
        self.transformer, self.vae, self.encoders, self.spec = transformer.eval(), vae, encoders, spec
        self.in_context = InContext(spec, transformer.device)

    @classmethod
    def load(
        cls,
        base: str | Path,
        lora: str | Path | None,
        spec: PlannerSpec | None = None,
        dtype: str = "float32",
        device: torch.device | str = "cpu",
    ) -> "PlannerPipeline":
        """Load a base and fuse a LoRA into it.

        Args:
            base: diffusers folder.
            lora: file with its PlannerSpec in the header; None for the base alone.
            spec: used if there is no LoRA, or the file has no record.
            dtype: dtype of all weights.
            device: device of all weights.

        Raises:
            TrainingError: neither gives a spec, or the base is of another family than the spec.
        """
        if lora is not None:
            spec = read_spec(lora) or spec
        if spec is None:
            raise TrainingError(f"LoRA {lora} has no planner record: provide the spec it was trained with")
        transformer = load_transformer(base, dtype, spec.base_family)
        if lora is not None:
            fuse_lora(transformer, lora)
        numbers = getattr(torch, dtype)
        vae = load_vae(Path(base) / "vae", numbers, device, spec.base_family)
        return cls(transformer.to(device), vae, base_of(spec).load_text(Path(base), 0, numbers).to(device), spec)

    @torch.no_grad()
    def condition(self, first_frames: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Condition latents (B, C, h', w') of the pictures that a planner is shown.

        Args:
            first_frames: (B, h, w, 3), overlay already drawn; (B, h, 2w, 3) with a goal picture to the right.
        """
        first, *goal = torch.as_tensor(first_frames).split(self.spec.cell_width, dim=2)
        picture = condition_picture(first, goal[0] if goal else None, self.spec)
        return encode_condition(partial(encode_pictures, self.vae), picture, self.spec)

    @torch.no_grad()
    def plan(
        self,
        first_frames: np.ndarray | torch.Tensor,
        prompts: list[str],
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        noise: torch.Tensor | None = None,
        conditioned: bool = True,
        seen: np.ndarray | None = None,
        cfg: float | None = None,
    ) -> torch.Tensor:
        """Plans (B, F, h, w, 3) float32 in [0, 1].

        Args:
            first_frames: (B, h, w, 3), uint8 or float in [0, 1]; the overlay is part of the picture. With goal pictures
                to the right: (B, h, 2w, 3).
            prompts: one per first frame.
            seed: seed of the noise, which is drawn plan by plan (the seed of plan i is seed + i).
            steps: Euler steps; None takes the spec's.
            guidance: embedded guidance; None takes the spec's.
            noise: (B, C, h, w), instead of the seed.
            conditioned: False leaves the condition tokens out (what the base alone would do).
            seen: (B, K, h, w, 3) uint8, frames 0 to K - 1 of plans that are being executed, as the camera saw them;
                they are kept, and the model generates the others to match.
            cfg: classifier-free guidance; None takes the spec's.

        Raises:
            TrainingError: `seen` has no frame, or as many as a plan or more.
        """
        if noise is None:
            noise = draw_noise(self.spec, [seed + i for i in range(len(prompts))])
        condition = self.condition(first_frames) if conditioned else None
        how = {"steps": steps, "guidance": guidance, "cfg": cfg}
        if seen is None:
            return self._sampled(noise, condition, prompts, **how)
        known, keep = self._kept(seen)
        frames = self._sampled(noise, condition, prompts, **how, known=known, keep=keep)
        frames[:, : seen.shape[1]] = torch.as_tensor(seen).to(frames) / 255
        return frames

    @torch.no_grad()
    def redraw(
        self,
        plans: np.ndarray,
        first_frames: np.ndarray | torch.Tensor,
        prompts: list[str],
        noise: torch.Tensor,
        skip: int,
        steps: int | None = None,
    ) -> torch.Tensor:
        """Frames of true episodes, denoised again from some noise level on: true content with the errors of plans.

        Args:
            plans: (B, F, h, w, 3) uint8, the true frames.
            first_frames: as in `plan`.
            prompts: one per plan.
            noise: (B, C, h, w).
            skip: sampler steps to skip; with all of them the frames only go through the autoencoder.
            steps: steps of the sampler; None: the planner's own.

        Returns:
            (B, F, h, w, 3) float32 in [0, 1].
        """
        known = torch.cat([encode_cells(self.vae, frames, self.spec.layout) for frames in plans])
        steps = steps or self.spec.steps
        if skip >= steps:
            return self.slice(decode_latents(self.vae, known))
        return self._sampled(noise, self.condition(first_frames), prompts, known=known, skip=skip, steps=steps)

    def _kept(self, seen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents of grids (B, C, h, w) that begin with the frames (B, K, h, w, 3), and the mask of the rest."""
        spec, count = self.spec, seen.shape[1]
        if not 1 <= count < spec.layout.frames:
            raise TrainingError(f"seen frames must be 1 to {spec.layout.frames - 1} of a plan, got {count}")
        unseen = np.repeat(seen[:, -1:], spec.layout.frames - count, axis=1)  # only fills the cells: it is masked
        known = [encode_cells(self.vae, frames, spec.layout) for frames in np.concatenate([seen, unseen], axis=1)]
        return torch.cat(known), latent_mask(
            spec.layout, spec.cell_height, spec.cell_width, range(count), spec.base_family.downscale
        )

    def _sampled(self, noise: torch.Tensor, condition: torch.Tensor | None, prompts: list[str], **how) -> torch.Tensor:
        text, pooled = self.encoders(prompts)
        strength = how.get("cfg")
        if (self.spec.cfg if strength is None else strength) != 1:
            how["empty"] = self.encoders([""])
        kind, numbers = self.in_context.ids.device.type, self.transformer.dtype
        with autocast(kind, numbers, enabled=numbers != torch.float32):
            latents = sample(self.transformer, self.in_context, self.spec, noise, condition, text, pooled, **how)
        return self.slice(decode_latents(self.vae, latents))

    def slice(self, grids: torch.Tensor) -> torch.Tensor:
        """Frames (B, F, h, w, 3) of grids (B, H, W, 3)."""
        return slice_grid(grids, self.spec.layout).unflatten(0, (len(grids), self.spec.layout.frames))

    def through_autoencoder(self, frames: np.ndarray) -> np.ndarray:
        """True frames (F, h, w, 3) uint8 as a perfect plan would show them; see `round_trip`."""
        return round_trip(self.vae, frames, self.spec.layout)


def open_planner(folder: Path, lora: Path | None = None) -> tuple[PlannerPipeline, Path]:
    """Open the planner of a folder like models/tiny_planner; returns it and the LoRA that is used.

    Args:
        folder: FLUX pipeline in diffusers' layout, its planner LoRA in `loras/`.
        lora: another LoRA.

    Raises:
        TrainingError: no base, no LoRA, or several to choose from.
    """
    lora = lora_of(folder, lora)
    return PlannerPipeline.load(folder, lora), lora


def lora_of(folder: Path, lora: Path | None = None) -> Path:
    """The LoRA that a planner's folder is opened with: the given one, or the only one in its `loras/`.

    Raises:
        TrainingError: there is none, or there are several to choose from.
    """
    if lora is not None:
        return lora
    found = sorted((folder / "loras").glob("[!.]*.safetensors"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise TrainingError(f"planner {folder} must have one LoRA in loras/, got {names}: choose with --lora")
    return found[0]


def lora_spec(file: str | Path) -> PlannerSpec:
    """The PlannerSpec in a LoRA's header.

    Raises:
        TrainingError: the file is missing, is not safetensors, or has no spec.
    """
    spec = read_spec(file)
    if spec is None:
        raise TrainingError(f"LoRA {file} has no planner record: provide the spec it was trained with")
    return spec


def read_spec(file: str | Path) -> PlannerSpec | None:
    """The PlannerSpec in a LoRA's header, None if it has none.

    Raises:
        TrainingError: the file is missing or not safetensors.
    """
    try:
        with safe_open(file, "pt") as opened:
            return PlannerSpec.from_metadata(opened.metadata())
    except (OSError, RuntimeError) as error:
        raise TrainingError(f"LoRA {file} cannot be read: {error}") from error
    except SafetensorError as error:
        raise TrainingError(f"LoRA {file} is not a safetensors file: {error}") from error

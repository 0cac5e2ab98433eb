"""A straightforward trainer of a planner LoRA in the style of common in-context LoRA scripts: the benchmark's peer.

At each step it reads two pictures per example, encodes both with the autoencoder and the prompt with both text
encoders, feeds the whole condition grid, and lets peft compute the adapter. Model, data, batch, optimizer and the
precision of products are the same as ours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import autocast

from training.loop.precision import resolved
from training.model.autoencoder import encode_pictures, load_vae
from training.model.lora import add_lora
from training.model.text import TextEncoders
from training.model.transformer import load_transformer
from training.sections.planner import TrainSection
from visual_planner.planner.conditioning import image_ids, pack_latents


class PlainTrainer:
    """Keeps everything in memory and precomputes nothing.

    Args:
        section: base, adapter and optimizer.
        pairs: folder of pairs.
        lines: its pairs.
        batch: number of examples per step.
    """

    def __init__(self, section: TrainSection, pairs: Path, lines: list[dict], batch: int) -> None:
        self.section, self.pairs, self.lines, self.batch = section, pairs, lines, batch
        self.vae = load_vae(section.base / "vae")
        self.encoders = TextEncoders.load(section.base).requires_grad_(False)
        self.transformer = load_transformer(section.base)
        add_lora(self.transformer, section.lora.model_copy(update={"merged_forward": False}))
        self.trained = [p for p in self.transformer.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=section.optimizer.learning_rate)
        self.generator = torch.Generator().manual_seed(section.seed)
        self.short = resolved(section.mixed_precision, on_cpu=True) == "bf16"

    def modules(self) -> list[torch.nn.Module]:
        """The modules that stay in memory."""
        return [self.vae, self.encoders, self.transformer]

    def step(self) -> float:
        """One step; returns the loss."""
        count = self.batch
        chosen = torch.randint(len(self.lines), (count,), generator=self.generator).tolist()
        lines = [self.lines[number] for number in chosen]
        target, condition = (self._latents([line[key] for line in lines]) for key in ("target", "source"))
        with torch.no_grad():
            text, pooled = self.encoders([line["text"] for line in lines])
        noise = torch.randn(target.shape, generator=self.generator)
        sigma = torch.rand(count, generator=self.generator)
        mixed = (1 - sigma.view(-1, 1, 1, 1)) * target + sigma.view(-1, 1, 1, 1) * noise
        tokens = pack_latents(mixed)
        ids = image_ids(mixed.shape[2] // 2, mixed.shape[3] // 2)
        with autocast("cpu", torch.bfloat16, enabled=self.short):
            predicted = self.transformer(
                hidden_states=torch.cat([tokens, pack_latents(condition)], dim=1),
                encoder_hidden_states=text,
                pooled_projections=pooled,
                timestep=sigma,
                guidance=torch.ones(count),
                img_ids=torch.cat([ids, ids]),
                txt_ids=torch.zeros(text.shape[1], 3),
                return_dict=False,
            )[0][:, : tokens.shape[1]].float()
        loss = torch.nn.functional.mse_loss(predicted, pack_latents(noise - target))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, self.section.optimizer.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def _latents(self, names: list[str]) -> torch.Tensor:
        pictures = []
        for name in names:
            with Image.open(self.pairs / name) as image:
                pictures.append(np.array(image.convert("RGB")))
        return encode_pictures(self.vae, np.stack(pictures))

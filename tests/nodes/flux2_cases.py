"""Random plans on FLUX.2 for the tests of the conditioned MODEL, and what diffusers' own transformer makes of them."""

from __future__ import annotations

import random

import torch
from diffusers.models.transformers import transformer_flux2 as flux2
from reference import condition_places

from support.tiny_flux2 import TEXT_WIDTH

REFERENCE = 10.0
"""FLUX.2's index of its first reference."""


def text_ids(count: int) -> torch.Tensor:
    return torch.cartesian_prod(torch.arange(1), torch.arange(1), torch.arange(1), torch.arange(count)).float()


def placed(spec, rows: int, cols: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (N, 4) of the grid's tokens and (M, 4) of the condition's, written out token by token."""
    height, width = rows // spec.rows, cols // spec.cols
    target, condition = [], []
    for row in range(rows):
        for col in range(cols):
            own = [0.0, float(row), float(col), 0.0]
            if spec.position_ids == "fold":
                frame = spec.layout.frame_at(row // height, col // width)
                own = [float(frame), float(row % height), float(col % width), 0.0]
            target.append(own)
    for row, col in condition_places(spec, rows, cols):
        own = target[row * cols + col]
        place = {"clone": 0.0, "kontext": REFERENCE, "fold": -1.0 - own[0]}[spec.position_ids]
        condition.append([place, *own[1:]])
    return torch.tensor(target), torch.tensor(condition)


def tokens_of(latent: torch.Tensor) -> torch.Tensor:
    return latent.flatten(2).transpose(1, 2)


def predict(transformer, spec, latent, condition, sigma, context, guidance=None) -> torch.Tensor:
    """Velocity (B, 128, h, w): joint attention, or for a cached condition diffusers' extraction in one pass.

    Args:
        transformer: Flux2Transformer2DModel.
        spec: PlannerSpec.
        latent: (B, 128, h, w).
        condition: (B, 128, h', w').
        sigma: noise level.
        context: (1, L, D).
        guidance: embedded guidance, None for a model without that input.
    """
    batch, count = len(latent), latent.shape[-2] * latent.shape[-1]
    target, own = placed(spec, *latent.shape[-2:])
    call = {
        "encoder_hidden_states": context.expand(batch, -1, -1),
        "timestep": torch.full((batch,), float(sigma)),
        "txt_ids": text_ids(context.shape[1]),
        "guidance": None if guidance is None else torch.full((batch,), float(guidance)),
        "return_dict": False,
    }
    noisy, given = tokens_of(latent), tokens_of(condition)
    if spec.condition_tokens != "first_cell_cached":
        for module in transformer.modules():
            if isinstance(module, flux2.Flux2Attention):
                module.set_processor(flux2.Flux2AttnProcessor())
            elif isinstance(module, flux2.Flux2ParallelSelfAttention):
                module.set_processor(flux2.Flux2ParallelSelfAttnProcessor())
        out = transformer(torch.cat([noisy, given], dim=1), img_ids=torch.cat([target, own]), **call)[0][:, :count]
    else:
        for module in transformer.modules():
            if isinstance(module, flux2.Flux2Attention):
                module.set_processor(flux2.Flux2KVAttnProcessor())
            elif isinstance(module, flux2.Flux2ParallelSelfAttention):
                module.set_processor(flux2.Flux2KVParallelSelfAttnProcessor())
        # BFL's order: references before the noise
        extract = {"kv_cache_mode": "extract", "num_ref_tokens": len(own)}
        out = transformer(torch.cat([given, noisy], dim=1), img_ids=torch.cat([own, target]), **call, **extract)[0]
    return out.transpose(1, 2).unflatten(2, latent.shape[-2:]).float()


class Flux2Case:
    """A random plan: spec, latents, text."""

    def __init__(self, spec_of, seed: int, batch: int = 0, **fixed) -> None:
        rng = random.Random(seed)
        fields = {
            "family": "flux2",
            "rows": rng.randint(1, 3),
            "cols": rng.randint(1, 4),
            "order": rng.choice(["serpentine", "raster", "column_serpentine"]),
            "cell_height": 16 * rng.randint(1, 3),
            "cell_width": 16 * rng.randint(1, 3),
            "condition_tokens": rng.choice(["full_grid", "first_cell", "first_cell_cached"]),
            "position_ids": rng.choice(["clone", "kontext", "fold"]),
        }
        self.spec = spec_of(**(fields | fixed))
        self.generator = torch.Generator().manual_seed(seed)
        self.batch = batch or rng.randint(1, 3)
        self.sigma = rng.choice([0.25, 0.6, 1.0])
        self.latent = self.noise(self.batch, *self.spec.latent_shape)
        self.condition = self.noise(1, *self.spec.condition_latent_shape)
        self.context = self.noise(1, rng.randint(1, 20), TEXT_WIDTH)

    def noise(self, *shape):
        return torch.randn(shape, generator=self.generator)

    @property
    def positive(self):
        return [[self.context, {"pooled_output": None}]]

    def wanted(self, transformer, context=None, condition=None, guidance=None):
        condition = self.condition if condition is None else condition
        return predict(
            transformer, self.spec, self.latent, condition.expand(self.batch, -1, -1, -1), self.sigma,
            self.context if context is None else context, guidance,
        )  # fmt: skip

"""Random plans for the tests of the conditioned MODEL: spec, latents and text, and what diffusers makes of them."""

from __future__ import annotations

import random

import reference
import torch


class Case:
    """A random plan: spec, latents, text."""

    def __init__(self, spec_of, seed: int, batch: int = 0, **fixed) -> None:
        rng = random.Random(seed)
        fields = {
            "rows": rng.randint(1, 3),
            "cols": rng.randint(1, 4),
            "order": rng.choice(["serpentine", "raster", "column_serpentine"]),
            "cell_height": 16 * rng.randint(1, 3),
            "cell_width": 16 * rng.randint(1, 3),
            "condition_tokens": rng.choice(["full_grid", "first_cell"]),
            "position_ids": rng.choice(["clone", "kontext", "fold"]),
            "guidance": rng.choice([1.0, 3.5]),
        }
        self.spec = spec_of(**(fields | fixed))
        self.generator = torch.Generator().manual_seed(seed)
        self.batch = batch or rng.randint(1, 3)
        self.sigma = rng.choice([0.25, 0.6, 1.0])
        height, width = (side // 8 for side in self.spec.grid_size)
        self.latent = self.noise(self.batch, 16, height, width)
        self.condition = self.noise(1, 16, *self.condition_size(height, width))
        self.context = self.noise(1, rng.randint(1, 20), 128)
        self.pooled = self.noise(1, 64)

    def noise(self, *shape):
        return torch.randn(shape, generator=self.generator)

    def condition_size(self, height, width):
        if self.spec.condition_tokens == "full_grid":
            return height, width
        cells = 2 if any("goal" in mode for mode in self.spec.modes) else 1
        return self.spec.cell_height // 8, cells * self.spec.cell_width // 8

    @property
    def positive(self):
        return [[self.context, {"pooled_output": self.pooled}]]

    def wanted(self, transformer, scale=(1.0, 1.0), latent=None, condition=None, residuals=None):
        """What diffusers predicts."""
        latent = self.latent if latent is None else latent
        condition = self.condition if condition is None else condition
        height, width = latent.shape[-2:]
        rows, cols = (height + 1) // 2, (width + 1) // 2
        ids = reference.grid_ids(height, width, scale=scale)
        ids, own = reference.placed_ids(ids, rows, cols, self.spec)
        condition = condition.expand(latent.shape[0], -1, -1, -1)
        predict = reference.predict_apart if self.spec.condition_is_cached else reference.predict
        inputs = (self.sigma, self.context, self.pooled, self.spec.guidance)
        return predict(transformer, latent, condition, ids, own, *inputs, residuals=residuals)


def conditioned(in_context, model, case, condition=None):
    latent = case.condition if condition is None else condition
    marked = in_context.mark_conditioning(case.positive, latent, case.spec.guidance)
    return in_context.patch_model(model, case.spec), marked

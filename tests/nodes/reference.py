"""The reference: diffusers' FLUX transformer given noise tokens and condition tokens in one sequence."""

from __future__ import annotations

import torch

from support.dense import dense_velocity

SCALE, SHIFT = 0.3611, 0.1159
"""FLUX's latent normalisation: `(z - SHIFT) * SCALE`."""


def process_in(latent: torch.Tensor) -> torch.Tensor:
    return (latent - SHIFT) * SCALE


def pack(latent: torch.Tensor) -> torch.Tensor:
    """Tokens (B, N, 64), odd sizes padded circularly as ComfyUI pads."""
    height, width = latent.shape[-2:]
    latent = torch.nn.functional.pad(latent, (0, width % 2, 0, height % 2), mode="circular")
    batch, channels, height, width = latent.shape
    latent = latent.view(batch, channels, height // 2, 2, width // 2, 2)
    return latent.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * 4)


def unpack(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    rows, cols = (height + 1) // 2, (width + 1) // 2
    latent = tokens.view(tokens.shape[0], rows, cols, 16, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return latent.reshape(tokens.shape[0], 16, rows * 2, cols * 2)[:, :, :height, :width]


def grid_ids(height: int, width: int, index: float = 0.0, scale: tuple[float, float] = (1.0, 1.0)) -> torch.Tensor:
    """Ids (N, 3) of a latent's tokens; `scale` is the rope scaling of rows and columns."""
    rows, cols = (height + 1) // 2, (width + 1) // 2
    ids = torch.zeros(rows, cols, 3)
    ids[..., 0] = index
    ids[..., 1] = (torch.arange(rows) * scale[0])[:, None]
    ids[..., 2] = (torch.arange(cols) * scale[1])[None]
    return ids.view(-1, 3)


def placed_ids(ids: torch.Tensor, rows: int, cols: int, spec) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of the grid's tokens (N, 3) and of the condition's (M, 3) as a spec asks, written out token by token.

    Args:
        ids: (N, 3) plain ids of the grid.
        rows: rows of tokens.
        cols: columns of tokens.
        spec: PlannerSpec.
    """
    plain = ids.view(rows, cols, 3)
    height, width = rows // spec.rows, cols // spec.cols
    target, condition = [], []
    for row in range(rows):
        for col in range(cols):
            own = plain[row, col].clone()
            if spec.position_ids == "fold":
                frame = spec.layout.frame_at(row // height, col // width)
                own = plain[row % height, col % width].clone()
                own[0] += frame
            target.append(own)
    for row, col in condition_places(spec, rows, cols):
        own = target[row * cols + col]
        place = {"clone": 0.0, "kontext": 1.0, "fold": -1.0 - float(own[0])}[spec.position_ids]
        condition.append(torch.tensor([place, own[1], own[2]]))
    return torch.stack(target), torch.stack(condition)


def condition_places(spec, rows: int, cols: int) -> list[tuple[int, int]]:
    """Row and column in the grid of each condition token: all, or those of the first cell, beside it of the last."""
    if spec.condition_tokens == "full_grid":
        return [(row, col) for row in range(rows) for col in range(cols)]
    height, width = rows // spec.rows, cols // spec.cols
    corners = [(0, 0)]
    if any("goal" in mode for mode in spec.modes):
        last_row, last_col = spec.layout.cell_of(spec.rows * spec.cols - 1)
        corners.append((last_row * height, last_col * width))
    return [(top + row, left + col) for row in range(height) for top, left in corners for col in range(width)]


def predict(
    transformer, latent, condition, ids, condition_ids, sigma, context, pooled, guidance, residuals=None
) -> torch.Tensor:
    """Velocity (B, 16, h, w) that diffusers' transformer predicts.

    Args:
        transformer: FluxTransformer2DModel.
        latent: (B, 16, h, w) noisy latent of the grid.
        condition: (B, 16, h', w') latent of the condition as the VAE gives it, or None.
        ids: (N, 3) of the grid's tokens.
        condition_ids: (M, 3).
        sigma: noise level.
        context: (B, L, D) text tokens.
        pooled: (B, P).
        guidance: distilled guidance.
        residuals: of a ControlNet, for the double-stream blocks and for the single-stream ones, on the grid's tokens.
    """
    tokens = [pack(latent)]
    if condition is not None:
        tokens.append(pack(process_in(condition)))
        ids = torch.cat([ids, condition_ids])
    batch, dtype = latent.shape[0], transformer.dtype
    extra = {}
    if residuals:
        padding = (0, 0, 0, len(ids) - tokens[0].shape[1])  # zeros for the condition's tokens
        padded = [[torch.nn.functional.pad(part, padding) for part in parts] for parts in residuals]
        extra = {"controlnet_block_samples": padded[0], "controlnet_single_block_samples": padded[1]}
    out = transformer(
        hidden_states=torch.cat(tokens, dim=1).to(dtype),
        encoder_hidden_states=context.expand(batch, -1, -1).to(dtype),
        pooled_projections=pooled.expand(batch, -1).to(dtype),
        timestep=torch.full((batch,), float(sigma)),
        img_ids=ids,
        txt_ids=torch.zeros(context.shape[1], 3),
        guidance=torch.full((batch,), float(guidance)),
        return_dict=False,
        **extra,
    )[0]
    return unpack(out[:, : tokens[0].shape[1]].float(), *latent.shape[-2:])


def predict_apart(
    transformer, latent, condition, ids, condition_ids, sigma, context, pooled, guidance, residuals=None
) -> torch.Tensor:
    """As `predict`, with a condition that attends only to itself, at timestep 0 and without text."""
    batch, dtype = latent.shape[0], transformer.dtype
    out = dense_velocity(
        transformer,
        pack(latent).to(dtype),
        pack(process_in(condition)).to(dtype),
        ids,
        condition_ids,
        context.expand(batch, -1, -1).to(dtype),
        pooled.expand(batch, -1).to(dtype),
        torch.full((batch,), float(sigma), dtype=dtype),
        torch.full((batch,), float(guidance), dtype=dtype),
        residuals,
    )
    return unpack(out.float(), *latent.shape[-2:])

"""What a cached condition means, in one dense pass: an independent reference for the two-pass implementations.

One sequence of text, noise and condition tokens through diffusers' FLUX modules, with a mask (the condition sees only
itself) and with each token modulated by its own vector (the condition's: timestep 0, pooled text of zeros).
"""

from __future__ import annotations

import torch
from diffusers.models.embeddings import apply_rotary_emb


def dense_velocity(transformer, tokens, condition, ids, condition_ids, text, pooled, sigma, guidance, residuals=None):
    """Velocity (B, N, 64) of the noise tokens.

    Args:
        transformer: FluxTransformer2DModel.
        tokens: (B, N, 64) packed noisy latents.
        condition: (B, M, 64) packed condition latents.
        ids: (N, 3) of the noise tokens.
        condition_ids: (M, 3).
        text: (B, T, D) T5 states.
        pooled: (B, P).
        sigma: (B,).
        guidance: (B,), None for a model without that input.
        residuals: of a ControlNet, (B, N, D) for the double-stream blocks and for the single-stream ones.
    """
    length, count, own = text.shape[1], tokens.shape[1], condition.shape[1]
    extra = () if guidance is None else (guidance * 1000,)
    moving = transformer.time_text_embed(sigma * 1000, *extra, pooled)
    still = transformer.time_text_embed(torch.zeros_like(sigma), *extra, torch.zeros_like(pooled))
    image = transformer.x_embedder(torch.cat([tokens, condition], dim=1))
    words = transformer.context_embedder(text)
    rotary = transformer.pos_embed(torch.cat([torch.zeros(length, 3), ids, condition_ids]))
    mask = torch.ones(length + count + own, length + count + own, dtype=torch.bool)
    mask[-own:, :-own] = False

    def modulation(layer, number_of_parts, moving_count):
        """Parts (B, tokens, D) of a modulation layer, for tokens of which the last `own` stand still."""
        parts = [layer(torch.nn.functional.silu(vector)).chunk(number_of_parts, dim=1) for vector in (moving, still)]
        return [
            torch.cat([a[:, None].expand(-1, moving_count, -1), b[:, None].expand(-1, own, -1)], dim=1)
            for a, b in zip(*parts, strict=True)
        ]

    def norm(states):
        return torch.nn.functional.layer_norm(states, states.shape[-1:], eps=1e-6)

    def heads(states, attn):
        return states.unflatten(-1, (attn.heads, -1))

    def attend(query, key, value):
        query, key = (apply_rotary_emb(part, rotary, sequence_dim=1) for part in (query, key))
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / query.shape[-1] ** 0.5
        weights = scores.float().masked_fill(~mask, float("-inf")).softmax(dim=-1).to(value.dtype)
        return torch.einsum("bhqk,bkhd->bqhd", weights, value).flatten(2)

    for number, block in enumerate(transformer.transformer_blocks):
        attn = block.attn
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation(block.norm1.linear, 6, count)
        text_parts = block.norm1_context.linear(torch.nn.functional.silu(moving))[:, None].chunk(6, dim=-1)
        mixed = norm(image) * (1 + scale1) + shift1
        said = norm(words) * (1 + text_parts[1]) + text_parts[0]
        query = torch.cat(
            [attn.norm_added_q(heads(attn.add_q_proj(said), attn)), attn.norm_q(heads(attn.to_q(mixed), attn))], dim=1
        )
        key = torch.cat(
            [attn.norm_added_k(heads(attn.add_k_proj(said), attn)), attn.norm_k(heads(attn.to_k(mixed), attn))], dim=1
        )
        value = torch.cat([heads(attn.add_v_proj(said), attn), heads(attn.to_v(mixed), attn)], dim=1)
        out = attend(query, key, value)
        image = image + gate1 * attn.to_out[0](out[:, length:])
        image = image + gate2 * block.ff(norm(image) * (1 + scale2) + shift2)
        words = words + text_parts[2] * attn.to_add_out(out[:, :length])
        image = torch.cat([image[:, :count] + (residuals[0][number] if residuals else 0), image[:, count:]], dim=1)
        words = words + text_parts[5] * block.ff_context(norm(words) * (1 + text_parts[4]) + text_parts[3])

    states = torch.cat([words, image], dim=1)
    for number, block in enumerate(transformer.single_transformer_blocks):
        attn = block.attn
        shift, scale, gate = modulation(block.norm.linear, 3, length + count)
        mixed = norm(states) * (1 + scale) + shift
        query, key, value = (heads(layer(mixed), attn) for layer in (attn.to_q, attn.to_k, attn.to_v))
        out = attend(attn.norm_q(query), attn.norm_k(key), value)
        mlp = block.act_mlp(block.proj_mlp(mixed))
        states = states + gate * block.proj_out(torch.cat([out, mlp], dim=2))
        if residuals:
            states[:, length : length + count] += residuals[1][number]
    scale, shift = transformer.norm_out.linear(torch.nn.functional.silu(moving))[:, None].chunk(2, dim=-1)
    return transformer.proj_out(norm(states[:, length : length + count]) * (1 + scale) + shift)

"""Floating-point operations of FLUX transformers, by formula (docs/benchmarks/gpu.md).

A multiplication and an addition count as two. Per block and token, the linear layers hold `k h^2` weights: 4 h^2 in
attention, and 8 h^2 (FLUX.1) or 9 h^2 (FLUX.2, gated) in the feed-forward; single-stream blocks fuse the same ones.
Attention takes `4 n m h` for n queries and m keys. Embedders, modulation and norms are left out: below 1% at the
released sizes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """What the operations of a transformer depend on.

    Args:
        hidden: width h.
        blocks: double-stream and single-stream blocks.
        weights: k, weights of a block's linear layers per token, in units of h^2.
    """

    hidden: int
    blocks: int
    weights: float

    def linear(self, tokens: int) -> float:
        """Operations of the linear layers in a forward pass."""
        return 2 * self.blocks * self.weights * self.hidden**2 * tokens

    def attention(self, queries: int, keys: int) -> float:
        """Operations of attention in a forward pass."""
        return 4 * self.blocks * queries * keys * self.hidden

    def forward(self, queries: int, keys: int | None = None) -> float:
        """Operations of a forward pass over `queries` tokens; `keys`, if given, is the number of keys."""
        return self.linear(queries) + self.attention(queries, queries if keys is None else keys)


def shape_of(transformer) -> Shape:
    """Shape of a diffusers transformer, from its configuration."""
    config = transformer.config
    hidden = config.num_attention_heads * config.attention_head_dim
    gated = getattr(config, "mlp_ratio", None)  # FLUX.2's feed-forward is gated: three matrices of ratio * h^2
    weights = 12 if gated is None else 4 + 3 * gated
    return Shape(hidden, config.num_layers + config.num_single_layers, weights)


def tokens_of(way: str, target: int, condition: int, words: int) -> tuple[int, int]:
    """Queries and keys of a step, for one of the condition tokens' kinds or "none"."""
    without = target + words
    if way == "none":
        return without, without
    return (without, without + condition) if way == "first_cell_cached" else (without + condition,) * 2


def training_step(shape: Shape, queries: int, adapter: float, checkpointing: bool) -> float:
    """Operations of one example's step on a frozen base.

    The linear layers run forward, once more if activations are recomputed, and for the gradient of their inputs;
    attention runs forward (once more if recomputed), and costs twice that for its gradients.

    Args:
        shape: shape of the transformer.
        queries: tokens of an example.
        adapter: operations of the adapter in a forward pass.
        checkpointing: whether the backward pass recomputes activations.
    """
    again = 1 if checkpointing else 0
    linear, attention = shape.linear(queries), shape.attention(queries, queries)
    return (2 + again) * linear + (3 + again) * attention + (3 + again) * adapter


def adapter_forward(transformer, picture: int, words: int) -> float:
    """Operations of an adapter's two products in a forward pass of one example.

    Args:
        transformer: the transformer with its adapter.
        picture: tokens of noise and condition.
        words: text tokens.
    """
    total = 0.0
    for name, module in transformer.named_modules():
        down = getattr(module, "lora_A", None)
        if not down:
            continue
        (first,), (second,) = down.values(), module.lora_B.values()
        if "single_transformer_blocks" in name:
            tokens = picture + words
        elif "add_" in name or "context" in name:
            tokens = words
        elif ".norm" in name or "modulation" in name:
            tokens = 1
        else:
            tokens = picture
        total += 2 * tokens * (first.weight.numel() + second.weight.numel())
    return total

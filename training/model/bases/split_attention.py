"""The cached condition in diffusers' FLUX transformer: two passes, with attention split between them.

The first pass runs the condition's tokens alone (no text, timestep 0, pooled text of zeros) and records the keys and
values of every attention layer. The second runs text and noise, and every attention layer adds the recorded ones to its
own. Nothing of the first pass depends on prompt, noise level or noise: a plan needs it once. Gradients flow through
both passes. The pass is an argument of each call, not state of the model, so that a layer that is recomputed (gradient
checkpointing) does the same again.
"""

import torch
from diffusers.models.transformers.transformer_flux import FluxAttention
from torch import nn

from ...errors import TrainingError

SHORT = 256
"Largest number of keys for which attention is trained by matrix products on a CPU."


class ConditionKeys:
    """Keys and values (B, M, heads, head size) of the condition's tokens, by attention layer; keys are rotated."""

    def __init__(self) -> None:
        self.layers: dict[nn.Module, tuple[torch.Tensor, torch.Tensor]] = {}


def condition_keys(
    transformer: nn.Module,
    condition: torch.Tensor,
    ids: torch.Tensor,
    text: torch.Tensor,
    pooled: torch.Tensor,
    guidance: torch.Tensor | None,
) -> ConditionKeys:
    """Run the condition's tokens through all blocks.

    Args:
        transformer: FluxTransformer2DModel; its attention layers get attention processors that can record.
        condition: (B, M, 64) packed condition latents.
        ids: (M, 3) their position ids.
        text: (B, T, D) T5 embeddings; only their dtype and width are used.
        pooled: (B, P) pooled CLIP embedding; only its dtype and size are used.
        guidance: (B,) guidance to embed, None for a model without that input.
    """
    split_attention(transformer)
    keys = ConditionKeys()
    transformer(
        hidden_states=condition,
        encoder_hidden_states=text[:, :0],
        pooled_projections=torch.zeros_like(pooled),
        timestep=torch.zeros(len(condition), device=condition.device),
        guidance=guidance,
        img_ids=ids,
        txt_ids=ids[:0],
        joint_attention_kwargs={"record": keys},
        return_dict=False,
    )
    return keys


def split_attention(transformer: nn.Module) -> None:
    """Give every attention layer of a FluxTransformer2DModel an attention processor that can record; in place.

    Raises:
        TrainingError: the transformer has no such layer, so that nothing would be recorded.
    """
    layers = [module for module in transformer.modules() if isinstance(module, FluxAttention)]
    if not layers:
        raise TrainingError(f"transformer must have FLUX.1's attention layers, got {type(transformer).__name__}")
    for layer in layers:
        if not isinstance(layer.processor, SplitAttention):
            layer.set_processor(SplitAttention())


def rotate(states: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotary position embedding of queries or keys, as diffusers' `apply_rotary_emb`, in one pass of complex products.

    Args:
        states: (B, N, heads, head size); neighbours along the last axis are real and imaginary part.
        angles: cosines and sines (N, head size), each angle twice.
    """
    cosines, sines = (part[:, ::2].contiguous().to(states.device) for part in angles)
    turns = torch.complex(cosines.float(), sines.float())[None, :, None]
    pairs = torch.view_as_complex(states.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turns).flatten(-2).to(states.dtype)


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Attention (B, heads, N, head size), as `torch.nn.functional.scaled_dot_product_attention`.

    In training on a CPU, matrix products are faster for short sequences: with 184 tokens torch's fused attention takes
    2.3 times as long in float32 and 3.3 times in bfloat16, mostly in the backward pass.
    """
    short = query.device.type == "cpu" and torch.is_grad_enabled() and key.shape[-2] <= SHORT
    if mask is not None or not short:
        return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = torch.matmul(query * query.shape[-1] ** -0.5, key.transpose(-1, -2))
    return torch.matmul(scores.softmax(dim=-1, dtype=torch.float32).to(scores.dtype), value)


class SplitAttention:
    """FLUX's attention, which can also record its keys and values, or attend to recorded ones beside its own."""

    def __call__(
        self,
        attn: FluxAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
        record: ConditionKeys | None = None,
        condition: ConditionKeys | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Attend; the arguments up to `image_rotary_emb` are those of diffusers' own processor.

        Args:
            attn: the layer.
            hidden_states: (B, N, D) of the picture, or of text and picture in a single-stream block.
            encoder_hidden_states: (B, T, D) of the text in a double-stream block.
            attention_mask: as `torch.nn.functional.scaled_dot_product_attention` takes it; none with a condition.
            image_rotary_emb: cosines and sines of text and picture.
            record: where to put keys and values.
            condition: recorded ones to attend to.
        """
        query, key, value = _heads(attn, hidden_states, "to_q to_k to_v", "norm_q norm_k")
        text_length = 0
        if encoder_hidden_states is not None:
            text_length = encoder_hidden_states.shape[1]
            text = _heads(attn, encoder_hidden_states, "add_q_proj add_k_proj add_v_proj", "norm_added_q norm_added_k")
            query, key, value = (torch.cat(pair, dim=1) for pair in zip(text, (query, key, value), strict=True))
        query, key = rotate(query, image_rotary_emb), rotate(key, image_rotary_emb)
        if record is not None:
            record.layers.setdefault(attn, (key, value))
        if condition is not None:
            own_key, own_value = condition.layers[attn]
            key, value = torch.cat([key, own_key], dim=1), torch.cat([value, own_value], dim=1)
        output = attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attention_mask)
        output = output.transpose(1, 2).flatten(2).to(hidden_states.dtype)
        if encoder_hidden_states is None:
            return output
        text, picture = output[:, :text_length], output[:, text_length:]
        return attn.to_out[1](attn.to_out[0](picture)), attn.to_add_out(text)


def _heads(attn: FluxAttention, states: torch.Tensor, layers: str, norms: str) -> tuple[torch.Tensor, ...]:
    """Query, key and value (B, N, heads, head size) of some states, the first two normalised."""
    query, key, value = (getattr(attn, name)(states).unflatten(-1, (-1, attn.head_dim)) for name in layers.split())
    norm_query, norm_key = (getattr(attn, name) for name in norms.split())
    return norm_query(query), norm_key(key), value

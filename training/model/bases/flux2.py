"""FLUX.2 in diffusers' classes.

A cached condition is diffusers' own key-value scheme (BFL's klein-kv): the condition's tokens attend to themselves
only, at timestep 0. Training computes it in one pass ("extract"); a plan extracts once and then uses what was kept
("cached"). The second mode is never used in training: under gradient checkpointing diffusers changes one dictionary
from block to block, which makes gradients wrong.
"""

from pathlib import Path
from typing import ClassVar

import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from diffusers.models.transformers.transformer_flux2 import (
    Flux2Attention,
    Flux2KVAttnProcessor,
    Flux2KVCache,
    Flux2KVParallelSelfAttnProcessor,
    Flux2ParallelSelfAttention,
)
from torch import nn

from visual_planner.planner.conditioning import text_ids
from visual_planner.planner.families import FLUX2

from ...errors import TrainingError
from ...files import read_json
from .base import Base
from .qwen import MOST_TOKENS, TAPS, QwenEncoder

_ATTENTION = (
    "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0",
    "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out", "attn.to_qkv_mlp_proj",
)  # fmt: skip
_PATCH = 2
"""Side of the patches of the autoencoder's latent that are normalised together."""


class Flux2(Base):
    """FLUX.2-klein (and the transformer of FLUX.2-dev); the arguments of its methods are those of `Base`."""

    family = FLUX2
    transformer, autoencoder = Flux2Transformer2DModel, AutoencoderKLFlux2
    text_folders, tokenizer = ("text_encoder",), "tokenizer"
    targets: ClassVar = {
        "attention": _ATTENTION,
        "paper": (*_ATTENTION, "ff.linear_in", "ff.linear_out", "ff_context.linear_in", "ff_context.linear_out"),
    }
    model_version = "flux2"

    def released_shapes(self) -> Flux2Transformer2DModel:
        """A transformer of FLUX.2-klein-4B's size."""
        return Flux2Transformer2DModel(
            num_layers=5, num_single_layers=20, num_attention_heads=24, joint_attention_dim=7680, guidance_embeds=False
        )

    def architecture(self, transformer) -> str:
        """Dev or klein."""
        return f"flux-2-{'dev' if transformer.config.guidance_embeds else 'klein'}/lora"

    def normalised(self, vae, latents):
        """2x2 patches as channels, normalised by the autoencoder's batch statistics."""
        latents = nn.functional.pixel_unshuffle(latents, _PATCH)
        mean, spread = _statistics(vae, latents)
        return (latents - mean) / spread

    def raw(self, vae, latents):
        """Denormalised, with the channels as 2x2 patches again."""
        mean, spread = _statistics(vae, latents)
        return nn.functional.pixel_shuffle(latents * spread + mean, _PATCH)

    def load_text(self, folder: Path, tokens: int, dtype: torch.dtype) -> QwenEncoder:
        """Qwen3."""
        return QwenEncoder.load(folder, tokens, dtype)

    def text_widths(self, folder: Path) -> tuple[int, int]:
        """Three layers side by side; no pooled vector."""
        config = read_json(folder / "text_encoder" / "config.json", "configuration of the text encoder")
        return len(TAPS) * int(config["hidden_size"]), 0

    def text_length(self, folder: Path) -> int:
        """At most what the base was trained with."""
        settings = read_json(folder / "tokenizer" / "tokenizer_config.json", "configuration of the tokenizer")
        return min(int(settings["model_max_length"]), MOST_TOKENS)

    def blank_text(self, config, count: int, tokens: int):
        """Three layers side by side."""
        return torch.empty(count, tokens, config.joint_attention_dim), None

    def split_attention(self, transformer: nn.Module) -> None:
        """Diffusers' attention processors that can use keys and values of references."""
        changed = 0
        for module in transformer.modules():
            for kind, processor in (
                (Flux2Attention, Flux2KVAttnProcessor),
                (Flux2ParallelSelfAttention, Flux2KVParallelSelfAttnProcessor),
            ):
                if isinstance(module, kind):
                    changed += 1
                    if not isinstance(module.processor, processor):
                        module.set_processor(processor())
        if not changed:
            raise TrainingError(f"transformer must have FLUX.2's attention layers, got {type(transformer).__name__}")

    def condition_keys(self, transformer, condition, ids, text, pooled, guidance) -> Flux2KVCache:
        """By an extraction from the condition alone: nothing in it depends on text or noise."""
        self.split_attention(transformer)
        still = torch.zeros(len(condition), device=condition.device)
        return self._call(
            transformer, condition, ids, text[:, :0], still, guidance, kv_cache_mode="extract", num_ref_tokens=len(ids)
        )[1]

    def velocity(self, transformer, tokens, condition, ids, text, pooled, sigma, guidance) -> torch.Tensor:
        """Condition tokens come after the noise tokens."""
        count = tokens.shape[1]
        if isinstance(condition, Flux2KVCache):
            kept = {"kv_cache": condition, "kv_cache_mode": "cached"}
            return self._call(transformer, tokens, ids[:count], text, sigma, guidance, **kept)[0]
        hidden = tokens if condition is None else torch.cat([tokens, condition], dim=1)
        return self._call(transformer, hidden, ids[: hidden.shape[1]], text, sigma, guidance)[0][:, :count]

    def cached_velocity(self, transformer, tokens, condition, ids, text, pooled, sigma, guidance) -> torch.Tensor:
        """In one pass; the condition's tokens come first, as in BFL's code."""
        self.split_attention(transformer)
        count = tokens.shape[1]
        return self._call(
            transformer,
            torch.cat([condition, tokens], dim=1),
            torch.cat([ids[count:], ids[:count]]),
            text,
            sigma,
            guidance,
            kv_cache_mode="extract",
            num_ref_tokens=condition.shape[1],
        )[0]

    def _call(self, transformer, hidden, ids, text, sigma, guidance, **how) -> tuple:
        return transformer(
            hidden_states=hidden,
            encoder_hidden_states=text,
            timestep=sigma,
            guidance=guidance,
            img_ids=ids,
            txt_ids=text_ids(text.shape[1], FLUX2).to(ids.device),
            return_dict=False,
            **how,
        )


def _statistics(vae: nn.Module, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation (C, 1, 1) of the autoencoder's latents."""
    mean, variance = (part.to(like)[:, None, None] for part in (vae.bn.running_mean, vae.bn.running_var))
    return mean, (variance + vae.config.batch_norm_eps).sqrt()

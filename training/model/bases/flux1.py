"""FLUX.1 in diffusers' classes."""

from pathlib import Path
from typing import ClassVar

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import nn

from visual_planner.planner.conditioning import text_ids
from visual_planner.planner.families import FLUX1

from ...files import read_json
from ..text import TextEncoders
from .base import Base
from .split_attention import ConditionKeys, condition_keys, split_attention

_ATTENTION = (
    "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0",
    "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out",
)  # fmt: skip
_WHAT = "configuration of the text encoder"


class Flux1(Base):
    """FLUX.1-dev and FLUX.1-Kontext-dev; the arguments of its methods are those of `Base`."""

    family = FLUX1
    transformer, autoencoder = FluxTransformer2DModel, AutoencoderKL
    text_folders, tokenizer = ("text_encoder", "text_encoder_2"), "tokenizer_2"
    targets: ClassVar = {
        "attention": _ATTENTION,
        # layers of the released weights: attention, and feed-forward layers of the double blocks
        "paper": (*_ATTENTION, "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"),
    }
    model_version = "flux1"

    def released_shapes(self) -> FluxTransformer2DModel:
        """A transformer of FLUX.1-dev's size."""
        return FluxTransformer2DModel(guidance_embeds=True)  # diffusers' defaults are FLUX.1's sizes

    def architecture(self, transformer) -> str:
        """Dev or schnell."""
        return f"flux-1-{'dev' if transformer.config.guidance_embeds else 'schnell'}/lora"

    def normalised(self, vae, latents):
        """Shifted and scaled by the autoencoder's configuration."""
        return (latents - vae.config.shift_factor) * vae.config.scaling_factor

    def raw(self, vae, latents):
        """Scaled and shifted back."""
        return latents / vae.config.scaling_factor + vae.config.shift_factor

    def load_text(self, folder: Path, tokens: int, dtype: torch.dtype) -> TextEncoders:
        """T5 and CLIP."""
        return TextEncoders.load(folder, tokens, dtype)

    def text_widths(self, folder: Path) -> tuple[int, int]:
        """Widths of T5 and of CLIP."""
        t5 = read_json(folder / "text_encoder_2" / "config.json", _WHAT)
        clip = read_json(folder / "text_encoder" / "config.json", _WHAT)
        return int(t5["d_model"]), int(clip["hidden_size"])

    def text_length(self, folder: Path) -> int:
        """Length of T5's text."""
        settings = read_json(folder / "tokenizer_2" / "tokenizer_config.json", "configuration of the tokenizer")
        return int(settings["model_max_length"])

    def blank_text(self, config, count: int, tokens: int):
        """T5 embeddings and a pooled CLIP embedding."""
        text = torch.empty(count, tokens, config.joint_attention_dim)
        return text, torch.empty(count, config.pooled_projection_dim)

    def split_attention(self, transformer: nn.Module) -> None:
        """Attention processors that can record keys and values."""
        split_attention(transformer)

    def condition_keys(self, transformer, condition, ids, text, pooled, guidance) -> ConditionKeys:
        """By a pass of the condition alone."""
        return condition_keys(transformer, condition, ids, text, pooled, guidance)

    def velocity(self, transformer, tokens, condition, ids, text, pooled, sigma, guidance) -> torch.Tensor:
        """Condition tokens come after the noise tokens."""
        count, hidden, extra = tokens.shape[1], tokens, {}
        if isinstance(condition, ConditionKeys):
            extra["joint_attention_kwargs"] = {"condition": condition}
        elif condition is not None:
            hidden = torch.cat([tokens, condition], dim=1)
        output = transformer(
            hidden_states=hidden,
            encoder_hidden_states=text,
            pooled_projections=pooled,
            timestep=sigma,
            guidance=guidance,
            img_ids=ids[: hidden.shape[1]],
            txt_ids=text_ids(text.shape[1], FLUX1).to(tokens.device),
            return_dict=False,
            **extra,
        )[0]
        return output[:, :count]

    def cached_velocity(self, transformer, tokens, condition, ids, text, pooled, sigma, guidance) -> torch.Tensor:
        """In two passes, gradients through both."""
        keys = self.condition_keys(transformer, condition, ids[tokens.shape[1] :], text, pooled, guidance)
        return self.velocity(transformer, tokens, keys, ids, text, pooled, sigma, guidance)

"""Prompts -> T5 embeddings and pooled CLIP embeddings, as the FLUX pipeline makes them."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import AutoTokenizer, CLIPTextModel, CLIPTokenizer, T5EncoderModel

from ..errors import TrainingError
from .bases.pretrained import load_tokenizer, load_weights

CLIP_TOKENS = 77
"""Length of the CLIP text model."""


class TextEncoders(nn.Module):
    """The two tokenizers and text encoders of a FLUX pipeline.

    Args:
        base: diffusers folder with tokenizer/ and tokenizer_2/.
        clip: the CLIP text model.
        t5: the T5 encoder.
        tokens: T5 length; 0 takes the tokenizer's own.
    """

    def __init__(self, base: Path, clip: CLIPTextModel, t5: T5EncoderModel, tokens: int = 0) -> None:
        super().__init__()
        self.clip_tokenizer = load_tokenizer(CLIPTokenizer, base / "tokenizer")
        self.t5_tokenizer = load_tokenizer(AutoTokenizer, base / "tokenizer_2")
        self.clip, self.t5 = clip, t5
        self.tokens = tokens or self.t5_tokenizer.model_max_length

    @classmethod
    def load(cls, base: str | Path, tokens: int = 0, dtype: torch.dtype = torch.float32) -> "TextEncoders":
        """Load all four parts from a diffusers folder.

        Raises:
            TrainingError: a folder is missing.
        """
        base = Path(base)
        for name in ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2"):
            if not (base / name).is_dir():
                raise TrainingError(
                    f"base model {base} has no folder {name}: it must be a FLUX pipeline in diffusers layout"
                )
        clip = load_weights(CLIPTextModel, base / "text_encoder", dtype=dtype)
        t5 = load_weights(T5EncoderModel, base / "text_encoder_2", dtype=dtype)
        return cls(base, clip, t5, tokens).eval()

    def tokenize(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids of both tokenizers, (B, 77) and (B, T); longer prompts are cut."""
        settings = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
        clip = self.clip_tokenizer(prompts, max_length=CLIP_TOKENS, **settings).input_ids
        return clip, self.t5_tokenizer(prompts, max_length=self.tokens, **settings).input_ids

    def token_counts(self, prompts: Sequence[str]) -> dict[str, tuple[int, list[int]]]:
        """Maximum length and tokens of each prompt, by encoder; longer prompts are cut."""
        t5, clip = (kind(list(prompts), verbose=False).input_ids for kind in (self.t5_tokenizer, self.clip_tokenizer))
        return {"T5": (self.tokens, list(map(len, t5))), "CLIP": (CLIP_TOKENS, list(map(len, clip)))}

    def count_tokens(self, prompt: str) -> int:
        """T5 tokens of a prompt, the end token included."""
        return len(self.t5_tokenizer(prompt).input_ids)

    def encode(self, clip_ids: torch.Tensor, t5_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """T5 embeddings (B, T, D) and pooled CLIP embeddings (B, P); padding is attended to, as in FLUX."""
        device = next(self.parameters()).device
        states = self.t5(input_ids=t5_ids.to(device)).last_hidden_state
        return states, self.clip(input_ids=clip_ids.to(device)).pooler_output

    def forward(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """`encode` of `tokenize`."""
        return self.encode(*self.tokenize(prompts))

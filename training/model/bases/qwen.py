"""Prompts -> three layers of Qwen3, as the FLUX.2-klein pipeline makes them."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import AutoTokenizer, Qwen3ForCausalLM

from ...errors import TrainingError
from .pretrained import load_tokenizer, load_weights

TAPS = (1, 2, 3)
"""Quarters of the layers after which hidden states are read (9, 18 and 27 of 36)."""
MOST_TOKENS = 512
"""Length of the text that the base was trained with."""


class QwenEncoder(nn.Module):
    """Tokenizer and text encoder of a FLUX.2-klein pipeline.

    Args:
        folder: diffusers folder with tokenizer/.
        qwen: the language model; only its hidden states are read.
        tokens: length of the text; 0 takes the tokenizer's own, at most `MOST_TOKENS`.
    """

    def __init__(self, folder: Path, qwen: Qwen3ForCausalLM, tokens: int = 0) -> None:
        super().__init__()
        self.tokenizer = load_tokenizer(AutoTokenizer, folder / "tokenizer", padding_side="right")
        self.qwen = qwen.model
        self.tokens = tokens or min(self.tokenizer.model_max_length, MOST_TOKENS)
        layers = qwen.config.num_hidden_layers
        self.taps = tuple(layers * part // 4 for part in TAPS)

    @classmethod
    def load(cls, folder: str | Path, tokens: int = 0, dtype: torch.dtype = torch.float32) -> "QwenEncoder":
        """Load both parts from a diffusers folder.

        Raises:
            TrainingError: a folder is missing, or the text encoder is no Qwen3.
        """
        folder = Path(folder)
        for name in ("tokenizer", "text_encoder"):
            if not (folder / name).is_dir():
                raise TrainingError(
                    f"base model {folder} has no folder {name}: it must be a FLUX.2-klein pipeline in diffusers layout"
                )
        config = folder / "text_encoder" / "config.json"
        kind = json.loads(config.read_text()).get("model_type", "qwen3") if config.is_file() else None
        if kind != "qwen3":
            raise TrainingError(f"base model {folder}: text encoder must be a qwen3, got {kind}")
        return cls(folder, load_weights(Qwen3ForCausalLM, folder / "text_encoder", dtype=dtype), tokens).eval()

    def tokenize(self, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask (B, T) of prompts in Qwen's chat template; longer ones are cut."""
        settings = {"padding": "max_length", "truncation": True, "max_length": self.tokens, "return_tensors": "pt"}
        held = self.tokenizer(self._in_template(prompts), **settings)
        return held.input_ids, held.attention_mask

    def token_counts(self, prompts: Sequence[str]) -> dict[str, tuple[int, list[int]]]:
        """Maximum length and tokens of each prompt, by encoder; longer prompts are cut."""
        ids = self.tokenizer(self._in_template(prompts), verbose=False).input_ids
        return {"Qwen3": (self.tokens, list(map(len, ids)))}

    def _in_template(self, prompts: Sequence[str]) -> list[str]:
        settings = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
        return [self.tokenizer.apply_chat_template([{"role": "user", "content": p}], **settings) for p in prompts]

    @torch.no_grad()
    def forward(self, prompts: list[str]) -> tuple[torch.Tensor, None]:
        """Text embeddings (B, T, 3 D), padding included as in FLUX.2, and no pooled vector."""
        device = next(self.parameters()).device
        ids, mask = (part.to(device) for part in self.tokenize(prompts))
        states = self.qwen(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False).hidden_states
        return torch.cat([states[tap] for tap in self.taps], dim=-1), None

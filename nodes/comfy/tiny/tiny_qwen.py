"""A tiny FLUX.2's text encoder for ComfyUI: Qwen3 with a small vocabulary and three output layers.

Imported only when the loader runs, since it imports transformers.
"""

import logging
from pathlib import Path
from types import SimpleNamespace

import comfy.text_encoders.llama
from comfy import sd1_clip
from comfy.text_encoders.flux import Flux2TEModel
from transformers import PreTrainedTokenizerFast

from ..safetensors_files import ModelFileError, read_json

NAME = "qwen3_4b"
"""ComfyUI's key for the tokens and settings of this kind of encoder."""
TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
"""Qwen3's chat template for one message, without reasoning."""
_log = logging.getLogger("visual_planner")


def text_target(folder: Path, config: dict) -> SimpleNamespace:
    """What `comfy.sd.CLIP` builds a text encoder from: its class, its tokenizer's class and its parameters.

    Args:
        folder: the planner's folder.
        config: configuration of its text encoder.
    """
    if not (folder / "tokenizer" / "tokenizer.json").is_file():
        file = folder / "tokenizer" / "tokenizer.json"
        raise ModelFileError(f"tiny planner's tokenizer must be a file, but {file} does not exist")
    settings = read_json(folder / "tokenizer" / "tokenizer_config.json", "tiny planner's tokenizer config")
    length, layers = int(settings["model_max_length"]), config["num_hidden_layers"]
    pad = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer", local_files_only=True).pad_token_id

    class Words(sd1_clip.SDTokenizer):
        """Tokenizer of the planner's own vocabulary: always as many tokens as in training."""

        def __init__(self, embedding_directory=None, tokenizer_data=None):
            super().__init__(
                str(folder / "tokenizer"),
                embedding_directory=embedding_directory,
                embedding_size=config["hidden_size"],
                embedding_key=NAME,
                tokenizer_class=PreTrainedTokenizerFast,
                has_start_token=False,
                has_end_token=False,
                pad_with_end=False,
                pad_to_max_length=False,
                max_length=99999999,
                min_length=length,
                pad_token=pad,
                tokenizer_data=tokenizer_data or {},
            )

    class Tokenizer(sd1_clip.SD1Tokenizer):
        """The chat template around a prompt, as in diffusers; weights in brackets are treated as ordinary text."""

        def __init__(self, embedding_directory=None, tokenizer_data=None):
            super().__init__(embedding_directory, tokenizer_data or {}, clip_name=NAME, tokenizer=Words, name=NAME)

        def tokenize_with_weights(self, text, return_word_ids=False, **kwargs):
            kwargs["disable_weights"] = True
            tokens = super().tokenize_with_weights(TEMPLATE.format(text), return_word_ids, **kwargs)
            if any(len(section) > length for section in tokens[NAME]):
                _log.warning(
                    "[Visual Planner] prompt must have at most %d tokens for the tiny planner; the rest is "
                    "truncated: %r",
                    length,
                    text,
                )
            return {**tokens, NAME: [section[:length] for section in tokens[NAME]]}

    class Qwen(sd1_clip.SDClipModel):
        """Qwen3 whose outputs are the hidden states after a quarter, a half and three quarters of its layers."""

        def __init__(self, device="cpu", dtype=None, model_options=None):
            super().__init__(
                device=device,
                layer=[layers * part // 4 for part in (1, 2, 3)],
                layer_idx=None,
                textmodel_json_config={},
                dtype=dtype,
                special_tokens={"pad": pad},
                layer_norm_hidden_state=False,
                model_class=comfy.text_encoders.llama.Qwen3_4B,
                enable_attention_masks=True,
                return_attention_masks=True,
                model_options={**(model_options or {}), "model_name": NAME},
            )

    class Model(Flux2TEModel):
        """FLUX.2's stack of three layers."""

        def __init__(self, device="cpu", dtype=None, model_options=None):
            super().__init__(device, dtype, model_options or {}, name=NAME, clip_model=Qwen)

    return SimpleNamespace(params={}, clip=Model, tokenizer=Tokenizer)

"""The tiny planner's text encoders for ComfyUI: FLUX's classes with a small vocabulary of their own.

Imported only when the loader runs, since it imports transformers.
"""

import logging
from pathlib import Path
from types import SimpleNamespace

from comfy import sd1_clip
from comfy.text_encoders.flux import FluxClipModel, FluxTokenizer
from transformers import PreTrainedTokenizerFast

from ..safetensors_files import ModelFileError, read_json

_log = logging.getLogger("visual_planner")


def text_target(folder: Path, clip_config: dict) -> SimpleNamespace:
    """What `comfy.sd.CLIP` builds a text encoder from: its class, its tokenizer's class and its parameters.

    Args:
        folder: the planner's folder.
        clip_config: config of its CLIP text encoder.
    """
    for name in ("tokenizer/vocab.json", "tokenizer/merges.txt", "tokenizer_2/tokenizer.json"):
        if not (folder / name).is_file():
            raise ModelFileError(f"tiny planner's tokenizer must be a file, but {folder / name} does not exist")
    settings = read_json(folder / "tokenizer_2" / "tokenizer_config.json", "tiny planner's T5 tokenizer config")

    class ClipLTokenizer(sd1_clip.SDTokenizer):
        """CLIP tokenizer of the planner's own vocabulary."""

        def __init__(self, embedding_directory=None, tokenizer_data=None):
            super().__init__(
                str(folder / "tokenizer"),
                embedding_directory=embedding_directory,
                embedding_size=clip_config["hidden_size"],
                embedding_key="clip_l",
                tokenizer_data=tokenizer_data or {},
            )

    class T5Tokenizer(sd1_clip.SDTokenizer):
        """T5 tokenizer of the planner's own vocabulary: always as many tokens as in training."""

        def __init__(self, embedding_directory=None, tokenizer_data=None):
            super().__init__(
                str(folder / "tokenizer_2"),
                embedding_directory=embedding_directory,
                embedding_key="t5xxl",
                # Loaded directly from its file: the T5 class of transformers 5 rebuilds it without its normaliser.
                tokenizer_class=PreTrainedTokenizerFast,
                has_start_token=False,
                pad_with_end=False,
                pad_to_max_length=False,
                max_length=99999999,
                min_length=settings["model_max_length"],
                tokenizer_data=tokenizer_data or {},
            )

        def tokenize_with_weights(self, text, return_word_ids=False, **kwargs):
            """Tokens and weights, cut to the training length with the end token kept, as in diffusers."""
            length = settings["model_max_length"]
            sections = super().tokenize_with_weights(text, return_word_ids, **kwargs)
            if any(len(section) > length for section in sections):
                _log.warning(
                    "[Visual Planner] prompt must have at most %d tokens for the tiny planner; the rest is "
                    "truncated: %r",
                    length,
                    text,
                )
            return [
                section if len(section) <= length else [*section[: length - 1], (self.end_token, *section[-1][1:])]
                for section in sections
            ]

    class Tokenizer(FluxTokenizer):
        """Both tokenizers, as in FLUX."""

        def __init__(self, embedding_directory=None, tokenizer_data=None):
            self.clip_l = ClipLTokenizer(embedding_directory, tokenizer_data)
            self.t5xxl = T5Tokenizer(embedding_directory, tokenizer_data)

    class ClipModel(FluxClipModel):
        """FLUX's pair of encoders, with a CLIP of the planner's vocabulary size."""

        def __init__(self, device="cpu", dtype=None, model_options=None):
            super().__init__(dtype_t5=None, device=device, dtype=dtype, model_options=model_options or {})
            words = self.clip_l.operations.Embedding(
                clip_config["vocab_size"], clip_config["hidden_size"], dtype=dtype, device=device
            )
            self.clip_l.transformer.set_input_embeddings(words)
            end = clip_config["eos_token_id"]
            self.clip_l.special_tokens = {"start": clip_config["bos_token_id"], "end": end, "pad": end}

    return SimpleNamespace(params={}, clip=ClipModel, tokenizer=Tokenizer)

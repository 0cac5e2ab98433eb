"""The tiny base's own tokenizers: small vocabularies learned from the captions and instructions of its world.

They can encode any text (single characters are in both vocabularies); words of the table world take one token. The
files are those that transformers and ComfyUI read: byte pairs in CLIP's two files and in one tokenizer.json for T5.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from ..files import as_record, read_json, write_json, write_text

_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORDS = Regex(r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")


def write_clip_tokenizer(texts: Iterable[str], folder: Path, size: int = 1024) -> None:
    """Learn and write a CLIP tokenizer: start and end token are the last two ids, the end token pads."""
    tokenizer = Tokenizer(models.BPE(unk_token=_END, continuing_subword_prefix="", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_WORDS, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    texts = list(texts)
    words = [
        word
        for text in texts
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
    ]
    # Given explicitly, since the library numbers them in the order of its hash map, which differs in each process.
    ends = sorted({f"{word[-1]}</w>" for word in words})
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=ends, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary: dict[str, int] = dict(model["vocab"])
    for symbol in alphabet:
        for form in (symbol, f"{symbol}</w>"):
            vocabulary.setdefault(form, len(vocabulary))
    for token in (_START, _END):
        vocabulary[token] = len(vocabulary)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    special = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": _END}
    write_json(folder / "vocab.json", vocabulary)
    write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *merges]) + "\n")
    write_json(folder / "special_tokens_map.json", special)
    settings = {"model_max_length": 77, "do_lower_case": True, "errors": "replace", "add_prefix_space": False}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", **special, **settings})


def write_t5_tokenizer(texts: Iterable[str], folder: Path, length: int, size: int = 512) -> None:
    """Learn and write a T5 tokenizer of fixed `length`."""
    # byte pairs rather than T5's unigrams, which degenerate into single letters when learned from few words
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Punctuation("isolated"),
            pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always"),
        ]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="\u2581", prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<pad>", "</s>", "<unk>"],
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz0123456789.,;:'!?-\u2581"),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    special = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    write_json(folder / "special_tokens_map.json", special)
    # not T5TokenizerFast: transformers 5 rebuilds that class from the vocabulary and drops the lower-casing
    config = {"tokenizer_class": "PreTrainedTokenizerFast", **special, "model_max_length": length}
    write_json(folder / "tokenizer_config.json", config)


def vocabulary_sizes(base: Path) -> tuple[int, int]:
    """Sizes of the CLIP and the T5 vocabulary of a base folder.

    Raises:
        TrainingError: a file is missing or broken.
    """
    words = read_json(base / "tokenizer" / "vocab.json", "CLIP vocabulary")
    with as_record(f"T5 vocabulary {base / 'tokenizer_2' / 'tokenizer.json'}"):
        pieces = read_json(base / "tokenizer_2" / "tokenizer.json", "T5 vocabulary")["model"]["vocab"]
        return len(words), len(pieces)

"""A random tiny planner in diffusers' folder layout: the files of models/tiny_planner, made in a second."""

from __future__ import annotations

import json
from pathlib import Path

import torch

WORDS = (
    "a 3x3 grid of nine frames showing, step by step, how the robot will push the red cube to the left",
    "pick up the blue cylinder and place it on the green plate; the gripper follows the path drawn on the first frame",
    "from its red start to its blue end, reach the yellow cube in the middle of the table",
)
T5_LENGTH = 32
HIDDEN, HEADS = 256, 2


def write_tiny_planner(folder: Path, seed: int = 0, double: int = 2, single: int = 3) -> Path:
    """Write all parts of a random planner and return the folder."""
    from training.tiny_base.parts import make_clip, make_t5

    torch.manual_seed(seed)
    write_transformer(folder / "transformer", double, single)
    write_vae(folder / "vae")
    words = write_clip_tokenizer(folder / "tokenizer")
    _random(make_clip(words)).save_pretrained(folder / "text_encoder")
    words = write_t5_tokenizer(folder / "tokenizer_2")
    _random(make_t5(words)).save_pretrained(folder / "text_encoder_2")
    return folder


def make_transformer(double: int = 1, single: int = 1, guidance: bool = True):
    """A random FLUX transformer whose output is of the order of 1."""
    from diffusers import FluxTransformer2DModel

    model = FluxTransformer2DModel(
        in_channels=64,
        attention_head_dim=128,
        num_attention_heads=HEADS,
        num_layers=double,
        num_single_layers=single,
        joint_attention_dim=128,
        pooled_projection_dim=64,
        guidance_embeds=guidance,
        axes_dims_rope=(16, 56, 56),
    ).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1.2 / parameter.shape[1] ** 0.5)
        elif "norm" in name and name.endswith("weight"):
            torch.nn.init.normal_(parameter, mean=1.0, std=0.1)
        else:
            torch.nn.init.normal_(parameter, std=0.1)
    with torch.no_grad():
        model.proj_out.weight *= 0.4  # an output of the order of 1, as tolerances assume
    return model


def write_transformer(folder: Path, double: int, single: int) -> None:
    make_transformer(double, single).save_pretrained(folder)


def write_vae(folder: Path) -> None:
    from diffusers import AutoencoderKL

    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 32, 64, 64),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=32,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=0.3611,
        shift_factor=0.1159,
    )
    for name, parameter in vae.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, mean=float(name.endswith("weight")), std=0.1)
    vae.save_pretrained(folder)


def write_clip_tokenizer(folder: Path) -> int:
    """CLIP tokenizer files with a vocabulary of a few hundred; returns its size."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(unk_token="<|endoftext|>", continuing_subword_prefix="", end_of_word_suffix="</w>")
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words = pre_tokenizers.Split(Regex(r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"), "removed", invert=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocabulary = model["vocab"]
    for symbol in alphabet:
        for form in (symbol, f"{symbol}</w>"):
            vocabulary.setdefault(form, len(vocabulary))
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[special] = len(vocabulary)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    specials = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    (folder / "special_tokens_map.json").write_text(json.dumps(specials))
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True, "errors": "replace"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**specials, **settings, "add_prefix_space": False}))
    return len(vocabulary)


def write_t5_tokenizer(folder: Path) -> int:
    """T5-like tokenizer file with a vocabulary of whole words; returns its size."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "</s>", "<unk>"],
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz0123456789.,;:'!?-\u2581"),
        show_progress=False,
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    specials = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": T5_LENGTH}
    (folder / "tokenizer_config.json").write_text(json.dumps({**specials, **settings}))
    (folder / "special_tokens_map.json").write_text(json.dumps(specials))
    return tokenizer.get_vocab_size()


def _random(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return module.eval()

"""A random tiny FLUX.2 pipeline in diffusers' folder layout: klein's parts, only narrower and shallower."""

from __future__ import annotations

import json
from pathlib import Path

import torch

SENTENCES = (
    "a 3x3 grid of nine frames showing, step by step, how the robot will push the red cube to the left",
    "pick up the blue cylinder and place it on the green plate; the gripper follows the path drawn on the first frame",
    "nine frames along the path: push the red cube number from its red start to its blue end user assistant",
)
TEXT_TOKENS = 48
TEXT_WIDTH = 384
"""Width of the text embeddings: three layers of the text encoder side by side."""
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
TEMPLATE = (
    "{%- for message in messages -%}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}{{ '<think>\n\n</think>\n\n' }}"
    "{%- endif -%}{%- endif -%}"
)


def write_tiny_flux2(folder: Path, seed: int = 0, double: int = 1, single: int = 2, guidance: bool = False) -> Path:
    """Write all parts and return the folder."""
    torch.manual_seed(seed)
    make_transformer(double, single, guidance).save_pretrained(folder / "transformer")
    make_vae().save_pretrained(folder / "vae")
    words = write_tokenizer(folder / "tokenizer")
    make_text_encoder(words).save_pretrained(folder / "text_encoder")
    parts = {
        "_class_name": "Flux2KleinPipeline",
        "is_distilled": False,
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "Qwen3ForCausalLM"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "Flux2Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKLFlux2"],
    }
    (folder / "model_index.json").write_text(json.dumps(parts))
    return folder


def make_transformer(double: int = 1, single: int = 2, guidance: bool = False, heads: int = 2):
    """A random FLUX.2 transformer whose output is of the order of 1."""
    from diffusers import Flux2Transformer2DModel

    model = Flux2Transformer2DModel(
        num_layers=double,
        num_single_layers=single,
        num_attention_heads=heads,
        joint_attention_dim=TEXT_WIDTH,
        guidance_embeds=guidance,
    ).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=1.2 / parameter.shape[1] ** 0.5)
        else:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.1)
    with torch.no_grad():
        model.proj_out.weight *= 0.4
    return model


def make_vae():
    """A random narrow FLUX.2 autoencoder whose latents are normalised by statistics of its own."""
    from diffusers import AutoencoderKLFlux2

    vae = AutoencoderKLFlux2(block_out_channels=(32, 32, 64, 64), layers_per_block=1).eval()
    for name, parameter in vae.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, mean=float(name.endswith("weight")), std=0.1)
    vae.bn.running_mean.normal_(std=0.2)
    vae.bn.running_var.uniform_(0.3, 2.0)
    return vae


def make_text_encoder(words: int):
    """A random Qwen3 of four layers, of which the first three are read."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=words, hidden_size=TEXT_WIDTH // 3, intermediate_size=256, num_hidden_layers=4,
        num_attention_heads=2, num_key_value_heads=1, head_dim=128, max_position_embeddings=512,
        tie_word_embeddings=True, rope_parameters={"rope_theta": 1000000.0, "rope_type": "default"}, pad_token_id=0,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.2)
    return model


def write_tokenizer(folder: Path) -> int:
    """A byte-level tokenizer with Qwen's marks and chat template; returns the size of its vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=list(SPECIALS), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(SENTENCES, trainer)
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": TEXT_TOKENS, "padding_side": "right",
        "pad_token": "<|endoftext|>", "eos_token": "<|im_end|>", "chat_template": TEMPLATE,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer.get_vocab_size()

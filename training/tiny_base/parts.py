"""The tiny base: FLUX's architecture, only narrower and shallower, in the folder layout of a diffusers pipeline."""

import shutil
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from visual_planner.planner.families import FLUX1

from ..files import filling, write_json, write_tensors
from ..sections.planner import PretrainSection

TEXT_WIDTH, POOLED_WIDTH = 128, 64
"""Widths of the T5 embeddings and of the pooled CLIP embedding."""


def make_transformer(heads: int, double_blocks: int, single_blocks: int) -> FluxTransformer2DModel:
    """An untrained FLUX transformer: heads of 128, rope axes (16, 56, 56), guidance input, adaLN-zero start."""
    transformer = FluxTransformer2DModel(
        in_channels=FLUX1.token_channels,
        num_layers=double_blocks,
        num_single_layers=single_blocks,
        attention_head_dim=128,
        num_attention_heads=heads,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=POOLED_WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(16, 56, 56),
    )
    for name, module in transformer.named_modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
            # adaLN-zero (Peebles & Xie 2023): gates and the output start at zero
            if (
                name.endswith(("norm.linear", "norm1.linear", "norm1_context.linear", "norm_out.linear"))
                or name == "proj_out"
            ):
                torch.nn.init.zeros_(module.weight)
    return transformer


def make_clip(words: int) -> CLIPTextModel:
    """An untrained CLIP text encoder for a vocabulary of `words`, in a shape that ComfyUI accepts too."""
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=POOLED_WIDTH,
        intermediate_size=256,
        num_hidden_layers=2,  # ComfyUI requires two or more
        num_attention_heads=2,
        max_position_embeddings=77,
        hidden_act="quick_gelu",
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
        projection_dim=POOLED_WIDTH,
    )
    return CLIPTextModel(config)


def make_t5(words: int) -> T5EncoderModel:
    """An untrained T5 encoder for a vocabulary of `words`, in a shape that ComfyUI accepts too."""
    config = T5Config(
        vocab_size=words,
        d_model=TEXT_WIDTH,
        d_kv=32,
        d_ff=256,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
        tie_word_embeddings=False,
        dropout_rate=0.0,
    )
    return T5EncoderModel(config)


def write_pipeline(
    base: Path,
    section: PretrainSection,
    transformer: FluxTransformer2DModel,
    clip: CLIPTextModel,
    t5: T5EncoderModel,
    shift: float,
) -> None:
    """Write the folder of a FLUX pipeline, which already has its tokenizers.

    Args:
        base: the folder.
        section: settings with the place of the autoencoder.
        transformer: the trained transformer.
        clip: the trained CLIP text encoder.
        t5: the trained T5 encoder.
        shift: ln of the constant schedule shift.
    """
    with filling(base) as part:
        for folder, module in (("transformer", transformer), ("text_encoder", clip), ("text_encoder_2", t5)):
            module.save_pretrained(part / folder)
        _name_clip_as_transformers_4_does(part / "text_encoder" / "model.safetensors")
        _to_bfloat16(part / "transformer" / "diffusion_pytorch_model.safetensors")
        if Path(section.vae).resolve() != (base / "vae").resolve():
            shutil.copytree(section.vae, part / "vae")
        FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=shift, max_shift=shift, base_image_seq_len=256, max_image_seq_len=4096
        ).save_pretrained(part / "scheduler")
    write_json(
        base / "model_index.json",
        {
            "_class_name": "FluxPipeline",
            "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "text_encoder_2": ["transformers", "T5EncoderModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "tokenizer_2": ["transformers", "PreTrainedTokenizerFast"],
            "transformer": ["diffusers", "FluxTransformer2DModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )


def _name_clip_as_transformers_4_does(file: Path) -> None:
    """Rename keys: transformers 5 drops the prefix when saving and reads both; version 4 reads only keys with it."""
    tensors = load_file(file)
    prefix = "text_model."
    write_tensors(file, {n if n.startswith(prefix) else prefix + n: t for n, t in tensors.items()}, {"format": "pt"})


def _to_bfloat16(file: Path) -> None:
    write_tensors(file, {name: tensor.bfloat16() for name, tensor in load_file(file).items()}, {"format": "pt"})

"""The parts of a tiny FLUX.1 pipeline for ComfyUI.

ComfyUI's stock loaders only support FLUX.1's sizes (24 heads, 768 wide CLIP, 49408 words), so the parts are assembled
here from ComfyUI's public classes.
"""

from pathlib import Path

from ..safetensors_files import ModelFileError, load_tensors, read_json
from .tiny_parts import autoencoder_settings, load_text_weights, patcher, pick


def load_model(folder: Path):
    """MODEL of `folder/transformer`.

    Raises:
        ModelFileError: a file is missing or broken, or ComfyUI does not take it for FLUX.
    """
    import comfy.model_detection as detection
    import torch

    config = read_json(folder / "transformer" / "config.json", "tiny planner's transformer config")
    weights = load_tensors(folder / "transformer" / "diffusion_pytorch_model.safetensors", "tiny planner's transformer")
    converted = detection.convert_diffusers_mmdit(weights, "")
    found = detection.detect_unet_config(converted, "") if converted else None
    if found is None or found.get("image_model") != "flux":
        raise ModelFileError(f"tiny planner's transformer must be a FLUX transformer in diffusers' format: {folder}")
    # ComfyUI up to 0.3.75 assumes 24 heads for every FLUX.
    found["num_heads"] = config["num_attention_heads"]
    found["axes_dim"] = list(config["axes_dims_rope"])
    model_config = detection.model_config_from_unet_config(found, converted)
    model_config.set_inference_dtype(torch.float32, None)
    model = model_config.get_model(converted, "")
    model.load_model_weights(converted, "")
    return patcher(model)


def load_clip(folder: Path):
    """CLIP of `folder/text_encoder` and `folder/text_encoder_2`, with their own tokenizers.

    Raises:
        ModelFileError: a file is missing or broken.
    """
    import comfy.sd
    import torch

    from .tiny_text import text_target

    config_l = read_json(folder / "text_encoder" / "config.json", "tiny planner's CLIP config")
    config_t5 = read_json(folder / "text_encoder_2" / "config.json", "tiny planner's T5 config")
    weights_l = load_tensors(folder / "text_encoder" / "model.safetensors", "tiny planner's CLIP")
    weights_t5 = load_tensors(folder / "text_encoder_2" / "model.safetensors", "tiny planner's T5")
    options = {
        "dtype": torch.float32,
        "clip_l_model_config": pick(config_l, _CLIP_FIELDS, "tiny planner's CLIP config"),
        "t5xxl_model_config": pick(config_t5, _T5_FIELDS, "tiny planner's T5 config"),
    }
    count = sum(tensor.numel() for tensor in (*weights_l.values(), *weights_t5.values()))
    clip = comfy.sd.CLIP(text_target(folder, config_l), parameters=count, model_options=options)
    # transformers 5 saves CLIP without the prefix that ComfyUI (and transformers 4) expect.
    prefix = "" if any(key.startswith("text_model.") for key in weights_l) else "text_model."
    weights_l = {prefix + key: value for key, value in weights_l.items()}
    load_text_weights(clip, weights_l, {"text_projection.weight"}, "CLIP")
    load_text_weights(clip, weights_t5, set(), "T5")
    return clip


def load_vae(folder: Path):
    """VAE of `folder/vae`, a diffusers AutoencoderKL of FLUX's kind (16 channels, FLUX's normalisation) of any width.

    Raises:
        ModelFileError: a file is missing or broken, or it is an autoencoder of another kind.
    """
    import comfy.latent_formats
    import comfy.sd
    import torch

    what = "tiny planner's VAE"
    config = read_json(folder / "vae" / "config.json", f"{what} config")
    weights = load_tensors(folder / "vae" / "diffusion_pytorch_model.safetensors", what)
    flux = comfy.latent_formats.Flux()
    kind = {name: config.get(name) for name in ("_class_name", "latent_channels", "scaling_factor", "shift_factor")}
    wanted = ("AutoencoderKL", flux.latent_channels, flux.scale_factor, flux.shift_factor)
    if tuple(kind.values()) != wanted:
        raise ModelFileError(f"{what} must have {dict(zip(kind, wanted, strict=True))}, got {kind}: {folder / 'vae'}")
    # FLUX's autoencoder has no quantisation layers, but ComfyUI's class does, and it leaves missing ones uninitialised.
    for name, channels in (("quant_conv", 2 * flux.latent_channels), ("post_quant_conv", flux.latent_channels)):
        weights.setdefault(f"{name}.weight", torch.eye(channels)[:, :, None, None])
        weights.setdefault(f"{name}.bias", torch.zeros(channels))
    settings = autoencoder_settings(config, flux.latent_channels)
    vae = comfy.sd.VAE(sd=weights, config=settings, dtype=torch.float32)
    # ComfyUI renames the weights one by one and only logs what is missing.
    if len(weights) != (needed := len(vae.first_stage_model.state_dict())):
        raise ModelFileError(f"{what} must have the {needed} weights that its config asks for, got {len(weights)}")
    vae.latent_channels = flux.latent_channels
    return vae


_CLIP_FIELDS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings",
    "hidden_act", "eos_token_id",
)  # fmt: skip
_T5_FIELDS = ("d_model", "d_kv", "d_ff", "num_heads", "num_layers", "vocab_size")

"""The parts of a tiny FLUX.2 pipeline (klein's kind) for ComfyUI.

ComfyUI's stock loaders only support the released sizes, and its converter of diffusers' transformers does not support
FLUX.2, so the parts are assembled here from ComfyUI's public classes.
"""

from pathlib import Path

from ..flux2_names import to_bfl
from ..safetensors_files import ModelFileError, load_tensors, read_json
from .tiny_parts import autoencoder_settings, load_text_weights, patcher, pick

RAW_CHANNELS, PATCH = 32, 2
"""Channels of the autoencoder before its 2x2 patches are normalised, and the side of such a patch."""
_FIXED = {"attention_head_dim": 128, "axes_dims_rope": [32] * 4, "mlp_ratio": 3.0, "rope_theta": 2000, "patch_size": 1}
"""Settings of the transformer that ComfyUI's detection takes for granted."""
_QWEN_FIELDS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "rms_norm_eps",
)  # fmt: skip


def load_model(folder: Path):
    """MODEL of `folder/transformer`.

    Raises:
        ModelFileError: a file is missing or broken, or ComfyUI does not take it for FLUX.2.
    """
    import comfy.model_base
    import comfy.model_detection as detection
    import torch

    what = "tiny planner's transformer"
    config = read_json(folder / "transformer" / "config.json", f"{what} config")
    other = {name: config[name] for name, value in _FIXED.items() if config.get(name, value) != value}
    if other:
        raise ModelFileError(f"{what} must have {_FIXED}, got {other}: {folder}")
    weights = load_tensors(folder / "transformer" / "diffusion_pytorch_model.safetensors", what)
    converted = to_bfl(weights, config, f"{what} in {folder}")
    found = detection.detect_unet_config(converted, "")
    if found is None or found.get("image_model") != "flux2":
        raise ModelFileError(
            f"{what} must be a FLUX.2 transformer that this ComfyUI knows, got {folder}: update ComfyUI"
        )
    # ComfyUI up to 0.3.75 assumes 48 heads for every FLUX.2.
    found["num_heads"] = config["num_attention_heads"]
    model_config = detection.model_config_from_unet_config(found, converted)
    model_config.set_inference_dtype(torch.float32, None)

    class TinyFlux2(comfy.model_base.Flux2):
        """FLUX.2 with text of the training length, not padded to 512 tokens."""

        def extra_conds(self, **kwargs):
            return comfy.model_base.Flux.extra_conds(self, **kwargs)

    model = TinyFlux2(model_config)
    model.load_model_weights(converted, "")
    return patcher(model)


def load_clip(folder: Path):
    """CLIP of `folder/text_encoder`, a Qwen3 with three output layers, with its own tokenizer.

    Raises:
        ModelFileError: a file is missing or broken, or it is another text encoder.
    """
    import comfy.sd
    import torch

    from .tiny_qwen import text_target

    what = "tiny planner's text encoder"
    config = read_json(folder / "text_encoder" / "config.json", f"{what} config")
    if config.get("model_type") != "qwen3" or config.get("head_dim") != 128:
        kind = {name: config.get(name) for name in ("model_type", "head_dim")}
        raise ModelFileError(f"{what} must be a Qwen3 with heads of 128, got {kind}: {folder / 'text_encoder'}")
    weights = load_tensors(folder / "text_encoder" / "model.safetensors", what)
    weights.pop("lm_head.weight", None)  # unused: only hidden states are read
    theta = (config.get("rope_parameters") or {}).get("rope_theta", config.get("rope_theta", 1000000.0))
    settings = {**pick(config, _QWEN_FIELDS, f"{what} config"), "rope_theta": theta}
    options = {"dtype": torch.float32, "qwen3_4b_model_config": settings}
    count = sum(tensor.numel() for tensor in weights.values())
    clip = comfy.sd.CLIP(text_target(folder, config), parameters=count, model_options=options)
    load_text_weights(clip, weights, set(), "text encoder")
    return clip


def load_vae(folder: Path):
    """VAE of `folder/vae`, a diffusers AutoencoderKLFlux2 of any width.

    Raises:
        ModelFileError: a file is missing or broken, or it is an autoencoder of another kind.
    """
    import comfy.sd
    import torch

    from ....visual_planner.planner.families import FLUX2

    what = "tiny planner's VAE"
    config = read_json(folder / "vae" / "config.json", f"{what} config")
    weights = load_tensors(folder / "vae" / "diffusion_pytorch_model.safetensors", what)
    wanted = {"_class_name": "AutoencoderKLFlux2", "latent_channels": RAW_CHANNELS, "batch_norm_eps": 1e-4}
    kind = {name: config.get(name) for name in wanted}
    if kind != wanted:
        raise ModelFileError(f"{what} must have {wanted}, got {kind}: {folder / 'vae'}")
    settings = autoencoder_settings(config, RAW_CHANNELS, batch_norm_latent=True)
    given = len(weights)
    vae = comfy.sd.VAE(sd=weights, config=settings, dtype=torch.float32)
    # ComfyUI renames the weights one by one and only logs what is missing.
    if given != (needed := len(vae.first_stage_model.state_dict())):
        raise ModelFileError(f"{what} must have the {needed} weights that its config asks for, got {given}")
    vae.latent_channels = FLUX2.channels
    vae.downscale_ratio = vae.upscale_ratio = FLUX2.downscale
    return vae

"""Shared code of the loaders of tiny pipelines."""

from ..safetensors_files import ModelFileError


def patcher(model):
    """MODEL of a network that was assembled here."""
    import comfy.model_management as management
    import comfy.model_patcher

    offload = management.unet_offload_device()
    return comfy.model_patcher.ModelPatcher(
        model.to(offload), load_device=management.get_torch_device(), offload_device=offload
    )


def pick(config: dict, names: tuple[str, ...], what: str) -> dict:
    """Some settings of a configuration.

    Raises:
        ModelFileError: it lacks one.
    """
    if missing := [name for name in names if name not in config]:
        raise ModelFileError(f"{what} must have {', '.join(names)}, but lacks {', '.join(missing)}")
    return {name: config[name] for name in names}


def autoencoder_settings(config: dict, channels: int, **more) -> dict:
    """Settings from which `comfy.sd.VAE` builds an autoencoder of FLUX's kind, as wide and deep as in its config.

    Args:
        config: configuration of diffusers' class.
        channels: channels of its latents.
        more: further settings.
    """
    width = config["block_out_channels"][0]
    structure = {
        "double_z": True,
        "z_channels": channels,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": width,
        "ch_mult": [own // width for own in config["block_out_channels"]],
        "num_res_blocks": config["layers_per_block"],
        "attn_resolutions": [],
        "dropout": 0.0,
        **more,
    }
    return {"params": {"ddconfig": structure, "embed_dim": channels}}


def load_text_weights(clip, weights: dict, optional: set[str], name: str) -> None:
    """Give a text encoder its weights.

    Raises:
        ModelFileError: some are unknown, or missing and would stay uninitialised.
    """
    missing, unknown = clip.load_sd(weights)
    lacking = sorted(set(missing) - optional)
    unknown = [
        key for key in unknown if key not in ("encoder.embed_tokens.weight", "text_model.embeddings.position_ids")
    ]
    if lacking or unknown:
        raise ModelFileError(
            f"tiny planner's {name} must have the weights that its config asks for, but {len(lacking)} are missing and "
            f"{len(unknown)} unknown ({', '.join((lacking + unknown)[:3])})"
        )

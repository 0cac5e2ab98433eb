"""One forward of a conditioned MODEL through ComfyUI's own sampling, as the sampler would do it."""

from __future__ import annotations

import torch


def predict(model, latent, sigma, positive, negative=None, cfg: float = 1.0) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Run one model call of a stock sampler.

    Args:
        model: MODEL of ComfyUI.
        latent: (B, 16, h, w) noisy latent, as the network sees it.
        sigma: noise level.
        positive: CONDITIONING.
        negative: CONDITIONING.
        cfg: classifier-free guidance.

    Returns:
        The guided velocity, and the network's raw outputs, one for each call of it.
    """
    import comfy.sample
    import comfy.samplers

    raw = []

    def record(executor, *args, **kwargs):
        out = executor(*args, **kwargs)
        raw.append(out.float())
        return out

    probe = model.clone()
    probe.add_wrapper_with_key("diffusion_model", "record", record)
    found = {}

    def one_call(denoise, x, sigmas, extra_args=None, callback=None, disable=None):
        found["denoised"] = denoise(latent, sigmas[:1].expand(latent.shape[0]), **extra_args)
        return found["denoised"]

    sampler = comfy.samplers.KSAMPLER(one_call)
    sigmas = torch.tensor([sigma, 0.0])
    start = torch.zeros_like(latent)
    comfy.sample.sample_custom(
        probe, start, cfg, sampler, sigmas, positive, negative or positive, start, disable_pbar=True
    )
    return (latent - found["denoised"]) / sigma, raw

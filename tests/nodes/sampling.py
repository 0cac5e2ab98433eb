"""ComfyUI's own sampling: one forward of a conditioned MODEL, as the sampler would do it, and a plan's nodes."""

from __future__ import annotations

import torch

STEPS, SEED = 4, 1234
"""Of the plans that the tests sample."""


def predict(
    model, latent, sigma, positive, negative=None, cfg: float = 1.0, watched: bool = True
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Run one model call of a stock sampler.

    Args:
        model: MODEL of ComfyUI.
        latent: (B, 16, h, w) noisy latent, as the network sees it.
        sigma: noise level.
        positive: CONDITIONING.
        negative: CONDITIONING.
        cfg: classifier-free guidance.
        watched: put a wrapper around the network that keeps its outputs. It is a new one each time, so a compiled
            network would be compiled again for it, and never show what it has kept.

    Returns:
        The guided velocity, and the network's raw outputs, one for each call of it (none if not watched).
    """
    import comfy.sample
    import comfy.samplers

    raw = []

    def record(executor, *args, **kwargs):
        out = executor(*args, **kwargs)
        raw.append(out.float())
        return out

    probe = model.clone()
    if watched:
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


def velocity(model, watched: bool = True) -> torch.Tensor:
    """FLUX.1's output at one step, on fixed noise and text; unwatched, computed back from the denoised latent."""
    generator = torch.Generator().manual_seed(3)
    latent, context, pooled = (torch.randn(s, generator=generator) for s in ((2, 16, 8, 8), (1, 9, 128), (1, 64)))
    positive = [[context, {"pooled_output": pooled, "guidance": 3.5}]]
    guided, raw = predict(model, latent, 0.7, positive, watched=watched)
    return raw[0].clone() if watched else guided


def flux2_velocity(model) -> torch.Tensor:
    """The same of FLUX.2."""
    generator = torch.Generator().manual_seed(4)
    width = model.model.diffusion_model.params.context_in_dim
    latent, context = (torch.randn(shape, generator=generator) for shape in ((1, 128, 4, 4), (1, 9, width)))
    return predict(model, latent, 0.7, [[context, {"pooled_output": None}]])[1][0].clone()


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """Length of the difference, relative to the second's."""
    return float((first - second).norm() / second.norm())


def encode(comfy, clip, spec, mode="text", instruction="push the red cube to the left"):
    """CONDITIONING of a planner's prompt."""
    (prompt,) = comfy.call("VisualPlannerPrompt", mode=mode, instruction=instruction, spec=spec)
    return comfy.call("CLIPTextEncode", clip=clip, text=prompt)[0]


def first_frames(count=1):
    """Random pictures of another shape than a cell."""
    return torch.rand(count, 40, 60, 3, generator=torch.Generator().manual_seed(3))


def sample(comfy, conditioned, seed=SEED, cfg=1.0):
    """LATENT of a plan from what the Condition node gives."""
    model, positive, negative, latent, _ = conditioned
    return comfy.call(
        "KSampler", model=model, seed=seed, steps=STEPS, cfg=cfg, sampler_name="euler", scheduler="simple",
        positive=positive, negative=negative, latent_image=latent, denoise=1.0,
    )[0]  # fmt: skip

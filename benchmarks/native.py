"""One step of a plan in ComfyUI's own FLUX classes with our wrapper around them, without a server or a sampler.

ComfyUI's folder must be on the import path, and the plugin must be importable as a package (by `plugin_package`, or
loaded by ComfyUI itself).
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
import types
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SIGMA, GUIDANCE = 0.7, 3.5
HEAD = 128
SETTINGS = {
    "flux1": {
        "in_channels": 16, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 4096, "mlp_ratio": 4.0,
        "axes_dim": [16, 56, 56], "theta": 10000, "patch_size": 2, "qkv_bias": True, "guidance_embed": True,
    },
    "flux2": {
        "in_channels": 128, "out_channels": 128, "vec_in_dim": None, "context_in_dim": 7680, "mlp_ratio": 3.0,
        "axes_dim": [32, 32, 32, 32], "theta": 2000, "patch_size": 1, "qkv_bias": False, "guidance_embed": False,
        "global_modulation": True, "mlp_silu_act": True, "ops_bias": False, "default_ref_method": "index",
        "ref_index_scale": 10.0,
    },
}  # fmt: skip
"""What ComfyUI's detection reads from the weights of FLUX.1-dev and FLUX.2-klein-4B, by family; without sizes."""
LATER = {"flux1": {"txt_ids_dims": []}, "flux2": {"txt_ids_dims": [3]}}
"""Further settings that a newer ComfyUI detects."""


def settings_of(family: str, heads: int, double: int, single: int) -> dict:
    """Arguments of ComfyUI's FLUX for a number of attention heads and of blocks of both kinds.

    A ComfyUI that needs more (0.33: on which axes text tokens are counted) gets what its detection would return.
    """
    from comfy.ldm.flux.model import FluxParams

    sizes = {"hidden_size": heads * HEAD, "num_heads": heads, "depth": double, "depth_single_blocks": single}
    known = {field.name for field in dataclasses.fields(FluxParams)}
    later = {name: value for name, value in LATER[family].items() if name in known}
    return {**SETTINGS[family], **sizes, **later}


def plugin_package(name: str = "visual_planner_pack") -> str:
    """Make the plugin's modules importable under a package's name, without the nodes, which need all of ComfyUI."""
    for package, folder in ((name, ROOT), (f"{name}.nodes", ROOT / "nodes")):
        module = types.ModuleType(package)
        module.__path__ = [str(folder)]
        sys.modules[package] = module
    return name


class Step:
    """One step of a plan, conditioned in one way.

    Args:
        network: ComfyUI's FLUX.
        plugin: name of our plugin's package.
        spec: PlannerSpec, which determines the condition tokens.
        words: text tokens.
        conditioned: False leaves the condition out.
        dtype: dtype of inputs, and therefore of the computation; None: that of the weights.
    """

    def __init__(self, network, plugin: str, spec, words: int, conditioned: bool, dtype=None) -> None:
        import torch

        in_context = importlib.import_module(f"{plugin}.nodes.comfy.conditioning.in_context")
        self.network, self.caches = network, in_context.condition_cache
        self.device = network.img_in.weight.device
        self.dtype = network.img_in.weight.dtype if dtype is None else dtype
        generator = torch.Generator(self.device).manual_seed(1)

        def noise(*shape):
            return torch.randn(shape, generator=generator, device=self.device).to(self.dtype)

        pooled = network.params.vec_in_dim
        text = noise(1, words, network.params.context_in_dim)
        self.inputs = noise(1, *spec.latent_shape), text, None if pooled is None else noise(1, pooled)
        self.options: dict = {"cond_or_uncond": [0]}
        self.references: dict = {}
        if conditioned:
            placing = in_context.Placing(spec.layout, spec.condition_tokens, spec.position_ids, spec.base_family)
            self.options["wrappers"] = {"diffusion_model": {in_context.KEY: [in_context.in_context_wrapper(placing)]}}
            self.references["ref_latents"] = [noise(1, *spec.condition_latent_shape)]
            self.references[in_context.mark.KEY] = in_context.mark.Mark(0)
        self.options[self.caches.KEY] = self.caches.ConditionCache()

    def __call__(self, latent=None, sigma: float = SIGMA):
        """Velocity (1, C, h, w) at a noise level, of the given latent or else of the step's own."""
        import torch

        own, text, pooled = self.inputs
        level, guidance = (torch.full((1,), value, device=self.device) for value in (sigma, GUIDANCE))
        given = own if latent is None else latent
        options = dict(self.options)
        return self.network(given, level, text, pooled, guidance, transformer_options=options, **self.references)

    def plan(self, levels) -> object:
        """Euler steps over noise levels, from the step's own latent; the condition is recomputed."""
        self.options[self.caches.KEY] = self.caches.ConditionCache()
        latent = self.inputs[0]
        for now, following in pairwise(levels):
            latent = latent + float(following - now) * self(latent, float(now))
        return latent


def pass_of_the_condition(step: Step, plugin: str, spec):
    """Function that runs what a cached condition costs once per plan: its own tokens through all blocks.

    It is run once here, and its result is put into the step's cache.

    Returns:
        The function, and the bytes of the keys and values that it returns.
    """
    import torch

    class Executor:
        """Stands for what ComfyUI passes to a wrapper: the network without wrappers."""

        original, class_obj = staticmethod(step.network._forward), step.network

    latent, text, pooled = step.inputs
    maths = importlib.import_module(f"{plugin}.visual_planner.planner.conditioning")
    family = spec.base_family
    index = maths.condition_token_index(spec.layout, spec.cell_tokens, spec.condition_tokens)
    plain = maths.image_ids(*spec.grid_tokens, family=family)
    ids = maths.condition_ids(plain, index, spec.position_ids, family).to(step.device)
    source = step.caches.Source(step.references["ref_latents"][0][0], ids, torch.tensor(GUIDANCE, device=step.device))
    compute = step.caches.compute_rows(Executor, latent.new_full((1,), SIGMA), text, pooled, {})
    rows = step.options[step.caches.KEY].rows([source], compute)
    kept = sum(part.untyped_storage().nbytes() for pair in rows[0].values() for part in pair)
    return (lambda: compute([source])), kept

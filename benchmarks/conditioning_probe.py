"""The measuring process of the conditioning benchmark: `conditioning_probe.py COMFYUI SETTING`.

It prints a line for each case that has run, and at last the result as one line of JSON.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAD = 128
BLOCKS = 2
WORDS_WIDTH = {"flux1": 4096, "flux2": 7680}
"""Width of the text by family; of FLUX.2, klein-4B's."""
SIGMA, GUIDANCE = 0.7, 3.5
KILOBYTE, MEGABYTE = 1024, 1e6


class Step:
    """One step of a plan, conditioned in one way.

    Args:
        network: from `make_network`.
        plugin: name of our plugin's package.
        spec: PlannerSpec; the way of its condition tokens.
        words: text tokens.
        conditioned: False leaves the condition out.
    """

    def __init__(self, network, plugin: str, spec, words: int, conditioned: bool) -> None:
        import torch

        in_context = importlib.import_module(f"{plugin}.nodes.comfy.in_context")
        self.network, self.caches = network, in_context.condition_cache
        self.device = network.img_in.weight.device
        generator = torch.Generator(self.device).manual_seed(1)

        def noise(*shape):
            return torch.randn(shape, generator=generator, device=self.device).to(network.img_in.weight)

        family = spec.base_family
        pooled = noise(1, 768) if family.pooled else None
        self.inputs = noise(1, *spec.latent_shape), noise(1, words, WORDS_WIDTH[family.name]), pooled
        self.options: dict = {"cond_or_uncond": [0]}
        self.references: dict = {}
        if conditioned:
            placing = in_context.Placing(spec.layout, spec.condition_tokens, spec.position_ids, family)
            self.options["wrappers"] = {"diffusion_model": {in_context.KEY: [in_context.in_context_wrapper(placing)]}}
            mark = in_context.mark
            self.references = {"ref_latents": [noise(1, *spec.condition_latent_shape)], mark.KEY: mark.Mark(0)}
        self.options[self.caches.KEY] = self.caches.ConditionCache()

    def __call__(self) -> None:
        """Run the step."""
        import torch

        latent, text, pooled = self.inputs
        sigma, guidance = (torch.full((1,), value, device=self.device) for value in (SIGMA, GUIDANCE))
        options = dict(self.options)
        self.network(latent, sigma, text, pooled, guidance, transformer_options=options, **self.references)
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def make_network(family: str, heads: int, device):
    """FLUX with one block of each kind and random weights, in the dtype that the device is fast in."""
    import comfy.ldm.flux.model
    import comfy.ops
    import torch

    number_type = torch.float32 if device.type == "cpu" else torch.bfloat16
    own = {
        "flux1": {
            "in_channels": 16, "out_channels": 16, "vec_in_dim": 768, "mlp_ratio": 4.0, "axes_dim": [16, 56, 56],
            "theta": 10000, "patch_size": 2, "qkv_bias": True, "guidance_embed": True,
        },
        "flux2": {
            "in_channels": 128, "out_channels": 128, "vec_in_dim": None, "mlp_ratio": 3.0, "axes_dim": [32] * 4,
            "theta": 2000, "patch_size": 1, "qkv_bias": False, "guidance_embed": False, "global_modulation": True,
            "mlp_silu_act": True, "ops_bias": False,
        },
    }[family]  # fmt: skip
    network = comfy.ldm.flux.model.Flux(
        **own, context_in_dim=WORDS_WIDTH[family], hidden_size=heads * HEAD, num_heads=heads, depth=1,
        depth_single_blocks=1, dtype=number_type, device=device, operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    generator = torch.Generator(device).manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim == 2:
            parameter.normal_(0, 0.7 / parameter.shape[1] ** 0.5, generator=generator)
        else:
            parameter.fill_(0.5)
    return network.eval()


def pass_of_the_condition(step: Step, plugin: str, spec):
    """Function that runs what a cached condition costs once a plan: its own tokens through all blocks.

    It is run once here, and what it gives is put into the step's cache.
    """
    import torch

    class Executor:
        """What ComfyUI gives a wrapper: the network, and its forward without wrappers."""

        class_obj = step.network
        original = staticmethod(step.network._forward)

    latent, text, pooled = step.inputs
    maths = importlib.import_module(f"{plugin}.visual_planner.planner.conditioning")
    height, width = spec.grid_tokens
    index = maths.condition_token_index(spec.layout, spec.cell_tokens, spec.condition_tokens)
    family = spec.base_family
    ids = maths.image_ids(height, width, family=family)
    ids = maths.condition_ids(ids, index, spec.position_ids, family).to(step.device)
    source = step.caches.Source(step.references["ref_latents"][0][0], ids, torch.tensor(GUIDANCE, device=step.device))
    compute = step.caches.compute_rows(Executor, latent.new_full((1,), SIGMA), text, pooled, {})
    rows = step.options[step.caches.KEY].rows([source], compute)
    kept = sum(part.untyped_storage().nbytes() for pair in rows[0].values() for part in pair)
    return (lambda: compute([source])), kept


class Watch:
    """Runs a case, tells how long it took, and keeps the most memory it took on top of what was there [MB].

    Args:
        name: of the case.
        case: function to run.
        clock: [s].
        on_gpu: whether memory is the GPU's; else it is the process's, where the system tells.
    """

    def __init__(self, name: str, case, clock, on_gpu: bool) -> None:
        self.name, self.case, self.clock, self.on_gpu = name, case, clock, on_gpu
        self.megabytes: float | None = None

    def __call__(self) -> None:
        """Run it."""
        before = self._mark()
        started = self.clock()
        self.case()
        print(f"{self.name}: {self.clock() - started:.3f} s", flush=True)
        if before is not None:
            self.megabytes = max(self.megabytes or 0.0, (self._peak() - before) / MEGABYTE)

    def _mark(self) -> float | None:
        """Reset the peak; the memory in use [bytes], None where the system does not tell."""
        import torch

        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        marker = Path("/proc/self/clear_refs")
        if not marker.exists():
            return None
        marker.write_text("5", encoding="ascii")
        return _status("VmRSS") * KILOBYTE

    def _peak(self) -> float:
        import torch

        return torch.cuda.max_memory_allocated() if self.on_gpu else _status("VmHWM") * KILOBYTE


def _status(name: str) -> int:
    """A number of kilobytes out of this process's status."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def load_plugin(base: Path) -> str:
    """Let ComfyUI load our plugin, and return the name of its package."""
    import nodes

    link = base / "visual_planner_pack"
    link.symlink_to(ROOT, target_is_directory=True)
    if not asyncio.run(nodes.load_custom_node(str(link))):
        sys.exit("ComfyUI could not load the plugin")
    return str(link).replace(".", "_x_")


def main(comfyui: str, setting: dict) -> dict:
    """Measure and return the result."""
    sys.path.insert(0, comfyui)
    import torch
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()
    logging.disable(logging.WARNING)
    sys.path.append(str(ROOT))
    from benchmarks.harness import interleave

    device = torch.device("cpu" if args.cpu else "cuda")
    with tempfile.TemporaryDirectory() as folder:
        plugin = load_plugin(Path(folder))
        spec_of = importlib.import_module(f"{plugin}.visual_planner.planner.spec").PlannerSpec
        size = {"cell_height": setting["cell_height"], "cell_width": setting["cell_width"]}
        with torch.inference_mode():
            cases, tokens, kept, networks = {}, {}, {}, {}
            for family, prefix in setting["families"].items():
                networks[family] = make_network(family, setting["heads"], device)
                for way in ("full_grid", "first_cell", "first_cell_cached", "none"):
                    known = {"family": family, "condition_tokens": "first_cell" if way == "none" else way, **size}
                    spec = spec_of(**known)
                    step = Step(networks[family], plugin, spec, setting["words"], way != "none")
                    cases[f"{prefix}{way}"] = step
                    tokens[way] = 0 if way == "none" else spec.conditioning_tokens
                    if way == "first_cell_cached":
                        # It also warms up, and leaves the cached condition in place for the steps.
                        once, kept[family] = pass_of_the_condition(step, plugin, spec)
                        cases[f"{prefix}{setting['once']}"] = once
            # On a CPU its time, so that what other programs do meanwhile counts less.
            clock = time.process_time if args.cpu else time.perf_counter
            watches = {name: Watch(name, case, clock, device.type == "cuda") for name, case in cases.items()}
            seconds = interleave(watches, setting["repeats"], warmup=0, clock=clock)
    network = networks["flux1"]
    return {
        "seconds": seconds,
        "megabytes": {name: case.megabytes for name, case in watches.items()},
        "kept_megabytes_a_block": {family: size / BLOCKS / MEGABYTE for family, size in kept.items()},
        "tokens": {"text": setting["words"], "grid": spec.target_tokens, "condition": tokens},
        "device": f"{device.type}, {network.img_in.weight.dtype}, {torch.get_num_threads()} threads",
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], json.loads(sys.argv[2]))))

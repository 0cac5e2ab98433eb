"""The figures of docs/guides/quantised_bases.md: what is lost of a LoRA that is merged into quantised weights.

`PYTHONPATH=tests/nodes .venv/bin/python tests/nodes/measure_quantised.py [STORED ...]` prints the page's tables, of the
tiny planner and of layers at FLUX's widths; the ComfyUI is COMFYUI_PATH or the unpacked one. A test measures the same
at a small size.
"""

from __future__ import annotations

import importlib
import itertools
import os
import sys
import types
from pathlib import Path
from typing import NamedTuple

import numpy as np
import quantised
import torch
from PIL import Image
from torch.nn import Linear

ROOT = Path(__file__).parents[2]
FLUX = {"qkv": (9216, 3072), "second of the MLP": (3072, 12288)}
"""Layers of FLUX.1's blocks: (out, in)."""
SIZES = (0.003, 0.01, 0.03)
"""Size of the LoRA's change, relative to the weight's."""


class Loss(NamedTuple):
    """Distances of a layer's output from what it should be with the LoRA, relative to what the LoRA changes there.

    Args:
        merged: merged by ComfyUI, from the quantised layer's own output plus the LoRA's exact change.
        beside: beside the weights, from the same.
        merged_in_all: merged, from the float layer as it was before it was quantised, plus that change.
        beside_in_all: beside, from the same.
    """

    merged: float
    beside: float
    merged_in_all: float
    beside_in_all: float


def losses(lora_beside, stored: str, shape: tuple[int, int], size: float, compute=torch.bfloat16, rank=16) -> Loss:
    """Loss of a random LoRA on a random layer.

    Args:
        lora_beside: the plugin's module.
        stored: one of `quantised.STORED`.
        shape: (out, in) of the layer.
        size: of the LoRA's change, relative to the weight's.
        compute: dtype in which the layer computes.
        rank: of the LoRA.
    """
    import comfy.model_patcher
    from comfy.weight_adapter import LoRAAdapter

    generator = torch.Generator().manual_seed(0)
    out, width = shape
    network = torch.nn.Module()
    linear = Linear(width, out, bias=False).requires_grad_(False)
    linear.weight.copy_(torch.randn(out, width, generator=generator) * width**-0.5)
    down, up = torch.randn(rank, width, generator=generator), torch.randn(out, rank, generator=generator)
    up *= size * linear.weight.norm() / (up @ down).norm()
    adapter = LoRAAdapter(set(), (up, down, None, None, None, None))
    x = torch.randn(64, width, generator=generator).to(compute)
    change = x.float() @ down.T @ up.T
    network.layer = quantised.layer(linear, stored, compute)
    before, kept = x.float() @ linear.weight.T, network.layer(x).float()
    entry = lora_beside.Entry("layer.weight", adapter, 1.0)
    beside = lora_beside.Layer([entry], shape).forward_on(network.layer)(x)
    cpu = torch.device("cpu")
    patcher = comfy.model_patcher.ModelPatcher(network, load_device=cpu, offload_device=cpu)
    patcher.add_patches({"layer.weight": adapter})
    patcher.patch_model(device_to=cpu)
    merged = network.layer(x)

    def distance(got, wanted):
        return float((got.float() - wanted - change).norm() / change.norm())

    return Loss(distance(merged, kept), distance(beside, kept), distance(merged, before), distance(beside, before))


def tiny_planner(stored: str) -> tuple[list[float], list[float]]:
    """The shipped planner with its base stored otherwise, computing in float32.

    Returns:
        Distance of the velocity at the first step, and of the plan's latent after all steps, relative to the planner's
        own: merged and beside from the planner of the same stored weights, then from the planner as it ships.
    """
    import comfy.sample

    tiny, lora = plugin_module("nodes.comfy.tiny.tiny"), plugin_module("nodes.comfy.lora.lora")
    folder = tiny.TINY_FOLDER
    file = folder / "loras" / "tiny_planner.safetensors"
    spec = lora.read_spec(file, "tiny_planner", lora.FROM_FILE)
    models = [tiny.load_model(folder) for _ in range(3)]
    quantised.quantise(models[0], stored)
    quantised.round_as(models[1], models[0])
    clip, vae = tiny.load_clip(folder), tiny.load_vae(folder)
    positive = clip.encode_from_tokens_scheduled(clip.tokenize(spec.prompt("text", "push the red cube")))
    picture = Image.open(folder / "examples" / "first_frame.png").convert("RGB")
    frame = torch.from_numpy(np.array(picture)).float()[None] / 255
    condition = plugin_module("nodes.condition").VisualPlannerCondition

    def results(model, how):
        planner = lora.apply_lora(model, file, "tiny_planner", 1.0, how=how)
        patched, marked, _, latent, _ = condition.PREPARE_CLASS_CLONE({}).execute(
            model=planner, positive=positive, vae=vae, spec=spec, first_frame=frame
        ).result  # fmt: skip
        outputs = []

        def record(executor, *args, **kwargs):
            outputs.append(executor(*args, **kwargs))
            return outputs[-1]

        patched.add_wrapper_with_key("diffusion_model", "record", record)
        empty = latent["samples"]
        noise = comfy.sample.prepare_noise(empty, 1)
        plan = comfy.sample.sample(
            patched, noise, spec.steps, spec.cfg, "euler", "simple", marked, marked, empty, disable_pbar=True, seed=1
        )
        return outputs[0], plan

    merged, beside = results(models[0], "merged"), results(models[0], "beside")
    own, shipped = results(models[1], "merged"), results(models[2], "merged")
    pairs = ((merged, own), (beside, own), (merged, shipped), (beside, shipped))
    return tuple([float((a[n] - b[n]).norm() / b[n].norm()) for a, b in pairs] for n in (0, 1))


def plugin_module(name: str):
    """A module of the plugin, without ComfyUI's loading of custom nodes."""
    package = types.ModuleType("visual_planner_plugin")
    package.__path__ = [str(ROOT)]
    sys.modules.setdefault(package.__name__, package)
    return importlib.import_module(f"{package.__name__}.{name}")


def main() -> None:
    """Print the table."""
    sys.path.insert(0, os.environ.get("COMFYUI_PATH") or str(ROOT / ".cache" / "comfyui-0.3.75"))
    chosen = sys.argv[1:] or quantised.STORED
    sys.argv = sys.argv[:1]
    import comfy.cli_args

    comfy.cli_args.args.cpu = True
    lora_beside = plugin_module("nodes.comfy.lora.lora_beside")
    columns = ("merged", "beside", "merged, in all", "beside, in all")
    with torch.inference_mode():
        _print("what", "stored", *columns)
        for stored in chosen:
            for what, distances in zip(("velocity", "plan"), tiny_planner(stored), strict=True):
                _print(what, stored, *(f"{distance:.2%}" for distance in distances))
        _print("layer", "computes in", "stored", "LoRA's size", *columns)
        for name, shape in FLUX.items():
            for compute, stored, size in itertools.product((torch.float32, torch.bfloat16), chosen, SIZES):
                loss = losses(lora_beside, stored, shape, size, compute)
                dtype = str(compute).removeprefix("torch.")
                _print(name, dtype, stored, f"{size:.1%}", *(f"{part:.1%}" for part in loss))


def _print(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

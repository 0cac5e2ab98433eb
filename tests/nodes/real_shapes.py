"""One process with FLUX.1's widths: `real_shapes.py COMFYUI BASE CONDITION_TOKENS ...`; a line of JSON for each.

A random checkpoint in the original file layout (hidden 3072, 24 heads, one double and one single block, bf16), a base
and a task LoRA of rank 128, and a small VAE go through the stock loader, our nodes and the stock sampler: one step of
the longest sequence at 960x720, and two steps of a cached condition on small cells.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HIDDEN, HEAD, TEXT, POOLED, TOKEN = 3072, 128, 4096, 768, 64
WORDS, RANK = 512, 128
STEPS = {"first_cell": 1, "first_cell_cached": 2}
"""The second step of a cached condition uses what the first has kept."""
CELLS = {"first_cell": (240, 320), "first_cell_cached": (48, 64)}
"""Height and width of a cell [px]. A step at 960x720 is 2.5 TFLOP, and the condition in the sequence needs the most
memory; that kept keys and values have the widths' shapes shows at any size."""


def checkpoint_shapes() -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a FLUX.1 checkpoint with one block of each kind, by its original name."""
    shapes = {}

    def linear(name: str, outputs: int, inputs: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

    linear("img_in", HIDDEN, TOKEN)
    linear("txt_in", HIDDEN, TEXT)
    for name, inputs in (("time_in", 256), ("guidance_in", 256), ("vector_in", POOLED)):
        linear(f"{name}.in_layer", HIDDEN, inputs)
        linear(f"{name}.out_layer", HIDDEN, HIDDEN)
    for stream in ("img", "txt"):
        block = f"double_blocks.0.{stream}"
        linear(f"{block}_mod.lin", 6 * HIDDEN, HIDDEN)
        linear(f"{block}_attn.qkv", 3 * HIDDEN, HIDDEN)
        linear(f"{block}_attn.proj", HIDDEN, HIDDEN)
        linear(f"{block}_mlp.0", 4 * HIDDEN, HIDDEN)
        linear(f"{block}_mlp.2", HIDDEN, 4 * HIDDEN)
        shapes |= {f"{block}_attn.norm.{part}_norm.scale": (HEAD,) for part in ("query", "key")}
    linear("single_blocks.0.modulation.lin", 3 * HIDDEN, HIDDEN)
    linear("single_blocks.0.linear1", 7 * HIDDEN, HIDDEN)
    linear("single_blocks.0.linear2", HIDDEN, 5 * HIDDEN)
    shapes |= {f"single_blocks.0.norm.{part}_norm.scale": (HEAD,) for part in ("query", "key")}
    linear("final_layer.adaLN_modulation.1", 2 * HIDDEN, HIDDEN)
    linear("final_layer.linear", TOKEN, HIDDEN)
    return shapes


def write_checkpoint(file: Path) -> None:
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, shape in checkpoint_shapes().items():
        spread = 0.7 / shape[-1] ** 0.5 if len(shape) == 2 else 0.02
        values = torch.empty(shape, dtype=torch.bfloat16).normal_(0, spread, generator=generator)
        tensors[name] = values.fill_(1.0) if name.endswith(".scale") else values
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file)


def write_lora(file: Path, metadata: dict[str, str], seed: int) -> None:
    """Rank 128 on attention and feed-forwards of both blocks, the names of diffusers."""
    import torch
    from safetensors.torch import save_file

    picture, text = ("to_q", "to_k", "to_v", "to_out.0"), ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    modules = {f"transformer_blocks.0.attn.{name}": (HIDDEN, HIDDEN) for name in (*picture, *text)}
    for part in ("ff", "ff_context"):
        modules[f"transformer_blocks.0.{part}.net.0.proj"] = (4 * HIDDEN, HIDDEN)
        modules[f"transformer_blocks.0.{part}.net.2"] = (HIDDEN, 4 * HIDDEN)
    modules |= {f"single_transformer_blocks.0.attn.to_{letter}": (HIDDEN, HIDDEN) for letter in "qkv"}
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (outputs, inputs) in modules.items():
        for half, shape in (("A", (RANK, inputs)), ("B", (outputs, RANK))):
            values = torch.empty(shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator)
            tensors[f"transformer.{name}.lora_{half}.weight"] = values
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file, metadata=metadata)


def main(comfyui: Path, base: Path, kinds: list[str]) -> None:
    """Plan with each kind of condition tokens; prints a line of JSON each: what there is to check."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
    import torch
    from tiny_factory import write_vae

    from launcher.comfyui import ComfyUI
    from support.inprocess import InProcessComfyUI
    from visual_planner.planner.spec import PlannerSpec

    write_checkpoint(base / "models" / "diffusion_models" / "flux.safetensors")
    write_lora(base / "models" / "loras" / "pretrain.safetensors", {}, seed=1)
    for kind in kinds:
        height, width = CELLS[kind]
        spec = PlannerSpec(condition_tokens=kind, modes=("text",), cell_height=height, cell_width=width)
        write_lora(base / "models" / "loras" / f"{kind}.safetensors", spec.to_metadata(), seed=2)
    write_vae(base / "tiny" / "vae")

    comfy = InProcessComfyUI(ComfyUI(comfyui, "", Path(sys.executable), bundled=True), base)
    from comfy.cli_args import args

    args.bf16_unet = True  # what a user without 32-bit room gives the server: --bf16-unet
    with torch.inference_mode():
        (model,) = comfy.call("UNETLoader", unet_name="flux.safetensors", weight_dtype="default")
        for kind in kinds:
            print(json.dumps(plan(comfy, model, base, kind)), flush=True)


def plan(comfy, model, base: Path, kind: str) -> dict:
    """Load the planner of one kind of condition tokens onto the model and sample a plan; what there is to check."""
    import torch

    tiny = importlib.import_module(f"{comfy.plugin.__name__}.nodes.comfy.tiny.tiny_flux1")
    network = model.model.diffusion_model
    planner, read = comfy.call(
        "VisualPlannerLoraLoader", model=model, lora_name=f"{kind}.safetensors", base_lora_name="pretrain.safetensors"
    )
    generator = torch.Generator().manual_seed(3)
    words = torch.randn(1, WORDS, TEXT, generator=generator)
    positive = [[words, {"pooled_output": torch.randn(1, POOLED, generator=generator)}]]
    frame = torch.rand(1, *CELLS[kind], 3, generator=generator)
    conditioned = comfy.call(
        "VisualPlannerCondition", model=planner, positive=positive, vae=tiny.load_vae(base / "tiny"), spec=read,
        first_frame=frame, plans=1, fit="crop",
    )  # fmt: skip
    (latent,) = comfy.call(
        "KSampler", model=conditioned[0], seed=4, steps=STEPS[kind], cfg=1.0, sampler_name="euler", scheduler="simple",
        positive=conditioned[1], negative=conditioned[2], latent_image=conditioned[3], denoise=1.0,
    )  # fmt: skip
    samples = latent["samples"]
    return {
        "weight_type": str(network.double_blocks[0].img_attn.qkv.weight.dtype),
        "hidden": network.hidden_size,
        "heads": network.num_heads,
        "patched_weights": len(planner.patches),
        "patches_of_one": max(len(patches) for patches in planner.patches.values()),
        "spec": read.condition_tokens,
        "shape": list(samples.shape),
        "finite": bool(samples.isfinite().all()),
        "spread": float(samples.std()),
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])

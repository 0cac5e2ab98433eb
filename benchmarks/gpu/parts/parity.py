"""The tiny planner on the GPU beside the same on the CPU, and its cached keys in bfloat16."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from training.model.pipeline import PlannerPipeline, read_spec
from training.sections.config import load_config
from visual_planner.planner.spec import PlannerSpec

from ..size import NotHereError, Report, Size

ROOT = Path(__file__).resolve().parents[3]
PLANNER = ROOT / "models" / "tiny_planner"
LORA = PLANNER / "loras" / "tiny_planner.safetensors"
PROMPT = "push the red cube to the left"
GREYS = 255
ALLOWED = 2
"""Largest difference of a pixel between the devices in float32 [grey levels]."""


def parity(report: Report, size: Size) -> None:
    """Plans of one seed on both devices.

    Raises:
        NotHereError: the base's weights are missing.
        RuntimeError: the plans differ.
    """
    require_base()
    steps = None if size.released else size.plans[0]
    report(lora=LORA.is_file(), allowed=ALLOWED)
    reference = _plan(_open("cpu", "float32"), steps)
    differences = {}
    for name, dtype, tf32 in (
        ("float32", "float32", False),
        ("float32, tf32 in convolutions", "float32", True),
        ("bfloat16", "bfloat16", True),
    ):
        torch.backends.cudnn.allow_tf32 = tf32
        differences[name] = _difference(reference, _plan(_open(size.device, dtype), steps))
    cached = [_plan(_open(device, dtype, "first_cell_cached"), steps)
              for device, dtype in (("cpu", "float32"), (size.device, "bfloat16"))]  # fmt: skip
    differences["cached keys, bfloat16"] = _difference(*cached)
    report(grey_levels=differences)
    if differences["float32"]["largest"] > ALLOWED:
        raise RuntimeError(
            f"a plan on the GPU must differ by at most {ALLOWED} grey levels from the CPU's, got "
            f"{differences['float32']['largest']:.2f}"
        )


def require_base() -> None:
    """Check that the tiny base is here.

    Raises:
        NotHereError: it is not.
    """
    if not (PLANNER / "transformer" / "diffusion_pytorch_model.safetensors").is_file():
        raise NotHereError(f"the tiny planner's weights must be in {PLANNER}, but they are missing")


def _open(device: str, dtype: str, condition_tokens: str | None = None) -> PlannerPipeline:
    """The planner; its base alone where the LoRA was left behind."""
    lora = LORA if LORA.is_file() else None
    planner = PlannerPipeline.load(PLANNER, lora, _spec(lora), dtype, device)
    if condition_tokens is None:
        return planner
    spec = replace(planner.spec, condition_tokens=condition_tokens)
    return PlannerPipeline(planner.transformer, planner.vae, planner.encoders, spec)


def _spec(lora: Path | None) -> PlannerSpec:
    if lora is not None:
        return read_spec(lora)
    return load_config(ROOT / "training" / "configs" / "tiny.yaml").planner_spec()


def _plan(planner: PlannerPipeline, steps: int | None) -> torch.Tensor:
    """Frames (1, F, h, w, 3) float32 in [0, 1], on the CPU."""
    with Image.open(PLANNER / "examples" / "first_frame.png") as image:
        frame = np.array(image.convert("RGB").resize((planner.spec.cell_width, planner.spec.cell_height)))
    return planner.plan(frame[None], [planner.spec.prompt("text", PROMPT)], seed=0, steps=steps).float().cpu()


def _difference(one: torch.Tensor, other: torch.Tensor) -> dict[str, float]:
    away = (one - other).abs() * GREYS
    return {"largest": away.max().item(), "mean": away.mean().item()}

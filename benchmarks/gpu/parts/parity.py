"""The GPU against the CPU: steps of small random networks of both families, and plans of the tiny planner."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from training.model.bases.registry import base_of
from training.model.pipeline import PlannerPipeline, read_spec
from training.sections.config import load_config
from visual_planner.planner.families import FLUX1, FLUX2
from visual_planner.planner.spec import PlannerSpec

from ..measuring.networks import random_transformer, spec_of
from ..size import REHEARSAL, NotHereError, Report, Size
from .planning import CACHED, WAYS, Step

ROOT = Path(__file__).resolve().parents[3]
PLANNER = ROOT / "models" / "tiny_planner"
LORA = PLANNER / "loras" / "tiny_planner.safetensors"
PROMPT = "push the red cube to the left"
GREYS = 255
ALLOWED = 2
"""Largest difference of a pixel between the devices in float32 [grey levels]."""
ALLOWED_IN_A_STEP = 1e-3
"""Largest relative difference of a velocity between the devices in float32."""


def parity(report: Report, size: Size) -> None:
    """Steps of random networks and plans of one seed, on both devices.

    Raises:
        NotHereError: the tiny base's weights are missing.
        RuntimeError: steps or plans differ.
    """
    for family in (FLUX1.name, FLUX2.name):
        _compare_steps(report, size, family)
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


def _compare_steps(report: Report, size: Size, family: str) -> None:
    """Velocities of a small random network on both devices: norms of the difference relative to the CPU's.

    Raises:
        RuntimeError: they differ in float32.
    """
    small = replace(REHEARSAL, cell=(64, 64))
    there = replace(small, device=size.device)
    model, found = random_transformer(family, small, torch.float32), {}
    copy = deepcopy(model).to(size.device)
    torch.backends.cudnn.allow_tf32 = False
    for way in (*WAYS, CACHED):
        if way == CACHED:
            for network in (model, copy):
                base_of(spec_of(small, family)).split_attention(network)
        reference = _velocity(Step(model, small, family, way, short=False))
        for name, short in (("float32", False), ("bfloat16", True)):
            away = _velocity(Step(copy, there, family, way, short)) - reference
            found[f"{way}, {name}"] = (away.norm() / reference.norm()).item()
    report(**{f"step_{family}": found})
    worst = max(value for name, value in found.items() if name.endswith("float32"))
    if not worst <= ALLOWED_IN_A_STEP:
        raise RuntimeError(
            f"a step of {family} in float32 must differ by at most {ALLOWED_IN_A_STEP:g} between the devices, "
            f"got {worst:.2g}"
        )


def _velocity(step: Step) -> torch.Tensor:
    step.prepare()
    return step().float().cpu()


def require_base() -> None:
    """Check that the tiny base is available.

    Raises:
        NotHereError: it is missing.
    """
    if not (PLANNER / "transformer" / "diffusion_pytorch_model.safetensors").is_file():
        raise NotHereError(f"the tiny planner's weights must be in {PLANNER}, but they are missing")


def _open(device: str, dtype: str, condition_tokens: str | None = None) -> PlannerPipeline:
    """The planner; only its base if the LoRA was left behind."""
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

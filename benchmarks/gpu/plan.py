"""The parts by importance: if time is short, what matters most is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """One measurement in its own process.

    Args:
        name: name in the results and for `--only`.
        function: "module:function".
        limit: time after which it is stopped on a GPU [s].
        least: time that must be left to start it [s].
        arguments: arguments for the function.
        required: the others are not tried without it.
        shared: its limit is its part of the remaining time, divided evenly among parts of this kind.
    """

    name: str
    function: str
    limit: float
    least: float
    arguments: dict[str, object] = field(default_factory=dict)
    required: bool = False
    shared: bool = False


def _planning(name: str, limit: float, least: float, kind: str = "planning:planning", **arguments: object) -> Part:
    return Part(f"planning/{name}", f"benchmarks.gpu.parts.{kind}", limit, least, arguments)


def _comfyui(name: str, limit: float, least: float, **arguments: object) -> Part:
    return _planning(f"{name}", limit, least, "comfyui:planning_in_comfyui", **arguments)


def _training(name: str, limit: float, least: float, recipe: str, **arguments: object) -> Part:
    function = "benchmarks.gpu.parts.training:training"
    return Part(f"training/{name}", function, limit, least, {"recipe": recipe, **arguments})


PARTS: tuple[Part, ...] = (
    Part("machine", "benchmarks.gpu.parts.machine:machine", 60, 0, required=True),
    _planning("flux1", 75, 20, family="flux1"),
    _training("flux1", 90, 30, "flux_dev_80gb.yaml"),
    _planning("klein", 60, 15, family="flux2"),
    _training("klein", 90, 30, "klein_80gb.yaml"),
    Part("parity", "benchmarks.gpu.parts.parity:parity", 60, 15),
    _comfyui("flux1 in ComfyUI", 60, 20, family="flux1"),
    _comfyui("klein in ComfyUI", 60, 15, family="flux2"),
    _training("metaworld", 120, 15, "metaworld.yaml", tiny_planner=True),
    _training("flux1 int8", 75, 30, "flux_dev_24gb.yaml"),
    _training("klein int8", 60, 20, "klein_12gb.yaml"),
    _training("flux1 nf4", 75, 30, "flux_dev_24gb.yaml", changes={"quantize": "nf4"}),
    _training("flux1 fp8", 75, 30, "flux_dev_24gb.yaml", changes={"quantize": "fp8"}),
    _planning("flux1 fp8", 60, 20, family="flux1", form="fp8"),
    _planning("klein fp8", 60, 15, family="flux2", form="fp8"),
    _comfyui("flux1 fp8 in ComfyUI", 60, 20, family="flux1", fp8=True),
    _comfyui("klein fp8 in ComfyUI", 60, 15, family="flux2", fp8=True),
    _training("klein compiled", 120, 45, "klein_80gb.yaml", compiled=True),
    _planning("flux1 compiled", 120, 45, "planning:compiled_planning", family="flux1"),
    _training("flux1 compiled", 120, 60, "flux_dev_80gb.yaml", compiled=True),
    _planning("klein compiled", 90, 45, "planning:compiled_planning", family="flux2"),
    _comfyui("flux1 compiled in ComfyUI", 90, 45, family="flux1", compiled=True),
    _training("klein in 8 GB", 60, 20, "klein_8gb.yaml"),
    _training("flux1 in 16 GB", 75, 30, "flux_dev_16gb.yaml"),
    _training("klein fused adapter", 60, 20, "klein_80gb.yaml", changes={"lora.fused_forward": True}),
    _training("flux1 fused adapter", 90, 30, "flux_dev_80gb.yaml", changes={"lora.fused_forward": True}),
    _training("klein int8 products", 60, 20, "klein_12gb.yaml", changes={"quantized_products": True}),
    _training("klein fp8 products", 60, 20, "klein_12gb.yaml", changes={"quantize": "fp8", "quantized_products": True}),
    Part("products of 8 bits", "benchmarks.gpu.parts.products:products", 45, 10),
    Part("resume after a kill", "benchmarks.gpu.parts.resume:resume", 90, 30),
)


def runs(folder: Path) -> tuple[Part, ...]:
    """One part for each prepared training in a folder; they come last in a run."""
    files = sorted(folder.glob("*/config.yaml"))
    return tuple(
        Part(f"quality/{file.parent.name}", "benchmarks.gpu.parts.quality:quality", math.inf, 30,
             {"folder": str(file.parent.absolute())}, shared=True)
        for file in files
    )  # fmt: skip

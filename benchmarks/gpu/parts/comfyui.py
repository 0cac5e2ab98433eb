"""Planning with ComfyUI's own classes and our patch: steps, plans, memory; bf16, fp8, compiled blocks.

Only ComfyUI's FLUX network, its operations and our wrapper run; the sampler is a loop of Euler steps, whose cost is the
same in ComfyUI's own samplers.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import torch

from visual_planner.planner.conditioning import sigmas
from visual_planner.planner.families import FLUX1, FLUX2

from ...native import Step, pass_of_the_condition, plugin_package, settings_of
from ..measuring.clock import GIB, Meter, medians, ratios, weights_of
from ..measuring.flops import Shape, tokens_of
from ..measuring.networks import compile_blocks, fill, spec_of
from ..measuring.rates import rate
from ..size import NotHereError, Report, Size

WAYS = ("none", "first_cell", "full_grid", "first_cell_cached")
_SIZES = {FLUX1.name: (24, 19, 38), FLUX2.name: (24, 5, 20)}
"""Attention heads and blocks of FLUX.1-dev and FLUX.2-klein-4B."""
_TINY_SIZE, _TINY_WORDS = (2, 1, 1), 64
FOLDER_VARIABLE = "VISUAL_PLANNER_COMFYUI"
"""Where ComfyUI is; otherwise COMFYUI_PATH or the one that the launcher has unpacked is used."""


def planning_in_comfyui(report: Report, size: Size, family: str, fp8: bool = False, compiled: bool = False) -> None:
    """Steps and plans of a family's released base.

    Args:
        report: takes figures.
        size: size of the run.
        family: name of the family.
        fp8: weights in float8_e4m3fn, cast when they are used, as ComfyUI does without fp8 products.
        compiled: compile every block, and measure with and without.

    Raises:
        NotHereError: ComfyUI is missing.
    """
    plugin = _open(size)
    meter = Meter(size.device, size.repeats, size.warmup)
    with torch.inference_mode(not compiled), torch.no_grad():
        network = make_network(family, size, fp8)
        report(weights_gib=sum(tensor.nbytes for tensor in weights_of(network)) / GIB)
        if compiled:
            _compiled(report, size, meter, network, plugin, family)
        else:
            _plain(report, size, meter, network, plugin, family)


def make_network(family: str, size: Size, fp8: bool = False) -> torch.nn.Module:
    """ComfyUI's FLUX with random weights on the device."""
    import comfy.ldm.flux.model
    import comfy.ops

    settings = settings_of(family, *(_SIZES[family] if size.released else _TINY_SIZE))
    if not size.released:
        settings["context_in_dim"] = _TINY_WORDS
    operations = comfy.ops.manual_cast if fp8 else comfy.ops.disable_weight_init
    network = comfy.ldm.flux.model.Flux(
        **settings, dtype=torch.float8_e4m3fn if fp8 else torch.bfloat16, device="meta", operations=operations
    ).to_empty(device=size.device)
    fill(network)
    return network.eval()


def _open(size: Size) -> str:
    """Put ComfyUI on the import path, and return the name of our plugin's package."""
    folder = comfyui_folder()
    sys.path.insert(0, str(folder))
    from comfy.cli_args import args

    args.cpu = size.device == "cpu"
    return plugin_package()


def comfyui_folder() -> Path:
    """Folder of ComfyUI: the packed one, or the one that the launcher finds.

    Raises:
        NotHereError: there is none.
    """
    if named := os.environ.get(FOLDER_VARIABLE):
        folder = Path(named)
    else:
        from launcher.comfyui import UNPACKED_NAME
        from launcher.paths import CACHE

        folder = Path(os.environ.get("COMFYUI_PATH") or CACHE / UNPACKED_NAME)
    if not (folder / "comfy" / "ldm" / "flux" / "model.py").is_file():
        raise NotHereError(
            f"ComfyUI must be in {folder} (comfy/ldm/flux/model.py): set {FOLDER_VARIABLE} or COMFYUI_PATH"
        )
    return folder


def _plain(report: Report, size: Size, meter: Meter, network, plugin: str, family: str) -> None:
    steps = {way: _step(network, plugin, size, family, way) for way in WAYS}
    spec = _spec(plugin, size, family, "first_cell_cached")
    once, kept = pass_of_the_condition(steps["first_cell_cached"], plugin, spec)
    raw = meter.rounds(steps)
    _report_steps(report, size, network, family, raw)
    seconds, ratio = meter.median(once), ratios(raw, "none")
    report(
        condition_once_s=seconds,
        condition_kept_mb=kept / 1e6,
        ratio_to_none=ratio,
        cached_ratio_to_none={"a step": ratio["first_cell_cached"]}
        | {f"plan of {n}": ratio["first_cell_cached"] + seconds / n / medians(raw)["none"] for n in size.plans},
    )
    report(peak_gib={way: meter.peak(step, lambda: weights_of(network)) / GIB for way, step in steps.items()})

    for count in size.plans:
        levels = sigmas(count, spec.mu())
        report(**{f"plan_of_{count}_s": meter.once(lambda levels=levels: steps["first_cell_cached"].plan(levels))})
    report(finite=bool(steps["first_cell_cached"]().isfinite().all()))


def _compiled(report: Report, size: Size, meter: Meter, network, plugin: str, family: str) -> None:
    step = _step(network, plugin, size, family, "first_cell")
    plain = meter.median(step)
    report(plain_step_s=plain, blocks=compile_blocks(network, size), backend=size.backend)
    first = meter.once(step)
    seconds = meter.median(step)
    report(compiled_first_cell={"first_step_s": first, "step_s": seconds, "to_plain_first_cell": seconds / plain})


def _spec(plugin: str, size: Size, family: str, way: str):
    """A spec of the plugin's own class, which is imported under another name than ours."""
    kind = importlib.import_module(f"{plugin}.visual_planner.planner.spec").PlannerSpec
    own = spec_of(size, family, "first_cell" if way == "none" else way)
    return kind(
        family=family, cell_height=own.cell_height, cell_width=own.cell_width, condition_tokens=own.condition_tokens
    )


def _step(network, plugin: str, size: Size, family: str, way: str) -> Step:
    return Step(network, plugin, _spec(plugin, size, family, way), size.words, way != "none", torch.bfloat16)


def _report_steps(report: Report, size: Size, network, family: str, raw: dict[str, list[float]]) -> None:
    params, rows = network.params, {}
    weights = 4 + (3 if params.mlp_silu_act else 2) * params.mlp_ratio
    shape = Shape(params.hidden_size, params.depth + params.depth_single_blocks, weights)
    for way, seconds in medians(raw).items():
        spec = spec_of(size, family, "first_cell" if way == "none" else way)
        operations = shape.forward(*tokens_of(way, spec.target_tokens, spec.conditioning_tokens, size.words))
        rows[way] = {"step_s": seconds, **rate(operations, seconds, size.device), "raw_s": raw[way]}
    report(**rows)

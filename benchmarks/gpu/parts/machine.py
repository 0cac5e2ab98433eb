"""The machine itself: GPU, versions, and its attainable rates in a plain product and a plain copy."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import torch

from ..measuring.cards import peak_of
from ..measuring.clock import Meter
from ..size import NotHereError, Report, Size

PACKAGES = ("torch", "triton", "diffusers", "transformers", "peft", "accelerate", "bitsandbytes", "numpy")


def machine(report: Report, size: Size) -> None:
    """Report the machine and its attainable rates.

    Raises:
        NotHereError: it has no GPU.
    """
    report(python=platform.python_version(), cpus=os.cpu_count(), packages=_versions())
    if size.device == "cuda":
        if not torch.cuda.is_available():
            raise NotHereError(
                f"bench gpu needs a CUDA GPU, but torch {torch.__version__} sees none: --rehearse runs everything at "
                "tiny size on the CPU"
            )
        _report_gpu(report)
    _report_rates(report, size)


def _report_gpu(report: Report) -> None:
    name, found = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0)
    peak = peak_of(name)
    report(
        gpu=name,
        gpu_gib=found.total_memory / 2**30,
        compute_capability=f"{found.major}.{found.minor}",
        cuda=torch.version.cuda,
        peak_tflops=None if peak is None else peak[0],
        peak_source="not in the table of GPUs" if peak is None else peak[1],
    )


def _report_rates(report: Report, size: Size) -> None:
    meter = Meter(size.device, size.repeats, size.warmup)
    side = size.square
    # random numbers, since products of zeros take a GPU less power and therefore less time
    left, right = (torch.randn(side, side, device=size.device).to(torch.bfloat16) for _ in range(2))
    out = torch.empty_like(left)
    seconds = meter.median(lambda: torch.mm(left, right, out=out))
    report(product_tflops=2 * side**3 / seconds / 1e12)
    source = torch.randn(4 * side, side, device=size.device)
    sink = torch.empty_like(source)
    seconds = meter.median(lambda: sink.copy_(source))
    report(copy_tb_per_s=2 * source.nbytes / seconds / 1e12)


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "none"
    return found

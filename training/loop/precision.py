"""The precision in which a process multiplies matrices."""

import warnings

import torch

from ..errors import TrainingError


def resolved(mixed_precision: str, on_cpu: bool) -> str:
    """Autocast's kind, "no", "bf16" or "fp16", for a section's `mixed_precision`.

    "auto" is bf16 where the hardware supports it and is several times as fast: GPUs that have it, and CPUs with AVX-512
    BF16 or AMX. Elsewhere bfloat16 is emulated and slower than float32, so "auto" means no autocast.

    Raises:
        TrainingError: the device cannot compute in that precision.
    """
    if on_cpu and mixed_precision == "fp16":
        raise TrainingError("mixed_precision fp16 needs a GPU: use auto, bf16 or no on a CPU")
    if mixed_precision != "auto":
        return mixed_precision
    if on_cpu:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    else:
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if native else "no"


def expect_mixed_norms() -> None:
    """Silence the warning about norms of bfloat16 inputs with float32 weights, which autocast makes on purpose."""
    warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")

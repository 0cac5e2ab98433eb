"""Peak rates of GPUs in dense bfloat16 matrix products, as their vendors state them."""

from __future__ import annotations

PEAKS: tuple[tuple[str, float, str], ...] = (
    ("GB200", 2500, "NVIDIA GB200 NVL72 specifications: 360 PFLOP/s with sparsity in 72 GPUs, halved"),
    ("B200", 2250, "NVIDIA HGX B200 specifications: 36 PFLOP/s with sparsity in 8 GPUs, halved"),
    ("H200 NVL", 835.5, "NVIDIA H200 data sheet: 1671 with sparsity, halved"),
    ("H200", 989.5, "NVIDIA H200 data sheet: 1979 with sparsity, halved"),
    ("H100 NVL", 835.5, "NVIDIA H100 data sheet: 1671 with sparsity, halved"),
    ("H100 PCIe", 756, "NVIDIA Hopper architecture white paper"),
    ("H100", 989.4, "NVIDIA Hopper architecture white paper, SXM5"),
    ("A100", 312, "NVIDIA A100 data sheet"),
    ("A40", 149.7, "NVIDIA A40 data sheet"),
    ("A10G", 70, "AWS, description of G5 instances"),
    ("A10", 125, "NVIDIA A10 data sheet"),
    ("L40S", 362, "NVIDIA L40S data sheet"),
    ("L40", 181, "NVIDIA L40 data sheet"),
    ("L4", 121, "NVIDIA L4 data sheet: 242 with sparsity, halved"),
    ("RTX PRO 6000", 503.8, "NVIDIA RTX Blackwell PRO architecture white paper"),
    ("RTX 6000 Ada", 364.2, "NVIDIA Ada architecture white paper"),
    ("RTX A6000", 154.8, "NVIDIA Ampere GA102 architecture white paper"),
    ("RTX 5090", 209.5, "NVIDIA RTX Blackwell architecture white paper, float32 accumulation"),
    ("RTX 5080", 112.6, "NVIDIA RTX Blackwell architecture white paper, float32 accumulation"),
    ("RTX 4090", 165.2, "NVIDIA Ada architecture white paper, float32 accumulation"),
    ("RTX 4080", 97.5, "NVIDIA Ada architecture white paper, float32 accumulation"),
    ("RTX 4070", 58.3, "NVIDIA Ada architecture white paper, float32 accumulation"),
    ("RTX 3090", 71, "NVIDIA Ampere GA102 architecture white paper, float32 accumulation"),
    ("RTX 3080", 59.5, "NVIDIA Ampere GA102 architecture white paper, float32 accumulation"),
)
"""(part of the device's name, TFLOP/s, source); the first that fits counts, so longer names come first."""


def peak_of(name: str) -> tuple[float, str] | None:
    """Peak [TFLOP/s] and source of a GPU's name; None for one that the table lacks.

    Variants that the table does not distinguish ("Ti", "SUPER", "D", laptop GPUs) count as not in it.
    """
    if any(word in name.split() for word in ("Ti", "SUPER", "D", "Laptop", "Max-Q")):
        return None
    return next(((peak, source) for part, peak, source in PEAKS if part in name), None)

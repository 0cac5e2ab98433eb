"""Transformers with random weights, created on the device: no file, no copy in RAM, seconds for 12 billion weights."""

from __future__ import annotations

import torch

from training.model.bases.registry import base_of
from visual_planner.planner.families import FLUX1, FLUX2
from visual_planner.planner.spec import PlannerSpec

from ..size import Size

TINY = {
    FLUX1.name: {"joint_attention_dim": 64, "pooled_projection_dim": 32, "guidance_embeds": True},
    FLUX2.name: {"joint_attention_dim": 96, "guidance_embeds": False},
}
"""Widths of the rehearsal's text, by family; its networks have one block of each kind and two heads."""
_SPREAD, _SPREAD_OF_GATES = 0.7, 0.1
"""Standard deviation of a weight times the root of its layer's inputs; small in layers that scale or gate residuals."""


def spec_of(size: Size, family: str, condition_tokens: str = "first_cell") -> PlannerSpec:
    """Record of a planner of a family at the run's size."""
    height, width = size.cell
    return PlannerSpec(family=family, cell_height=height, cell_width=width, condition_tokens=condition_tokens)


def shapes(family: str, size: Size) -> torch.nn.Module:
    """A diffusers transformer on the meta device."""
    base = base_of(PlannerSpec(family=family))
    with torch.device("meta"):
        if size.released:
            return base.released_shapes()
        return base.transformer(num_layers=1, num_single_layers=1, num_attention_heads=2, **TINY[family])


def random_transformer(family: str, size: Size, dtype: torch.dtype = torch.bfloat16) -> torch.nn.Module:
    """A diffusers transformer with random weights on the device."""
    return with_random_weights(shapes(family, size), size.device, dtype)


def with_random_weights(model: torch.nn.Module, device: str, dtype: torch.dtype) -> torch.nn.Module:
    """Move a transformer from the meta device to a real one, with random weights."""
    model = torch.nn.Module.to(model, dtype).to_empty(device=device)
    fill(model)
    return model.eval()


@torch.no_grad()
def fill(model: torch.nn.Module) -> None:
    """Give every parameter a value: matrices random, norms' scales 1, biases 0.

    Raises:
        RuntimeError: the model has buffers, whose values would be undefined after `to_empty`.
    """
    if strange := [name for name, _ in model.named_buffers()]:
        raise RuntimeError(f"a network of random weights must have no buffers, got {', '.join(strange)}")
    generator = torch.Generator(next(model.parameters()).device).manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)
            continue
        spread = _SPREAD_OF_GATES if any(part in name for part in ("norm", "mod")) else _SPREAD
        spread /= parameter.shape[1] ** 0.5
        if parameter.is_floating_point() and parameter.element_size() > 1:
            parameter.normal_(0, spread, generator=generator)
        else:  # random numbers cannot be drawn in float8
            values = torch.empty(parameter.shape, dtype=torch.bfloat16, device=parameter.device)
            parameter.copy_(values.normal_(0, spread, generator=generator))


def compile_blocks(model: torch.nn.Module, size: Size) -> int:
    """Compile the blocks of a diffusers or ComfyUI transformer, in place; returns their number.

    Blocks of the same kind share their code, so it is compiled once for each kind and shape. A rehearsal compiles only
    one block, since tracing takes seconds per kind.
    """
    blocks = [
        block
        for name in ("transformer_blocks", "single_transformer_blocks", "double_blocks", "single_blocks")
        for block in getattr(model, name, ())
    ][: None if size.released else 1]
    for block in blocks:
        block.compile(backend=size.backend, dynamic=False)
    return len(blocks)


def drawn(device: str, *shape: int, seed: int = 1) -> torch.Tensor:
    """Random numbers (float32) that are the same at each call and on each device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)

"""Values that a cache may hold."""

from collections.abc import Sequence

import torch

from visual_planner.errors import brief

from ..errors import TrainingError
from ..sections.data import CacheSection


def finite(values: torch.Tensor, names: Sequence[str], section: CacheSection) -> torch.Tensor:
    """Return the values (B, ...) of a batch if all are finite: otherwise training would fail much later.

    Raises:
        TrainingError: a value is not finite; the message names its picture or prompt.
    """
    whole = torch.isfinite(values).flatten(1).all(dim=1)
    if not bool(whole.all()):
        bad = names[int((~whole).nonzero()[0, 0])]
        advice = "use cache.dtype float32" if section.dtype != "float32" else f"{section.base} may be broken"
        kind = str(values.dtype).removeprefix("torch.")
        raise TrainingError(
            f"the encoder must return finite values that {kind} can hold, got NaN or infinity for {brief(bad)} "
            f"({section.data}): {advice}"
        )
    return values


def cut_prompts(counts: dict[str, tuple[int, list[int]]]) -> list[str]:
    """One line for each encoder that cuts some prompts.

    Args:
        counts: longest text and tokens of each prompt, by encoder.
    """
    lines = []
    for name, (limit, lengths) in counts.items():
        over = [length - limit for length in lengths if length > limit]
        if over:
            lines.append(
                f"{len(over)} of {len(lengths)} prompts are longer than the {limit} tokens of {name}, by up to "
                f"{max(over)}: their ends are not encoded"
            )
    return lines

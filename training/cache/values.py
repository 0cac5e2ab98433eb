"""Values that a cache may hold."""

from collections.abc import Sequence

import torch

from visual_planner.errors import brief

from ..errors import TrainingError
from ..sections.data import CacheSection


def finite(values: torch.Tensor, names: Sequence[str], section: CacheSection) -> torch.Tensor:
    """The values (B, ...) of a batch, refused where one of them is no number: training would fail on it much later.

    Raises:
        TrainingError: which picture or prompt it is of.
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

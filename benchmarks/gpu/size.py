"""Size of a run: that of the released models on a GPU, or the same code at a size that a CPU runs in seconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from launcher.options import REHEARSAL_PATIENCE

Report = Callable[..., None]
"""`report(name=value, ...)`: figures of the running part, kept even if the part fails later."""


class NotHereError(Exception):
    """This machine cannot run a part; the message says what is missing."""


class UnfinishedError(Exception):
    """A part has done what its time allowed and can resume later; the message says how far it is."""


@dataclass(frozen=True)
class Size:
    """Sizes of everything that the parts measure.

    Args:
        name: name in the results; those of another size are not resumed.
        device: "cuda" or "cpu".
        cell: height and width of a cell of the 3x3 grid [px].
        words: text tokens.
        repeats: number of timed rounds.
        warmup: number of untimed rounds before.
        plans: numbers of steps of the timed plans.
        backend: backend of torch.compile.
        released: use networks of the released sizes, otherwise tiny ones.
        training: settings that replace a recipe's.
        square: side of the square matrices whose product gives the attainable rate.
        steps: optimizer steps of the run that is killed and resumed, and the step before which it is killed.
        patience: factor on the parts' limits and on the default budget, which are those of a GPU.
        seconds: time limit of the running part [s].
    """

    name: str
    device: str
    cell: tuple[int, int]
    words: int
    repeats: int
    warmup: int
    plans: tuple[int, int]
    backend: str
    released: bool
    training: dict[str, object] = field(default_factory=dict)
    square: int = 8192
    steps: tuple[int, int] = (12, 7)
    patience: float = 1.0
    seconds: float = math.inf


REAL = Size("released", "cuda", (240, 320), 512, repeats=7, warmup=2, plans=(20, 4), backend="inductor", released=True)
REHEARSAL = Size(
    "rehearsal", "cpu", (32, 32), 8, repeats=2, warmup=1, plans=(2, 1), backend="eager", released=False,
    training={"batch_size": 2, "lora.rank": 4, "lora.alpha": 4, "gradient_accumulation": 2, "device": "cpu",
              "mixed_precision": "bf16"},  # as on a GPU, for which the memory plan is made; emulated by older CPUs
    square=256, steps=(4, 3), patience=REHEARSAL_PATIENCE,
)  # fmt: skip
"""Compiled blocks only use torch.compile's front end: C++ code would take minutes to build."""
SIZES = {size.name: size for size in (REAL, REHEARSAL)}

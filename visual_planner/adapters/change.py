"""How much an adapter changes a model: norms by layer, combined by block and by kind of layer."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np

_BLOCK = re.compile(r"(double|single)_blocks\.(\d+)\.(.+)")


@dataclass(frozen=True)
class Change:
    """An adapter's change of one weight.

    Args:
        layer: BFL's name of the layer (`double_blocks.0.img_attn.qkv`).
        norm: Frobenius norm of the weight's change.
        weight: Frobenius norm of the weight; None: not read.
    """

    layer: str
    norm: float
    weight: float | None = None

    @property
    def place(self) -> tuple[str, int, str]:
        """Kind of block (`double`, `single` or `other`), the block's number, and the kind of layer in it."""
        found = _BLOCK.fullmatch(self.layer)
        return ("other", 0, self.layer) if found is None else (found[1], int(found[2]), found[3])


@dataclass(frozen=True)
class Table:
    """Changes of one kind of block.

    Args:
        title: what the columns are.
        rows: kinds of layers.
        columns: numbers of blocks; empty where there are none.
        values: (kinds, blocks), with a sum for each row and each column at its end; NaN: nothing is changed there.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: np.ndarray


def size_of(changes: Iterable[Change]) -> float:
    """Size of several changes D of weights W together: root of the sum of ||D||², divided by that of ||W||².

    Not divided where the weights were not read; NaN where there are none.
    """
    changes = list(changes)
    if not changes:
        return math.nan
    norm = math.hypot(*(change.norm for change in changes))
    if any(change.weight is None for change in changes):
        return norm
    weight = math.hypot(*(change.weight for change in changes))
    return norm / weight if weight else math.inf if norm else 0.0


def tables(changes: Iterable[Change], double: int, single: int) -> list[Table]:
    """Tables of the double blocks, the single blocks and the other layers; those without any change are left out.

    Args:
        changes: changes in the order of the model's layers.
        double: number of double-stream blocks of the model.
        single: number of single-stream blocks.
    """
    sorted_: dict[str, list[Change]] = {"double": [], "single": [], "other": []}
    for change in changes:
        sorted_[change.place[0]].append(change)
    made = []
    for kind, count in (("double", double), ("single", single)):
        if own := sorted_[kind]:
            rows = tuple(dict.fromkeys(change.place[2] for change in own))
            cells = [[[c for c in own if c.place[1:] == (block, row)] for block in range(count)] for row in rows]
            values = [[*map(size_of, line), size_of(chain(*line))] for line in cells]
            values.append([*(size_of(chain(*column)) for column in zip(*cells, strict=True)), size_of(own)])
            columns = tuple(map(str, range(count)))
            made.append(Table(f"{kind}-stream blocks", rows, columns, np.array(values)))
    if own := sorted_["other"]:
        values = np.array([[size_of([change])] for change in own] + [[size_of(own)]])
        made.append(Table("outside of the blocks", tuple(change.layer for change in own), (), values))
    return made


def shown(size: float, relative: bool) -> str:
    """Format a size in a few characters: as a percentage of the weights, or as a plain number."""
    if math.isnan(size):
        return ""
    if not relative:
        return f"{size:.2g}"
    return f"{100 * size:.3g}%" if size >= 0.0001 or size == 0 else f"{100 * size:.0e}%"

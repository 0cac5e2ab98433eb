"""Kinds of adapters: which parts each has, which shapes they must have, and whether they do anything.

Formulas for a weight W (out, in) of a linear layer, rank r; products: * of elements, (x) of Kronecker:
- lora: W + alpha / r · up down (arXiv 2106.09685), with `lora_mid` in between
- loha: W + alpha / r · (w1_a w1_b) * (w2_a w2_b) (arXiv 2108.06098)
- lokr: W + w1 (x) w2 (arXiv 2212.10650), either factor as it is or as a product, the latter scaled by alpha / r
- glora: W + alpha / r · (W a1 a2 + b1 b2) (arXiv 2306.07967)
- oft, boft: R W with block-diagonal rotations R (arXiv 2306.07280, 2311.06243)
- diff, set: W + diff; or another W
- dora beside lora, loha, lokr and glora: the rows (or columns) of the result scaled to given lengths (arXiv 2402.09353)
"""

import math
from collections.abc import Callable, Mapping

from .names import ALPHA, B_NORM, BIAS, DIFF, DORA, DOWN, MAGNITUDE, MID, RESHAPE, SET, UP, UP_BIAS, W_NORM

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of each part of one module."""

_LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
_GLORA = ("a1.weight", "a2.weight", "b1.weight", "b2.weight")
_NAMES = {
    "lora": (UP, DOWN, MID, UP_BIAS, RESHAPE, MAGNITUDE),
    "loha": (*_LOHA, "hada_t1", "hada_t2"),
    "lokr": ("lokr_w1", "lokr_w2", "lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    "glora": _GLORA,
    "oft": ("oft_blocks", "rescale"),
    "diff": (DIFF,),
    "norm": (W_NORM, B_NORM),
    "set": (SET,),
}
_SHARED = {ALPHA, DORA, BIAS}


class Misfit(Exception):
    """A module's parts cannot be applied; the message is worded to follow the module's name."""


class WrongShape(Misfit):
    """The adapter is complete, but made for a layer of another size."""


class Incomplete(Misfit):
    """A pair of matrices lacks one of them."""


def kind_of(parts: Shapes) -> str:
    """Kind of adapter that a module's parts form.

    Raises:
        Misfit: parts of several kinds, or none that does anything.
    """
    kinds = [kind for kind, names in _NAMES.items() if any(name in parts for name in names)]
    if len(kinds) > 1:
        raise Misfit(f"has parts of {' and '.join(kinds)} at once, of which ComfyUI would apply one")
    if kinds:
        return kinds[0]
    if BIAS in parts and ALPHA not in parts and DORA not in parts:
        return "bias"
    raise Misfit(f"has {' and '.join(sorted(parts))} alone, without the matrices")


def check(parts: Shapes, weight: tuple[int, ...] | None) -> str:
    """Check that a module's parts are complete and fit the weight; returns the kind of adapter.

    Args:
        parts: shape of each part.
        weight: shape of the weight that it changes; None: unknown (packed), so the parts are only compared with each
            other.

    Raises:
        Misfit: something is missing or has another shape.
    """
    kind = kind_of(parts)
    if ALPHA in parts and math.prod(parts[ALPHA]) != 1:
        raise Misfit(f"must have one number as alpha, got {_size(parts[ALPHA])}")
    made = _MAKERS[kind](parts)
    if kind == "oft":
        _check_oft(parts, weight)
    if made is not None and RESHAPE in parts:
        raise Misfit("asks for a wider layer (reshape_weight), which a planner's model does not have")
    if made is not None and weight is not None and made != weight:
        raise WrongShape(f"LoRA {_size(made)}, model {_size(weight)}")
    _check_rows(kind, parts, weight or made)
    return kind


def changes_bias(parts: Shapes) -> bool:
    """Whether a module's parts change the layer's bias, too."""
    return any(name in parts for name in (BIAS, UP_BIAS, B_NORM))


def _check_rows(kind: str, parts: Shapes, weight: tuple[int, ...] | None) -> None:
    """Check the vectors beside the matrices: DoRA's magnitudes and biases."""
    if (DORA in parts or MAGNITUDE in parts) and kind in ("diff", "norm", "set", "bias"):
        raise Misfit(f"has {DORA} beside {kind}, which does not go together")
    if weight is None:
        return
    rows, columns = weight[0], weight[-1]
    if DORA in parts and parts[DORA] not in {(rows, 1), (1, columns), (rows,)}:
        raise Misfit(f"must have {DORA} of {rows}x1 or 1x{columns}, got {_size(parts[DORA])}")
    if MAGNITUDE in parts and parts[MAGNITUDE] not in {(rows,), (rows, 1), (1, rows)}:
        raise Misfit(f"must have a magnitude for each of its {rows} rows, got {_size(parts[MAGNITUDE])}")
    for name in (BIAS, UP_BIAS, B_NORM):
        if name in parts and parts[name] != (rows,):
            raise Misfit(f"must have a bias of {rows} numbers, got {_size(parts[name])}")


def _lora(parts: Shapes) -> tuple[int, ...]:
    if (UP in parts) != (DOWN in parts):
        raise Incomplete("must have both matrices")
    up, down = _complete(parts, (UP, DOWN), "both matrices")
    made, rank = _product(up, down, UP, DOWN, (2, 4))
    if MID in parts and (len(parts[MID]) < 3 or parts[MID][:2] != (rank, rank) or set(parts[MID][2:]) != {1}):
        raise Misfit(f"must have {MID} of {rank}x{rank}x1x1, got {_size(parts[MID])}")
    return made


def _loha(parts: Shapes) -> tuple[int, ...]:
    matrices = _complete(parts, _LOHA, "all four matrices")
    first, second = parts.get("hada_t1"), parts.get("hada_t2")
    if (first is None) != (second is None):
        raise Misfit("must have hada_t1 and hada_t2, or neither")
    makes = []
    for number, tucker in ((0, first), (2, second)):
        a, b = matrices[number : number + 2]
        if tucker is None:
            makes.append(_product(a, b, _LOHA[number], _LOHA[number + 1])[0])
        else:
            makes.append(_tucker(a, b, tucker, _LOHA[number]))
    if makes[0] != makes[1]:
        raise Misfit(f"multiplies {_size(makes[0])} by {_size(makes[1])}")
    return makes[0]


def _lokr(parts: Shapes) -> tuple[int, ...]:
    factors = []
    for name in ("lokr_w1", "lokr_w2"):
        halves = [half for half in (f"{name}_a", f"{name}_b") if half in parts]
        if (name in parts) == bool(halves) or len(halves) == 1:
            raise Misfit(f"must have {name}, or {name}_a and {name}_b")
        if name in parts:
            factors.append(_flat(parts[name], name, (2,) if name == "lokr_w1" else (2, 4)))
        elif name == "lokr_w2" and "lokr_t2" in parts:
            factors.append(_tucker(parts[f"{name}_a"], parts[f"{name}_b"], parts["lokr_t2"], name))
        else:
            factors.append(_product(parts[f"{name}_a"], parts[f"{name}_b"], f"{name}_a", f"{name}_b")[0])
    if "lokr_t2" in parts and "lokr_w2_a" not in parts:
        raise Misfit("has lokr_t2 without lokr_w2_a and lokr_w2_b")
    (rows, columns), (more_rows, more_columns) = factors
    return rows * more_rows, columns * more_columns


def _glora(parts: Shapes) -> tuple[int, ...]:
    a1, a2, b1, b2 = (_flat(shape, name) for shape, name in zip(_complete(parts, _GLORA, "all four matrices"), _GLORA,
                                                                strict=True))  # fmt: skip
    new = b2[0] == b1[1] == a1[1] == a2[0] and a1[0] == a2[1] == b2[1]
    old = b2[1] == b1[0] == a1[0] == a2[1] and a2[0] == a1[1] == b1[1]  # as LyCORIS wrote it before 2023
    if new and not (old and a2[0] > a2[1]):  # for square weights the longer side tells them apart, as in ComfyUI
        return b1[0], b2[1]
    if old:
        return b2[0], b1[1]
    raise Misfit("has matrices a1, a2, b1, b2 that do not multiply")


def _oft(parts: Shapes) -> None:
    (blocks,) = _complete(parts, ("oft_blocks",), "oft_blocks")
    if len(blocks) not in (3, 4) or blocks[-1] != blocks[-2] or 0 in blocks:
        raise Misfit(f"must have oft_blocks of square matrices (blocks, b, b), got {_size(blocks)}")


def _check_oft(parts: Shapes, weight: tuple[int, ...] | None) -> None:
    """Check OFT's blocks, each of which rotates some rows of the weight."""
    blocks = parts["oft_blocks"]
    rows = blocks[-3] * blocks[-1]
    if weight is not None and rows != weight[0]:
        raise Misfit(f"turns {rows} rows, the model has {weight[0]}")
    if len(blocks) == 4 and (blocks[-1] % 2 or rows % (2 ** (blocks[0] - 1) * blocks[-1])):
        raise Misfit(f"has oft_blocks {_size(blocks)}, which do not divide {rows} rows")
    if "rescale" in parts and math.prod(parts["rescale"]) not in (1, rows):
        raise Misfit(f"must have rescale for each of {rows} rows, got {_size(parts['rescale'])}")


def _whole(name: str) -> Callable[[Shapes], tuple[int, ...]]:
    """A tensor of the weight's own shape."""

    def made(parts: Shapes) -> tuple[int, ...]:
        (shape,) = _complete(parts, (name,), name)
        if not shape or 0 in shape:
            raise Misfit(f"must have a weight as {name}, got {_size(shape)}")
        return shape

    return made


_MAKERS: dict[str, Callable[[Shapes], tuple[int, ...] | None]] = {
    "lora": _lora,
    "loha": _loha,
    "lokr": _lokr,
    "glora": _glora,
    "oft": _oft,
    "diff": _whole(DIFF),
    "norm": _whole(W_NORM),
    "set": _whole(SET),
    "bias": lambda parts: None,
}


def _complete(parts: Shapes, names: tuple[str, ...], what: str) -> list[tuple[int, ...]]:
    if missing := [name for name in names if name not in parts]:
        raise Misfit(f"must have {what}, but lacks {', '.join(missing)}")
    return [parts[name] for name in names]


def _product(
    a: tuple[int, ...], b: tuple[int, ...], a_name: str, b_name: str, sides: tuple[int, ...] = (2,)
) -> tuple[tuple[int, int], int]:
    """Shape of a product of two matrices, and its rank."""
    (rows, rank), (inner, columns) = _flat(a, a_name, sides), _flat(b, b_name, sides)
    if rank != inner:
        raise Misfit(f"multiplies {a_name} {_size(a)} by {b_name} {_size(b)}")
    return (rows, columns), rank


def _tucker(a: tuple[int, ...], b: tuple[int, ...], core: tuple[int, ...], name: str) -> tuple[int, int]:
    """Shape of a Tucker decomposition: a (r, out), b (s, in), core (r, s, 1, 1)."""
    (rank, rows), (inner, columns) = _flat(a, name, (2,)), _flat(b, name, (2,))
    if core != (rank, inner, 1, 1):
        raise Misfit(f"must have a core of {rank}x{inner}x1x1 for {name}, got {_size(core)}")
    return rows, columns


def _flat(shape: tuple[int, ...], name: str, sides: tuple[int, ...] = (2, 4)) -> tuple[int, int]:
    """Rows and columns of a matrix; where four dimensions are allowed, a 1x1 kernel counts as a matrix."""
    if len(shape) not in sides or set(shape[2:]) - {1}:
        raise Misfit(f"must have a matrix as {name}, got {_size(shape)}")
    if 0 in shape:
        raise Misfit(f"has {name} of rank 0 ({_size(shape)})")
    return shape[0], shape[1]


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) if shape else "a single number"

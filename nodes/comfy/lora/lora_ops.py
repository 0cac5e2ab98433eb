"""Apply adapters other than low-rank pairs to a layer's output, with its weight left as it is stored.

A layer with its adapters is a chain of functions, each around the one before: f0(x) = W x, f1(x) = f0(x) + delta(x),
and so on, in the order in which they were loaded. ComfyUI's merging does the same with the weight. The bias is kept
separate, since OFT and DoRA only scale and rotate W x.

Formulas (r: rank, s: strength, a: alpha / r):
- loha: f(x) + s a ((A1 B1) * (A2 B2)) x; the product is computed in each call, so that it takes no memory in between
- lokr: f(x) + s a (w1 (x) w2) x, by two small products: no matrix of the layer's size is made
- glora: f(x + s a A x) + s a B x
- oft: R f(x), with the blocks of R as ComfyUI computes them
- diff: f(x) + s D x
- dora beside lora, loha and lokr: f(x) + s (c * (f(x) + delta(x)) - f(x)), or with c on the inputs; c = m / lengths of
  the rows (or columns) of the matrix of f or of f + delta, whichever ComfyUI uses. The lengths are measured by applying
  the layer to unit vectors, so that the weight need not be known.
- products: * of elements, (x) of Kronecker
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import linear, pad

Call = Callable[[torch.Tensor], torch.Tensor]
"""x (..., in) -> W x (..., out)."""
Rows = tuple[int, int] | None
"""Start and length of the rows that an adapter applies to; None: all."""

_UNITS = 1024
"""Number of unit vectors that a layer is given at once."""


@dataclass(frozen=True)
class Op:
    """One adapter of a layer, ready to compute.

    Args:
        rows: rows of the output that it applies to.
        turn: function that reorders the rows, if ComfyUI's layer has another order.
        out: number of rows of the layer.
    """

    rows: Rows
    turn: Callable | None
    out: int

    def around(self, inner: Call) -> Call:
        """The layer with this adapter applied."""
        return lambda x: inner(x) + self.added(x)

    def added(self, x: torch.Tensor) -> torch.Tensor:
        """delta(x) (..., out) of an adapter that adds to the output."""
        return self._placed(self.change(x))

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """delta(x) of the adapter's own rows."""
        raise NotImplementedError

    @property
    def numel(self) -> int:
        """Number of values held."""
        return sum(value.numel() for value in vars(self).values() if isinstance(value, torch.Tensor))

    def _placed(self, own: torch.Tensor) -> torch.Tensor:
        if self.turn is not None:
            own = self.turn(own.movedim(-1, 0)).movedim(0, -1)
        if self.rows is None:
            return own
        start, length = self.rows
        return pad(own, (start, self.out - start - length))


@dataclass(frozen=True)
class Pair(Op):
    """Low-rank matrices, with scale and strength in the second."""

    down: torch.Tensor
    up: torch.Tensor

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """U (D x)."""
        return linear(linear(x, self.down), self.up)


@dataclass(frozen=True)
class Dense(Op):
    """A full difference matrix."""

    matrix: torch.Tensor

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """D x."""
        return linear(x, self.matrix)


@dataclass(frozen=True)
class Hadamard(Op):
    """LoHa: two low-rank products, multiplied element by element."""

    a1: torch.Tensor
    b1: torch.Tensor
    a2: torch.Tensor
    b2: torch.Tensor

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """((A1 B1) * (A2 B2)) x."""
        return linear(x, (self.a1 @ self.b1) * (self.a2 @ self.b2))


@dataclass(frozen=True)
class Kronecker(Op):
    """LoKr: w1 (a, b) (x) w2 (c, d)."""

    w1: torch.Tensor
    w2: torch.Tensor

    def change(self, x: torch.Tensor) -> torch.Tensor:
        """(w1 (x) w2) x: w2 on pieces of x, then w1 across the pieces."""
        pieces = linear(x.unflatten(-1, (self.w1.shape[1], self.w2.shape[1])), self.w2)
        return torch.einsum("ab,...bc->...ac", self.w1, pieces).flatten(-2)


@dataclass(frozen=True)
class Generalised(Op):
    """GLoRA: a low-rank change of the layer's input, and one of its output."""

    inputs: Pair
    outputs: Pair

    def around(self, inner: Call) -> Call:
        """W (x + A x) + B x."""
        return lambda x: inner(x + self.inputs.change(x)) + self.outputs.change(x)

    @property
    def numel(self) -> int:
        """How many numbers are held."""
        return self.inputs.numel + self.outputs.numel


@dataclass(frozen=True)
class Rotated(Op):
    """OFT: the output rotated block by block; holds R - 1 (blocks, n, n)."""

    blocks: torch.Tensor

    def around(self, inner: Call) -> Call:
        """R W x."""

        def call(x: torch.Tensor) -> torch.Tensor:
            out = inner(x)
            own = out if self.rows is None else out.narrow(-1, *self.rows)
            pieces = own.unflatten(-1, self.blocks.shape[:2])
            return out + self._placed(torch.einsum("kmn,...kn->...km", self.blocks, pieces).flatten(-2))

        return call


@dataclass(frozen=True)
class Decomposed(Op):
    """DoRA: the sum's rows or columns scaled to given lengths.

    Args:
        change_of: the adapter's addition before scaling, at strength 1.
        factors: c of the rows (rows,) or of the columns (in,).
        by_rows: whether they are of the rows.
        strength: interpolates from without (0) to with (1).
    """

    change_of: Op
    factors: torch.Tensor
    by_rows: bool
    strength: float

    def around(self, inner: Call) -> Call:
        """f(x) + s (c * (f(x) + delta(x)) - f(x))."""

        def call(x: torch.Tensor) -> torch.Tensor:
            out = inner(x)
            if not self.by_rows:
                given = x * self.factors
                return out + self.strength * (inner(given) + self.change_of.added(given) - out)
            own = out if self.rows is None else out.narrow(-1, *self.rows)
            added = self.change_of.added(x)
            added = added if self.rows is None else added.narrow(-1, *self.rows)
            difference = self.strength * (self.factors * (own + added) - own)
            return out + (difference if self.rows is None else pad(difference, self._sides()))

        return call

    @property
    def numel(self) -> int:
        """How many numbers are held."""
        return self.change_of.numel + self.factors.numel()

    def _sides(self) -> tuple[int, int]:
        start, length = self.rows
        return start, self.out - start - length


def lengths(call: Call, width: int, rows: Rows, by_rows: bool, like: torch.Tensor) -> torch.Tensor:
    """Lengths of the rows (rows,) or columns (in,) of the matrix that a function multiplies with, float32.

    Args:
        call: the function.
        width: width of its input.
        rows: rows that count; None: all.
        by_rows: lengths of rows, not of columns.
        like: a tensor with the device and the dtype in which to compute.
    """
    found: list[torch.Tensor] = []
    for start in range(0, width, _UNITS):
        count = min(_UNITS, width - start)
        units = like.new_zeros(count, width)
        units[range(count), range(start, start + count)] = 1
        columns = call(units).float()
        columns = columns if rows is None else columns.narrow(-1, *rows)
        found.append(columns.square().sum(0) if by_rows else columns.square().sum(1))
    return (torch.stack(found).sum(0) if by_rows else torch.cat(found)).sqrt()


@dataclass(frozen=True)
class Chain:
    """Adapters of a layer that are more than one pair of matrices.

    Args:
        ops: the adapters in order.
        own: the layer's own bias, if an adapter must not touch it; None: it need not be known, or there is none.
        bias: change of the bias.
    """

    ops: tuple[Op, ...]
    own: torch.Tensor | None
    bias: torch.Tensor | None

    def without_bias(self, plain: Call) -> Call:
        """The layer with the adapters, without its own bias if that is known."""
        own = self.own
        call = plain if own is None else lambda x: plain(x) - own
        for op in self.ops:
            call = op.around(call)
        return call

    def on(self, plain: Call) -> Call:
        """The layer with the adapters and its full bias."""
        call, biases = self.without_bias(plain), [b for b in (self.own, self.bias) if b is not None]
        return lambda x: sum(biases, call(x))


def own_bias(plain: Call, width: int, like: torch.Tensor) -> torch.Tensor | None:
    """A layer's bias: the mean of its outputs for a vector and its negative; zeros may be a problem in 8 bits."""
    units = like.new_zeros(2, width)
    units[0, 0], units[1, 0] = 1, -1
    bias = plain(units).float().mean(0).to(like.dtype)
    return bias if bool(bias.any()) else None

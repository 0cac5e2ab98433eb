"""From ComfyUI's adapters to operations beside a layer (`lora_ops`): which are possible, and their matrices."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from . import lora_ops as ops
from .lora_keys import Target, target_of

_COUNTS = {"lora": 6, "loha": 8, "lokr": 9, "glora": 6, "oft": 4, "boft": 4}
"""Number of parts of ComfyUI's adapters of each kind; those with another number are unknown here and are merged."""
_DORA_AT = {"lora": 4, "loha": 7, "lokr": 8}
LARGE = {"diff": "whole differences", "boft": "BOFT"}
"""Kinds that need as much memory beside a layer as a layer in floating point does, by name."""
NAMES = {
    "lora": "LoRA",
    "loha": "LoHa",
    "lokr": "LoKr",
    "glora": "GLoRA",
    "oft": "OFT",
    "set": "whole weights",
    **LARGE,
}


@dataclass(frozen=True)
class PeftDora:
    """PEFT's DoRA, which prescribes the lengths of the sum's rows, whatever the base.

    ComfyUI's own adapter may compute the lengths differently, so this one is never passed to it.

    Args:
        pair: ComfyUI's adapter with only the matrices.
        magnitude: (rows,), in the order of ComfyUI's layer.
    """

    pair: object
    magnitude: torch.Tensor
    name: str = "dora"


@dataclass(frozen=True)
class Entry:
    """One patch that acts beside a layer.

    Args:
        key: the patch's key: a weight's key, or (weight's key, part of it, change of the rows).
        patch: ComfyUI's adapter, `PeftDora`, or ("diff", (values,)) for a bias or a whole weight.
        strength: factor.
    """

    key: object
    patch: object
    strength: float

    @property
    def target(self) -> Target:
        """The weight, and which part of it."""
        return target_of(self.key)

    @property
    def layer(self) -> str:
        """The layer's name in the model."""
        return layer_of(self.key)

    @property
    def of_bias(self) -> bool:
        """Whether it changes the bias."""
        return self.target[0].endswith(".bias")

    @property
    def is_pair(self) -> bool:
        """Whether it is a low-rank pair and nothing else."""
        return not self.of_bias and kind_of(self.patch) == "lora" and not is_product(self.patch)


def layer_of(key: object) -> str:
    """Name of the layer that a patch is for."""
    return target_of(key)[0].rpartition(".")[0]


def turn_of(key: object) -> Callable | None:
    """Function that reorders rows for ComfyUI's layer, which exchanges the halves of FLUX's last modulation."""
    return key[2] if not isinstance(key, str) and len(key) > 2 else None


def turned(key: object, rows: torch.Tensor) -> torch.Tensor:
    """Rows in the order of ComfyUI's layer."""
    turn = turn_of(key)
    return rows if turn is None else turn(rows)


def kind_of(patch: object) -> str:
    """Kind of a patch: an adapter's name, or ComfyUI's name for the others (`diff`, `set`)."""
    return patch[0] if isinstance(patch, tuple) else str(getattr(patch, "name", ""))


def is_product(patch: object) -> bool:
    """Whether a patch's change depends on the weight that it finds (DoRA, GLoRA, OFT, BOFT, whole weights)."""
    kind = kind_of(patch)
    if kind in _DORA_AT:
        return len(patch.weights) > _DORA_AT[kind] and patch.weights[_DORA_AT[kind]] is not None
    return kind != "diff"


def can_stand(key: object, patch: object) -> bool:
    """Whether a patch of a linear layer can act beside the weight."""
    kind, (name, part) = kind_of(patch), target_of(key)
    of_rows = part is None or part[0] == 0
    if name.endswith(".bias"):
        return kind == "diff" and len(patch[1]) == 1
    if not name.endswith(".weight"):
        return False
    if kind == "dora":
        return of_rows
    if kind == "diff":
        return of_rows and len(patch[1]) == 1 and patch[1][0].ndim == 2
    weights = getattr(patch, "weights", ())
    if len(weights) != _COUNTS.get(kind):
        return False
    if kind in ("glora", "oft", "boft"):
        # ComfyUI treats a rotation of exchanged halves differently; GLoRA of a part would run the layer twice
        return of_rows and weights[-1] is None and (part is None if kind == "glora" else turn_of(key) is None)
    if (kind == "lora" and weights[5] is not None) or (kind == "lokr" and weights[7] is not None):
        return False
    scale = weights[_DORA_AT[kind]]
    if scale is None:
        return of_rows or kind == "lora"
    return of_rows and (part is None or scale.shape[0] == part[2])


def pair_of(patch: object) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Matrices up (out, r) and down (r, in), float32, and the scale, of ComfyUI's adapter of the kind LoRA."""
    up, down, alpha, mid = patch.weights[:4]
    rank = len(down)
    up, down = up.float().reshape(-1, rank), down.float().reshape(rank, -1)
    if mid is not None:
        down = mid.float().reshape(rank, rank) @ down
    return up, down, 1.0 if alpha is None else float(alpha) / rank


def numel_of(entry: Entry) -> int:
    """Number of values held by an entry that is not a plain pair."""
    kind, patch = kind_of(entry.patch), entry.patch
    if kind == "diff":
        return patch[1][0].numel()
    if kind == "dora":
        return sum(matrix.numel() for matrix in patch.pair.weights[:2]) + len(patch.magnitude)
    if kind == "boft":
        return (patch.weights[0].shape[1] * patch.weights[0].shape[2]) ** 2
    if kind == "lokr":
        w1, w2, _ = _factors_of_lokr(patch.weights)
        return w1.numel() + w2.numel()
    return sum(weight.numel() for weight in patch.weights if isinstance(weight, torch.Tensor))


def make(entry: Entry, shape: tuple[int, int], before: ops.Call, like: torch.Tensor) -> ops.Op:
    """What an entry does beside its layer.

    Args:
        entry: entry of a weight.
        shape: (out, in) of the layer's weight.
        before: the layer with all earlier entries, without its bias.
        like: a tensor with the device and the dtype in which to compute.
    """
    kind, patch, strength = kind_of(entry.patch), entry.patch, entry.strength
    if kind == "dora":
        added = _added(entry.key, patch.pair, 1.0, shape, like)
        return _decomposed(entry, added, patch.magnitude[:, None], True, shape, before, like)
    if kind in _DORA_AT and is_product(patch):
        added, scale = _added(entry.key, patch, 1.0, shape, like), patch.weights[_DORA_AT[kind]]
        by_rows = scale.shape[0] == (shape[0] if entry.target[1] is None else entry.target[1][2])
        return _decomposed(entry, added, scale, by_rows, shape, before, like)
    if kind == "glora":
        return _generalised(patch.weights, strength, shape, like)
    if kind in ("oft", "boft"):
        return _rotated(entry, shape, like)
    return _added(entry.key, patch, strength, shape, like)


def by_lengths_of_the_sum(by_rows: bool) -> bool:
    """Whether this ComfyUI's DoRA divides by the lengths of the sum, not of the weight; tested on a small example."""
    from comfy.weight_adapter.base import weight_decompose

    weight, change, wanted = torch.eye(3), torch.eye(3), torch.ones((3, 1) if by_rows else (1, 3))
    made = weight_decompose(wanted, weight.clone(), change.clone(), 1.0, 1.0, torch.float32, lambda value: value)
    return torch.allclose(made.norm(dim=1), torch.ones(3), atol=1e-4)


def _added(key: object, patch: object, strength: float, shape: tuple[int, int], like: torch.Tensor) -> ops.Op:
    """A patch whose addition to the output does not depend on the weight."""
    part = target_of(key)[1]
    place = (None if part is None else part[1:], turn_of(key), shape[0])
    kind = kind_of(patch)
    if kind == "diff":
        return ops.Dense(*place, (patch[1][0].to(like.device, torch.float32) * strength).to(like.dtype))
    weights = [w.to(like.device, torch.float32) if isinstance(w, torch.Tensor) else w for w in patch.weights]
    if kind == "lora":
        up, down, scale = pair_of(_Moved(weights))
        if part is not None and part[0] == 1:
            down = torch.nn.functional.pad(down, (part[1], shape[1] - part[1] - part[2]))
            place = (None, *place[1:])
        matrices, make_ = (down, up * (scale * strength)), ops.Pair
    elif kind == "loha":
        a1, b1, alpha, a2, b2, t1, t2 = weights[:7]
        scale = 1.0 if alpha is None else float(alpha) / len(b1)
        if t1 is not None:
            a1, a2 = a1.T @ t1[:, :, 0, 0], a2.T @ t2[:, :, 0, 0]
        matrices, make_ = (a1 * (scale * strength), b1, a2, b2), ops.Hadamard
    else:
        w1, w2, scale = _factors_of_lokr(weights)
        matrices, make_ = (w1 * (scale * strength), w2), ops.Kronecker
    return make_(*place, *(matrix.to(like.dtype) for matrix in matrices))


@dataclass(frozen=True)
class _Moved:
    """An adapter's parts on another device."""

    weights: list


def _factors_of_lokr(weights: list) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Both factors of a LoKr, and its scale: alpha only applies to products, with the rank of the last one."""
    w1, w2, alpha, w1_a, w1_b, w2_a, w2_b = weights[:7]
    rank = None
    if w1 is None:
        rank, w1 = len(w1_b), w1_a.float() @ w1_b.float()
    if w2 is None:
        rank, w2 = len(w2_b), w2_a.float() @ w2_b.float()
    scale = 1.0 if alpha is None or rank is None else float(alpha) / rank
    return w1.float(), w2.float().flatten(1), scale


def _generalised(weights: list, strength: float, shape: tuple[int, int], like: torch.Tensor) -> ops.Op:
    a1, a2, b1, b2 = (weight.to(like.device, torch.float32).flatten(1) for weight in weights[:4])
    old = b2.shape[1] == b1.shape[0] == a1.shape[0] == a2.shape[1]
    new = b2.shape[0] == b1.shape[1] == a1.shape[1] == a2.shape[0]
    if new and not (old and a2.shape[0] == shape[0] == shape[1]):
        a_up, a_down, b_up, b_down = a1, a2, b1, b2
    else:
        a_up, a_down, b_up, b_down = a2, a1, b2, b1
    scale = strength * (1.0 if weights[4] is None else float(weights[4]) / len(a_down))
    pairs = [
        ops.Pair(None, None, len(up), down.to(like.dtype), (up * scale).to(like.dtype))
        for down, up in ((a_down, a_up), (b_down, b_up))
    ]
    return ops.Generalised(None, None, shape[0], *pairs)


def _rotated(entry: Entry, shape: tuple[int, int], like: torch.Tensor) -> ops.Op:
    """The rotation that ComfyUI computes from an adapter, determined by applying it to unit vectors."""
    import comfy.lora

    part = entry.target[1]
    rows = shape[0] if part is None else part[2]
    count = entry.patch.weights[0].shape[0] if kind_of(entry.patch) == "oft" else 1
    size = rows // count
    units = torch.eye(size, device=like.device)
    made = comfy.lora.calculate_weight(
        [(entry.strength, entry.patch, 1.0, None, None)], units.repeat(count, 1), entry.target[0]
    )
    blocks = made.view(count, size, size) - units
    return ops.Rotated(None if part is None else part[1:], None, shape[0], blocks.to(like.dtype))


def _decomposed(
    entry: Entry,
    added: ops.Op,
    wanted: torch.Tensor,
    by_rows: bool,
    shape: tuple[int, int],
    before: ops.Call,
    like: torch.Tensor,
) -> ops.Op:
    """DoRA's factors, from the lengths in the current layer."""
    of_peft = kind_of(entry.patch) == "dora"
    of_sum = of_peft or by_lengths_of_the_sum(by_rows)
    call = (lambda x: before(x) + added.added(x)) if of_sum else before
    found = ops.lengths(call, shape[1], added.rows, by_rows, like)
    limits = torch.finfo(torch.float32)
    found = found.clamp_min(limits.tiny) if of_peft else found + limits.eps
    factors = wanted.to(like.device, torch.float32).reshape(-1) / found
    return ops.Decomposed(added.rows, None, shape[0], added, factors.to(like.dtype), by_rows, entry.strength)

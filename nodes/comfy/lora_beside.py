"""A LoRA beside the weights: y = W x + s B (A x), with W left as it is stored.

Weights of 8 bits and fewer cannot hold a small change: merged into them it drowns in the noise of rounding. (GGUF
loaders merge at each step, in floating point, which is slower than this.) So where a layer's weights are stored so, its
low-rank matrices are applied to what the layer is given, in the type in which it computes. Everything hangs on the
MODEL's clone, as ComfyUI's wrappers: layers are changed for the length of a call and are the same as before
afterwards, so that other clones never see it.

All of a layer's LoRAs (base and planner, and q, k and v where they are one layer) become one pair of matrices.
"""

import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from .lora_keys import Target, target_of

KEY = "visual_planner.lora_beside"
"""Name of the wrappers and of the attachment on a MODEL, and of a run's mark in its `transformer_options`."""

Factors = tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]
"""Matrices down (R, in) and up (out, R), and what is added to the bias (out)."""


@dataclass(frozen=True)
class Entry:
    """One patch of ComfyUI's that acts beside a layer.

    Args:
        key: the patch's key: a weight's, or (weight's, part of it, change of the rows).
        patch: ComfyUI's adapter of the kind LoRA, or ("diff", (values,)) of a bias.
        strength: factor.
    """

    key: object
    patch: object
    strength: float

    @property
    def target(self) -> Target:
        """The weight, and the part of it."""
        return target_of(self.key)

    @property
    def layer(self) -> str:
        """The layer's name in the model."""
        return layer_of(self.key)


class Layer:
    """What acts beside one layer of a model.

    Args:
        entries: all of them for this layer.
        shape: (out, in) of the layer's weight, unpacked.
    """

    def __init__(self, entries: Iterable[Entry], shape: tuple[int, int]) -> None:
        self.entries = tuple(entries)
        self.shape = shape
        self._factors: dict[tuple[torch.device, torch.dtype], Factors] = {}
        self._forwards: dict[torch.nn.Module, tuple[object, types.FunctionType]] = {}

    @property
    def numel(self) -> int:
        """How many numbers are held while the layer is in use."""
        out, width = self.shape
        rank = sum(len(entry.patch.weights[1]) for entry in self.entries if is_lora(entry.patch))
        return rank * (out + width) + (out if any(not is_lora(entry.patch) for entry in self.entries) else 0)

    def prepare(self, device: torch.device, dtype: torch.dtype) -> Factors:
        """The layer's matrices on a device, in the type in which it computes; made at the first call."""
        factors = self._factors.get((device, dtype))
        if factors is None:
            factors = self._factors[device, dtype] = self._join(device, dtype)
        return factors

    def drop(self) -> None:
        """Free what `prepare` has made."""
        self._factors.clear()

    def forward_on(self, module: torch.nn.Module) -> types.FunctionType:
        """Function in place of a module's forward; the same one each time, so that compiled code stays valid."""
        before = module.__dict__.get("forward")
        known = self._forwards.get(module)
        if known is None or known[0] is not before:
            plain = types.MethodType(type(module).forward, module) if before is None else before
            known = self._forwards[module] = (before, self._around(plain))
        return known[1]

    def _around(self, plain) -> types.FunctionType:
        linear, prepare = torch.nn.functional.linear, self.prepare

        def forward(x, *args, **kwargs):
            out = plain(x, *args, **kwargs)
            down, up, bias = prepare(x.device, x.dtype)
            if down is not None:
                out = out + linear(linear(x, down), up).to(out.dtype)
            return out if bias is None else out + bias.to(out.dtype)

        return forward

    def _join(self, device: torch.device, dtype: torch.dtype) -> Factors:
        """All entries as one pair of matrices, with scale and strength in the second, and one bias."""
        out, width = self.shape
        downs, ups, bias = [], [], None
        for entry in self.entries:
            _, part = entry.target
            if not is_lora(entry.patch):
                values = entry.patch[1][0].to(device, torch.float32).reshape(-1) * entry.strength
                bias = torch.zeros(out, device=device) if bias is None else bias
                bias[slice(None) if part is None else slice(part[1], part[1] + part[2])] += values
                continue
            up, down, alpha = entry.patch.weights[:3]
            rank = len(down)
            down = down.to(device, torch.float32).reshape(rank, -1)
            up = up.to(device, torch.float32).reshape(-1, rank)
            up = turned(entry.key, up) * (entry.strength * (1.0 if alpha is None else float(alpha) / rank))
            if part is not None:
                dim, start, length = part
                if dim == 0:
                    up = torch.nn.functional.pad(up, (0, 0, start, out - start - length))
                else:
                    down = torch.nn.functional.pad(down, (start, width - start - length))
            downs.append(down)
            ups.append(up)
        if not downs:
            return None, None, bias.to(dtype)
        return torch.cat(downs).to(dtype), torch.cat(ups, dim=1).to(dtype), None if bias is None else bias.to(dtype)


def shape_of(module: torch.nn.Module, weight: torch.Tensor) -> tuple[int, ...]:
    """(out, in) of a linear layer whose weight may be stored in another shape; else the weight's own shape."""
    own = getattr(module, "out_features", None), getattr(module, "in_features", None)
    return own if all(isinstance(size, int) for size in own) else tuple(getattr(weight, "tensor_shape", weight.shape))


def turned(target: object, rows: torch.Tensor) -> torch.Tensor:
    """Rows in the order that ComfyUI's layer has them: it exchanges the halves of FLUX's last modulation."""
    turn = target[2] if not isinstance(target, str) and len(target) > 2 else None
    return rows if turn is None else turn(rows)


def add(model, patches: Mapping, strengths: Mapping[object, float]) -> None:
    """Let patches act beside the weights of a MODEL, which is changed: give a clone.

    Args:
        model: MODEL, with what acts beside it already.
        patches: from `split`.
        strengths: factor of each.
    """
    if patches:
        _set(model, [*_entries(model), *(Entry(key, patch, strengths[key]) for key, patch in patches.items())])


def merge_again(model, layers: set[str]) -> None:
    """Merge what acts beside some layers of a MODEL, which is changed.

    A patch that is computed from the weight itself (DoRA, OFT) must find in it what came before.
    """
    before = _entries(model)
    if not any(entry.layer in layers for entry in before):
        return
    for entry in before:
        if entry.layer in layers:
            model.add_patches({entry.key: entry.patch}, entry.strength)
    _set(model, [entry for entry in before if entry.layer not in layers])


def memory(model) -> int:
    """Bytes that all that acts beside a MODEL's weights needs while it is sampled."""
    return sum(layer.numel for layer in _layers(model).values()) * _compute_dtype(model.model).itemsize


def _set(model, entries: list[Entry]) -> None:
    from comfy.patcher_extension import WrappersMP

    by_layer: dict[str, list[Entry]] = {}
    for entry in entries:
        by_layer.setdefault(entry.layer, []).append(entry)
    layers = {}
    for name, own in by_layer.items():
        module = model.model.get_submodule(name)
        layers[name] = Layer(own, shape_of(module, module.weight))
    for moment in (WrappersMP.APPLY_MODEL, WrappersMP.OUTER_SAMPLE):
        model.remove_wrappers_with_key(moment, KEY)
    model.set_attachments(KEY, layers)
    if layers:
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, _around_call(layers))
        model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, _around_run(layers))


def _layers(model) -> dict[str, Layer]:
    return model.get_attachment(KEY) or {}


def _entries(model) -> list[Entry]:
    return [entry for layer in _layers(model).values() for entry in layer.entries]


def _around_run(layers: Mapping[str, Layer]):
    """Wrapper around a sampling run: the matrices are on the device as long as the run lasts."""

    def around_run(executor, *args, **kwargs):
        # These options are a copy that ComfyUI made for this run.
        options = executor.class_obj.model_options.setdefault("transformer_options", {})
        options[KEY] = True
        try:
            return executor(*args, **kwargs)
        finally:
            options.pop(KEY, None)
            for layer in layers.values():
                layer.drop()

    return around_run


def _around_call(layers: Mapping[str, Layer]):
    """Wrapper around a call of the model, outside of anything compiled: the layers' forward is another meanwhile."""

    def around_call(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
        network = executor.class_obj
        changed = []
        try:
            for name, layer in layers.items():
                layer.prepare(x.device, _compute_dtype(network))
                module = network.get_submodule(name)
                forward, before = layer.forward_on(module), module.__dict__.get("forward")
                changed.append((module, before))
                module.forward = forward
            return executor(x, t, c_concat, c_crossattn, control, transformer_options or {}, **kwargs)
        finally:
            for module, before in changed:
                if before is None:
                    module.__dict__.pop("forward", None)
                else:
                    module.forward = before
            if KEY not in (transformer_options or {}):
                for layer in layers.values():
                    layer.drop()

    return around_call


def _compute_dtype(network) -> torch.dtype:
    """The type in which ComfyUI's model computes."""
    dtype = getattr(network, "manual_cast_dtype", None)
    return network.get_dtype() if dtype is None else dtype


def is_lora(patch: object) -> bool:
    """Whether a patch is ComfyUI's pair of low-rank matrices."""
    return getattr(patch, "name", None) == "lora" and len(getattr(patch, "weights", ())) >= 3


def layer_of(key: object) -> str:
    """Name of the layer that a patch is for."""
    return target_of(key)[0].rpartition(".")[0]

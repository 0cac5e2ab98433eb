"""A LoRA beside the weights: y = W x + s B (A x), with W left as it is stored.

Weights of 8 bits or fewer cannot hold a small change: merged into them, it drowns in rounding noise. (GGUF loaders
merge at each step, in floating point, which is slower than this.) For layers with such weights, the low-rank matrices
are therefore applied to the layer's input, in the dtype in which it computes; adapters of other kinds have formulas of
their own (`lora_ops`). Everything is attached to the MODEL's clone as ComfyUI's wrappers: layers are changed for the
duration of a call and restored afterwards, so that other clones never see the change.

All of a layer's LoRAs (base and planner, and q, k and v if they are one layer) become one pair of matrices, unless
there are adapters of other kinds among them.
"""

import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial

import torch

from .lora_keys import LoraError
from .lora_make import Entry, is_product, kind_of, make, numel_of, pair_of, turned
from .lora_ops import Call, Chain, own_bias

KEY = "visual_planner.lora_beside"
"""Name of the wrappers and of the attachment on a MODEL, and of a run's mark in its `transformer_options`."""

Factors = tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]
"""Matrices down (R, in) and up (out, R), and the change of the bias (out)."""


class Layer:
    """What acts beside one layer of a model.

    Args:
        entries: all entries of this layer.
        shape: (out, in) of the layer's weight, unpacked.
    """

    def __init__(self, entries: Iterable[Entry], shape: tuple[int, int]) -> None:
        self.entries = tuple(entries)
        self.shape = shape
        self.pairs_alone = all(entry.is_pair or entry.of_bias for entry in self.entries)
        self._factors: dict[tuple[torch.device, torch.dtype], Factors | Chain] = {}
        self._forwards: dict[torch.nn.Module, tuple[object, Callable, types.FunctionType]] = {}

    @property
    def numel(self) -> int:
        """Number of values held while the layer is in use."""
        out, width = self.shape
        biases = out if any(entry.of_bias for entry in self.entries) else 0
        weights = [entry for entry in self.entries if not entry.of_bias]
        if not self.pairs_alone:
            return biases + sum(numel_of(entry) for entry in weights)
        return biases + sum(len(entry.patch.weights[1]) for entry in weights) * (out + width)

    def prepare(self, device: torch.device, dtype: torch.dtype, plain: Call) -> Factors | Chain:
        """The layer's matrices on a device, in the dtype in which it computes; made at the first call.

        Args:
            device: device on which the layer computes.
            dtype: dtype in which it computes.
            plain: the layer without its entries.
        """
        made = self._factors.get((device, dtype))
        if made is None:
            make_ = self._join if self.pairs_alone else self._chain
            made = self._factors[device, dtype] = make_(device, dtype, plain)
        return made

    def prepare_for(self, module: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        """Make the matrices before a call, outside compiled code."""
        self.forward_on(module)
        self.prepare(device, dtype, self._forwards[module][1])

    def drop(self) -> None:
        """Free what `prepare` has made."""
        self._factors.clear()

    def forward_on(self, module: torch.nn.Module) -> types.FunctionType:
        """Function that replaces a module's forward; the same one each time, so that compiled code stays valid."""
        before = module.__dict__.get("forward")
        known = self._forwards.get(module)
        if known is None or known[0] is not before:
            plain = types.MethodType(type(module).forward, module) if before is None else before
            around = self._around if self.pairs_alone else self._around_chain
            known = self._forwards[module] = (before, plain, around(plain))
        return known[2]

    def _around(self, plain) -> types.FunctionType:
        linear, prepare = torch.nn.functional.linear, self.prepare

        def forward(x, *args, **kwargs):
            out = plain(x, *args, **kwargs)
            down, up, bias = prepare(x.device, x.dtype, plain)
            if down is not None:
                out = out + linear(linear(x, down), up).to(out.dtype)
            return out if bias is None else out + bias.to(out.dtype)

        return forward

    def _around_chain(self, plain) -> types.FunctionType:
        prepare = self.prepare

        def forward(x, *args, **kwargs):
            made, call = prepare(x.device, x.dtype, plain), partial(_called, plain, args, kwargs)
            return made.on(call)(x)

        return forward

    def _join(self, device: torch.device, dtype: torch.dtype, plain: Call) -> Factors:
        """All entries as one pair of matrices, with scale and strength in the second, and one bias."""
        out, width = self.shape
        downs, ups = [], []
        for entry in self.entries:
            if entry.of_bias:
                continue
            _, part = entry.target
            up, down, scale = pair_of(entry.patch)
            up, down = up.to(device), down.to(device)
            up = turned(entry.key, up) * (entry.strength * scale)
            if part is not None:
                dim, start, length = part
                if dim == 0:
                    up = torch.nn.functional.pad(up, (0, 0, start, out - start - length))
                else:
                    down = torch.nn.functional.pad(down, (start, width - start - length))
            downs.append(down)
            ups.append(up)
        bias = self._bias(device, dtype)
        return (torch.cat(downs).to(dtype), torch.cat(ups, dim=1).to(dtype), bias) if downs else (None, None, bias)

    def _chain(self, device: torch.device, dtype: torch.dtype, plain: Call) -> Chain:
        """All entries in order, each around those before it."""
        like = torch.zeros(1, device=device, dtype=dtype)
        own = own_bias(plain, self.shape[1], like) if any(map(_moves_bias, self.entries)) else None
        chain = Chain((), own, self._bias(device, dtype))
        for entry in self.entries:
            if not entry.of_bias:
                made = make(entry, self.shape, chain.without_bias(plain), like)
                chain = replace(chain, ops=(*chain.ops, made))
        return chain

    def _bias(self, device: torch.device, dtype: torch.dtype) -> torch.Tensor | None:
        """Total change of the layer's bias."""
        bias = None
        for entry in self.entries:
            if entry.of_bias:
                part, bias = entry.target[1], torch.zeros(self.shape[0], device=device) if bias is None else bias
                values = entry.patch[1][0].to(device, torch.float32).reshape(-1) * entry.strength
                bias[slice(None) if part is None else slice(part[1], part[1] + part[2])] += values
        return None if bias is None else bias.to(dtype)


def _called(plain, args: tuple, kwargs: Mapping, x: torch.Tensor) -> torch.Tensor:
    return plain(x, *args, **kwargs)


def _moves_bias(entry: Entry) -> bool:
    """Whether an entry scales or rotates W x, so that the bias must be excluded."""
    return not entry.of_bias and is_product(entry.patch) and kind_of(entry.patch) != "glora"


def shape_of(module: torch.nn.Module, weight: torch.Tensor) -> tuple[int, ...]:
    """(out, in) of a linear layer, whose weight may be stored in another shape; for others the weight's own shape."""
    own = getattr(module, "out_features", None), getattr(module, "in_features", None)
    return own if all(isinstance(size, int) for size in own) else tuple(getattr(weight, "tensor_shape", weight.shape))


def add(model, patches: Mapping, strengths: Mapping[object, float]) -> None:
    """Let patches act beside the weights of a MODEL, in place: pass a clone.

    Args:
        model: MODEL, with the patches that already act beside its weights.
        patches: from `split`.
        strengths: factor of each.
    """
    if patches:
        _set(model, [*_entries(model), *(Entry(key, patch, strengths[key]) for key, patch in patches.items())])


def merge_again(model, layers: set[str], name: str) -> None:
    """Merge what acts beside some layers of a MODEL, in place.

    A patch that is computed from the weight itself (DoRA, OFT) needs a weight that includes all earlier patches.

    Args:
        model: MODEL.
        layers: names of the layers.
        name: name of the LoRA that will be merged there, for messages.

    Raises:
        LoraError: PEFT's DoRA acts beside one of them, which ComfyUI cannot merge into packed weights.
    """
    before = _entries(model)
    if not any(entry.layer in layers for entry in before):
        return
    for entry in before:
        if entry.layer in layers:
            if kind_of(entry.patch) == "dora":
                raise LoraError(
                    f"LoRA {name} must be merged into {entry.layer}, beside which PEFT's DoRA acts: set where to merged"
                )
            model.add_patches({entry.key: entry.patch}, entry.strength)
    _set(model, [entry for entry in before if entry.layer not in layers])


def products_beside(model) -> set[str]:
    """Layers of a MODEL beside which an entry acts that depends on the weight."""
    return {entry.layer for entry in _entries(model) if not entry.of_bias and is_product(entry.patch)}


def memory(model) -> int:
    """Bytes that everything beside a MODEL's weights needs during sampling."""
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
    """Wrapper around a sampling run that keeps the matrices on the device for its duration."""

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
    """Wrapper around a call of the model, outside compiled code, that replaces the layers' forward meanwhile."""

    def around_call(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kwargs):
        network = executor.class_obj
        changed = []
        try:
            for name, layer in layers.items():
                module = network.get_submodule(name)
                layer.prepare_for(module, x.device, _compute_dtype(network))
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
    """The dtype in which ComfyUI's model computes."""
    dtype = getattr(network, "manual_cast_dtype", None)
    return network.get_dtype() if dtype is None else dtype

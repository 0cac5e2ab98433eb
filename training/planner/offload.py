"""Transformer blocks whose frozen weights stay in RAM.

Offloaded blocks keep their frozen weights in RAM (pinned for a GPU). When one is called, its weights are put into its
layers, and meanwhile those of the next block are copied in a separate stream. A backward pass that recomputes blocks
(gradient checkpointing) calls them in another order, so the next block is predicted as the one that followed the same
two calls last time. Autograd holds the copies that it needs and frees each with its block.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from ..errors import TrainingError

COPIES = 3
"""Blocks on the device at once: the running one, the next, and the previous one until the device has finished it."""
_Place = tuple[nn.Module, str]


def blocks_of(transformer: nn.Module) -> list[nn.Module]:
    """The blocks in the order in which they run."""
    lists = (getattr(transformer, name, ()) for name in ("transformer_blocks", "single_transformer_blocks"))
    return [block for blocks in lists for block in blocks]


def chosen_blocks(transformer: nn.Module, count: int) -> list[nn.Module]:
    """`count` evenly spaced blocks, so that the others compute while the next one is copied.

    Raises:
        TrainingError: there are fewer.
    """
    blocks = blocks_of(transformer)
    if count > len(blocks):
        raise TrainingError(f"offload must be at most {len(blocks)}, the number of the base's blocks, got {count}")
    return [block for i, block in enumerate(blocks) if (i + 1) * count // len(blocks) > i * count // len(blocks)]


def frozen_tensors(block: nn.Module) -> dict[_Place, torch.Tensor]:
    """Frozen parameters and buffers of a block, by module and name."""
    found: dict[_Place, torch.Tensor] = {}
    for module in block.modules():
        found |= {(module, n): p for n, p in module._parameters.items() if p is not None and not p.requires_grad}
        found |= {(module, n): b for n, b in module._buffers.items() if b is not None}
    return found


def offload_blocks(transformer: nn.Module, count: int, device: torch.device | str) -> "Offload":
    """Keep the frozen weights of `count` blocks in RAM from now on, in place; see `Offload`."""
    return Offload(chosen_blocks(transformer, count), torch.device(device))


class Offload:
    """Frozen weights in RAM, fetched one call ahead.

    Args:
        blocks: the blocks, in the order of their first calls.
        device: device that they compute on; even on a CPU copies are made, so that tests cover the same code.

    Attributes:
        fetched: number of the block -> its copies on the device.
        fetches: number of copies made so far.
        unforeseen: number of these that were not predicted.
    """

    def __init__(self, blocks: Sequence[nn.Module], device: torch.device) -> None:
        self.device, self.count = device, len(blocks)
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.kept = [frozen_tensors(block) for block in blocks]
        self.fetched: dict[int, tuple[dict[_Place, torch.Tensor], torch.Event | None]] = {}
        self.fetches, self.unforeseen = 0, 0
        self._followed: dict[tuple[int, int], int] = {}
        self._calls = (-1, -1)
        self._before: torch.Event | None = None
        for number, block in enumerate(blocks):
            self.kept[number] = {place: _in_ram(t, device) for place, t in self.kept[number].items()}
            self._leave(number)
            block.register_forward_pre_hook(partial(_call, self._enter, number))
            block.register_forward_hook(partial(_call, self._leave, number), always_call=True)

    def _enter(self, number: int) -> None:
        last, now = self._calls[1], number
        self._followed[self._calls], self._calls = now, (last, now)
        if self._before is not None:
            # never more than one block ahead of the device, which must be done with a block before its memory is free
            self._before.synchronize()
        if number not in self.fetched:
            self.unforeseen += 1
            self._fetch(number)
        tensors, ready = self.fetched[number]
        if ready is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(ready)
            for tensor in tensors.values():
                tensor.record_stream(stream)
            self._before = stream.record_event()
        for place, tensor in tensors.items():
            _put(place, tensor)
        following = self._followed.get(self._calls, (number + 1) % self.count)
        self.fetched = {n: copies for n, copies in self.fetched.items() if n in (number, following)}
        if following not in self.fetched:
            self._fetch(following)

    def _leave(self, number: int) -> None:
        for place, tensor in self.kept[number].items():
            _put(place, tensor.new_empty(0))

    def _fetch(self, number: int) -> None:
        self.fetches += 1
        if self.stream is None:
            copies = {place: t.to(self.device, copy=True) for place, t in self.kept[number].items()}
            self.fetched[number] = copies, None
            return
        with torch.cuda.stream(self.stream):
            copies = {place: t.to(self.device, non_blocking=True) for place, t in self.kept[number].items()}
            self.fetched[number] = copies, self.stream.record_event()


def _call(function: Callable[[int], None], number: int, *_: object) -> None:
    function(number)


def _in_ram(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    kept = tensor.detach().to("cpu")
    return kept.pin_memory() if device.type == "cuda" else kept


def _put(place: _Place, tensor: torch.Tensor) -> None:
    """Put a tensor into its module as a new object, so that what autograd saved of the earlier one stays as it was."""
    module, name = place
    if name in module._parameters:
        module._parameters[name] = nn.Parameter(tensor, requires_grad=False)
    else:
        module._buffers[name] = tensor

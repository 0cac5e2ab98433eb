"""Keys and values of a planner's condition in ComfyUI's FLUX network, computed once for a sampling run.

With `first_cell_cached` the condition's tokens pass through the network separately: alone, without text, at timestep 0,
with a pooled text vector of zeros. Their keys and values in every attention layer are the same at every step. The
target's tokens and the text attend to them beside their own.

Each run has its own cache: a wrapper around the run creates it and empties it at the end, however the run ends. So it
cannot outlive the model, the LoRA strengths or the condition that it was made with. Within a run every entry is
compared with its inputs: condition, ids, guidance, and the strengths of hooks that change weights between calls.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from ....visual_planner.errors import ConditioningError
from . import mark

KEY = "visual_planner.condition_cache"
"""Name of the run's wrapper on a model, and of the cache in the run's `transformer_options`."""
OVERRIDE = "optimized_attention_override"
"""ComfyUI's only slot for a function that is called in place of attention."""

STAND_IN = 1
"""Text tokens of the condition's pass: ComfyUI's blocks need at least one, so it gets one of zeros. That token has a
place in the sequence, but no key: nothing attends to it."""

Row = dict[tuple[str, int], tuple[torch.Tensor, torch.Tensor]]
"""Rotated keys and values (1, heads, M, head size) of one condition, by (kind, number) of the block."""


class Source(NamedTuple):
    """What the keys and values of one condition depend on, beside the weights.

    Args:
        latent: (C, h, w), scaled for the network.
        ids: (M, axes) position ids.
        guidance: () guidance to embed, None for a model without that input.
    """

    latent: torch.Tensor
    ids: torch.Tensor
    guidance: torch.Tensor | None

    def same(self, other: "Source") -> bool:
        """Whether another source has the same values."""
        if (self.guidance is None) != (other.guidance is None):
            return False
        return all(torch.equal(mine, its) for mine, its in zip(self, other, strict=True) if mine is not None)

    def copy(self) -> "Source":
        """A copy of the values: views of a batch would keep the whole batch alive.

        Raises:
            ConditioningError: the latent is not finite, so that it would never compare equal.
        """
        if not self.latent.isfinite().all():
            raise ConditioningError("first frame's latent must be finite, got NaN or infinity from the VAE")
        return Source(*(None if part is None else part.clone() for part in self))


class ConditionCache:
    """The conditions of one sampling run.

    Args:
        patcher: MODEL whose hooks may change weights between calls; None if there is no run, so that nothing is kept.
    """

    def __init__(self, patcher: object = None) -> None:
        self._patcher = patcher
        self._held: dict[tuple, tuple[tuple[float, ...], list[tuple[Source, Row]]]] = {}

    def rows(self, sources: Sequence[Source], compute: Callable[[list[Source]], list[Row]]) -> list[Row]:
        """Keys and values for each source; missing ones are computed, each distinct one once.

        Raises:
            ConditioningError: a source's latent is not finite.
        """
        held = self._of_these_weights()
        chosen: list[int] = []
        missing: list[Source] = []
        for source in sources:
            known = [*(other for other, _ in held), *missing]
            place = next((number for number, other in enumerate(known) if source.same(other)), len(known))
            if place == len(known):
                missing.append(source.copy())
            chosen.append(place)
        if missing:
            held.extend(zip(missing, compute(missing), strict=True))
        return [held[place][1] for place in chosen]

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()
        self._patcher = None

    def _of_these_weights(self) -> list[tuple[Source, Row]]:
        """Entries made with the current weights; those of the same hooks at other strengths are dropped."""
        group = getattr(self._patcher, "current_hooks", None)
        hooks = () if group is None else tuple(group.hooks)
        name = tuple(hook.hook_ref for hook in hooks)
        strengths = tuple(hook.strength for hook in hooks)
        if name not in self._held or self._held[name][0] != strengths:
            self._held[name] = (strengths, [])
        return self._held[name][1]


def hold_for_run(executor, *args, **kwargs):
    """Wrapper around a sampling run that creates a cache for its duration."""
    guider = executor.class_obj
    cache = ConditionCache(guider.model_patcher)
    # These options are a copy that ComfyUI made for this run.
    options = guider.model_options.setdefault("transformer_options", {})
    options[KEY] = cache
    try:
        return executor(*args, **kwargs)
    finally:
        options.pop(KEY, None)
        cache.clear()


def compute_rows(executor, timestep, context, y, options: dict) -> Callable[[list[Source]], list[Row]]:
    """Function that passes conditions through the network; the arguments are those of the call that needs them.

    Args:
        executor: executor of the wrapper around the network; its original is the network without other wrappers.
        timestep: (B,).
        context: (B, T, D) text tokens; only their dtype and width are used.
        y: (B, P) pooled text; only its dtype and size are used.
        options: the call's `transformer_options`.

    Raises:
        ConditioningError: (the function) the attention of some block was not reached.
    """

    def compute(sources: list[Source]) -> list[Row]:
        latent = torch.stack([source.latent for source in sources])
        ids = torch.stack([source.ids for source in sources])
        guidance = None
        if sources[0].guidance is not None:
            guidance = torch.stack([source.guidance for source in sources])
        count = len(sources)
        taken: Row = {}
        own = {
            **options,
            "patches": {"post_input": [lambda tokens: {**tokens, "img_ids": ids}]},
            "patches_replace": {},
            OVERRIDE: _recording(taken, options.get(OVERRIDE)),
        }
        words = context.new_zeros(count, STAND_IN, context.shape[2])
        pooled = None if y is None else torch.zeros_like(y[:1]).expand(count, -1)
        executor.original(latent, timestep.new_zeros(count), words, pooled, guidance, None, None, own)
        network = executor.class_obj
        if len(taken) < len(network.double_blocks) + len(network.single_blocks):
            mark.refuse_bypassed(network)
        # Copies, since values are views of a larger matrix that they would keep alive.
        return [
            {block: tuple(part[row : row + 1].clone() for part in parts) for block, parts in taken.items()}
            for row in range(count)
        ]

    return compute


def attending(rows: list[Row], previous: Callable | None) -> Callable:
    """Attention over the sequence's own keys and the condition's.

    Args:
        rows: one for each row of the batch; may be filled after this call, before attention is.
        previous: earlier override, which then computes the attention.
    """

    def attend(func, q, k, v, *args, **kwargs):
        if _is_the_blocks_own(q, k, kwargs):
            block = _block(kwargs)
            keys, values = (_batch([row[block][part] for row in rows]) for part in (0, 1))
            mask = kwargs.get("mask")
            if mask is not None and mask.shape[-1] == k.shape[2]:
                kwargs["mask"] = torch.nn.functional.pad(mask, (0, keys.shape[2]), value=mask.dtype == torch.bool)
            k, v = (torch.cat([own, other], dim=2) for own, other in ((k, keys), (v, values)))
        return _call(previous, func, q, k, v, *args, **kwargs)

    return attend


def _recording(taken: Row, previous: Callable | None) -> Callable:
    """Attention over the condition's own keys that also puts them into `taken`; `previous` as for `attending`."""

    def record(func, q, k, v, *args, **kwargs):
        if _is_the_blocks_own(q, k, kwargs):
            k, v = k[:, :, STAND_IN:], v[:, :, STAND_IN:]
            taken.setdefault(_block(kwargs), (k, v))
        return _call(previous, func, q, k, v, *args, **kwargs)

    return record


def _call(previous: Callable | None, func: Callable, *args, **kwargs):
    return func(*args, **kwargs) if previous is None else previous(func, *args, **kwargs)


def _is_the_blocks_own(q: torch.Tensor, k: torch.Tensor, settings: dict) -> bool:
    """Whether attention is a block's self-attention, (B, heads, N, head size), and not one that an adapter adds."""
    return bool(settings.get("skip_reshape")) and q.shape == k.shape


def _block(settings: dict) -> tuple[str, int]:
    options = settings["transformer_options"]
    return options["block_type"], options["block_index"]


def _batch(parts: list[torch.Tensor]) -> torch.Tensor:
    """Rows as a batch; if all rows are the same tensor, it is not copied."""
    if all(part is parts[0] for part in parts):
        return parts[0].expand(len(parts), -1, -1, -1)
    return torch.cat(parts)

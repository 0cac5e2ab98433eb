"""Map adapter files of every trainer to ComfyUI's names: all of a file or nothing.

ComfyUI's own loader only logs what it cannot place or apply: an adapter made for another model silently does nothing.
Here each key is assigned to a layer of the model, each layer's parts are checked, and anything left over is an error
with counts and names. The patches themselves are then made by ComfyUI's own code (`lora`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ....visual_planner.adapters import kinds, names
from ....visual_planner.errors import PlannerError, plain

_NAMED = 3
"""Number of keys that an error names."""
_ENDINGS = 4
"""Number of words at the end of a key that may name the kind of adapter."""

Target = tuple[str, tuple[int, int, int] | None]
"""A weight's key in the model, and the part of it (dimension, start, length); None: all of it."""


class LoraError(PlannerError):
    """A LoRA does not belong to the model, or cannot be read."""


@dataclass
class Module:
    """What a file has for one layer.

    Args:
        name: the layer's name in ComfyUI's key map.
        bare: its name in the file, without prefixes.
        keys: the file's key of each part (`names`).
        kind: kind of adapter, one of `kinds`; known after `check`.
        letters: whether its matrices are called A and B, as PEFT and diffusers call them.
    """

    name: str
    bare: str
    keys: dict[str, str] = field(default_factory=dict)
    kind: str = ""
    letters: bool = False


def find_module(module: str, key_map: Mapping[str, object]) -> str | None:
    """Name of a LoRA file's module in ComfyUI's key map; None if it has none."""
    return next((name for name in names.candidates(module) if name in key_map), None)


def gather(keys: Iterable[str], key_map: Mapping[str, object], name: str) -> tuple[list[Module], list[str]]:
    """Sort a file's keys by the layers that they change.

    Args:
        keys: keys of the file.
        key_map: from `comfy.lora.model_lora_keys_unet`.
        name: the LoRA's name, for messages.

    Returns:
        The layers, and the keys that belong to text encoders, which a planner does not change.

    Raises:
        LoraError: keys match nothing, are of an unknown kind of adapter or of several adapters, two have the same
            place, or none is for the model.
    """
    keys = list(keys)
    modules: dict[Target, Module] = {}
    unmatched, unknown, left_out, adapters = [], [], [], set()
    for key in keys:
        part = names.parse(key)
        known = find_module(part.module, key_map) if part else None
        if known is None:
            if names.of_text_encoder(key):
                left_out.append(key)
            else:
                (unknown if part is None and _ends_on_a_module(key, key_map) else unmatched).append(key)
            continue
        module = modules.setdefault(target_of(key_map[known]), Module(known, names.bare(part.module)))
        if part.part in module.keys:
            raise LoraError(
                f"LoRA {name} must have one entry per layer, but several of its keys map to {module.name}.{part.part} "
                f"({plain(module.keys[part.part])}; {plain(key)})"
            )
        module.keys[part.part] = key
        module.letters = module.letters or part.letters
        adapters.add(part.adapter)
    if unmatched or not (modules or unknown):
        only = " of text encoders alone, which a planner does not change" if left_out and not unmatched else ""
        reason = f"has {len(left_out)} keys{only}" if only else (
            f"{len(unmatched)} of its {len(keys)} keys match nothing in it{_examples(unmatched)}; "
            "it was made for another model"
        )  # fmt: skip
        raise LoraError(f"LoRA {name} must fit the model, but {reason}")
    if unknown:
        raise LoraError(
            f"LoRA {name} must be of a kind that ComfyUI can apply, but {len(unknown)} of its {len(keys)} keys are of "
            f"another kind{_examples(unknown)}"
        )
    if len(named := sorted(adapters - {""})) > 1:
        raise LoraError(f"LoRA {name} must hold one adapter, but it holds {', '.join(map(plain, named[:_NAMED]))}")
    return list(modules.values()), left_out


def check(
    modules: list[Module],
    shapes: Mapping[str, tuple[int, ...]],
    key_map: Mapping[str, object],
    model_shapes: Mapping[str, tuple[int, ...]],
    name: str,
) -> None:
    """Compare every layer's adapter with the weight that it changes, and note its kind.

    Args:
        modules: from `gather`.
        shapes: shapes of the file's tensors, by key.
        key_map: from `comfy.lora.model_lora_keys_unet`: a weight's key, or (key, (dim, start, length), ...) for a part.
        model_shapes: shape of the model's weights by key; a weight that is stored packed is not in it.
        name: the LoRA's name, for messages.

    Raises:
        LoraError: a layer lacks a part, or its parts form a matrix of another shape than the weight.
    """
    halves, wrong, broken = [], [], []
    for module in modules:
        parts = {part: shapes[key] for part, key in module.keys.items()}
        weight = _shape(target_of(key_map[module.name]), model_shapes)
        try:
            module.kind = kinds.check(parts, weight)
        except kinds.Incomplete:
            halves.append(module.name)
        except kinds.WrongShape as misfit:
            wrong.append(f"{module.name}: {misfit}")
        except kinds.Misfit as misfit:
            broken.append(f"{module.name} {misfit}")
        if kinds.changes_bias(parts) and (bias := bias_of(target_of(key_map[module.name]))[0]) not in model_shapes:
            broken.append(f"{module.name} has a bias, the model has no {bias}")
    if halves:
        raise LoraError(
            f"LoRA {name} must have both matrices of each pair, but {len(halves)} lack one{_examples(halves)}"
        )
    total = len(modules)
    if broken:
        raise LoraError(
            f"LoRA {name} must be whole, but {len(broken)} of its {total} modules are not{_examples(broken)}"
        )
    if wrong:
        raise LoraError(
            f"LoRA {name} must fit the model, but {len(wrong)} of its {total} modules have another shape"
            f"{_examples(wrong)}; it was made for another model"
        )


def target_of(target: object) -> Target:
    """What a value of ComfyUI's key map stands for."""
    return (target, None) if isinstance(target, str) else (target[0], target[1])


def bias_of(target: Target) -> Target:
    """The bias of the layer that a weight belongs to."""
    return f"{target[0].removesuffix('.weight')}.bias", target[1]


def _shape(target: Target, model_shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    key, part = target
    shape = model_shapes.get(key)
    if shape is None or part is None:
        return shape
    dim, _, length = part
    return (*shape[:dim], length, *shape[dim + 1 :])


def _ends_on_a_module(key: str, key_map: Mapping[str, object]) -> bool:
    """Whether a key is the name of a layer of the model followed by something unknown."""
    words = key.split(".")
    return any(find_module(".".join(words[:-n]), key_map) for n in range(1, min(_ENDINGS, len(words))))


def _examples(found: list[str]) -> str:
    if not found:
        return ""
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f" ({'; '.join(plain(text, 160) for text in found[:_NAMED])}{more})"

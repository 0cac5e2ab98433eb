"""Strength of an adapter by block of the base model, written as text.

Forms:
- rules; later ones win: `all: 0; double 3-5, 9: 1; single: 0.5; other: 1`. Blocks count from 0, as in the
  names of layers; `other` is what lies outside of the blocks. What no rule names keeps 1.
- the vector of block weight loaders, one number for `other`, then one for each double and each single block, with or
  without a preset's name before it: `FLUX-ALL:1,1,1,...`
- the Inspire Pack's short form of that vector, which counts from 1: `%default=1,base=0,double1-4=0.5,single=0`
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import PlannerError, brief, plain

KINDS = ("double", "single")
MOST = 10.0
"""Largest strength; the same limit as for the loader's own strength."""
MAX_TEXT = 10_000
"""Longest text [characters]."""
EXAMPLE = "double 0-4: 0.5; single: 1.2"

_BLOCK = re.compile(r"(?:^|\.)(double|single)_blocks\.(\d+)\.")
_RULE = re.compile(r"(all|other|double|single)\b\s*([\d\s,-]*)[:=](.*)", re.IGNORECASE)
_SHORT = re.compile(r"(default|base|double|single)\s*([\d-]*)\s*=(.*)", re.IGNORECASE)
_RANGE = re.compile(r"(\d{1,6})(?:\s*-\s*(\d{1,6}))?")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_NAME = re.compile(r"[A-Za-z][\w.+-]*\s*:")


class BlocksError(PlannerError):
    """Strengths by block cannot be read, or are for another model."""


@dataclass(frozen=True)
class Strengths:
    """Factors by which an adapter's change is multiplied.

    Args:
        double: factor of each double-stream block.
        single: factor of each single-stream block.
        other: factor of the layers outside the blocks.
    """

    double: tuple[float, ...]
    single: tuple[float, ...]
    other: float = 1.0

    def of(self, layer: str) -> float:
        """Factor of a layer by its name in ComfyUI (`diffusion_model.double_blocks.0.img_attn.qkv.weight`)."""
        found = _BLOCK.search(layer)
        return self.other if found is None else getattr(self, found[1])[int(found[2])]

    @property
    def are_one(self) -> bool:
        """Whether nothing is changed."""
        return {*self.double, *self.single, self.other} == {1.0}

    def text(self) -> str:
        """The strengths as rules, as short as possible; empty if all are 1."""
        rules = [f"other: {self.other:g}"] if self.other != 1 else []
        for kind in KINDS:
            values = getattr(self, kind)
            if values and set(values) == {values[0]}:
                rules += [f"{kind}: {values[0]:g}"] if values[0] != 1 else []
                continue
            rules += [f"{kind} {numbers}: {value:g}" for numbers, value in _runs(values) if value != 1]
        return "; ".join(rules)


def parse_blocks(text: str, double: int, single: int, what: str = "blocks") -> Strengths:
    """Read strengths by block.

    Args:
        text: strengths in one of the forms above; empty: all 1.
        double: number of double-stream blocks of the model.
        single: number of single-stream blocks.
        what: the input's name, for messages.

    Raises:
        BlocksError: it is in none of the forms, names blocks that the model lacks, or has numbers out of range.
    """
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise BlocksError(f"{what} must be text of at most {MAX_TEXT} characters, got {brief(text)}")
    values = {"double": [1.0] * double, "single": [1.0] * single, "other": [1.0]}
    text = text.strip()
    if text.startswith("%"):
        rules = [rule for rule in text[1:].split(",") if rule.strip()]
        for rule in sorted(rules, key=lambda rule: not rule.strip().lower().startswith("default")):
            _short_rule(rule.strip(), values, what)
    elif _is_vector(text):
        _vector(_NAME.sub("", text, count=1), values, what)
    else:
        for rule in re.split(r"[;\n]", text):
            if rule.strip():
                _rule(rule.strip(), values, what)
    return Strengths(tuple(values["double"]), tuple(values["single"]), values["other"][0])


def _is_vector(text: str) -> bool:
    rest = _NAME.sub("", text, count=1) if _NAME.match(text) and not _RULE.match(text) else text
    return bool(rest) and _NUMBER.fullmatch(rest.split(",")[0].strip()) is not None


def _vector(text: str, values: dict[str, list[float]], what: str) -> None:
    parts = text.split(",")
    double, single = len(values["double"]), len(values["single"])
    if len(parts) != 1 + double + single:
        raise BlocksError(
            f"{what} must be {1 + double + single} numbers for this model (one for what lies outside of the blocks, "
            f"{double} of double blocks, {single} of single ones) or rules such as {EXAMPLE!r}, got {len(parts)}"
        )
    numbers = [_number(part, what) for part in parts]
    values["other"], values["double"], values["single"] = numbers[:1], numbers[1 : 1 + double], numbers[1 + double :]


def _rule(rule: str, values: dict[str, list[float]], what: str) -> None:
    found = _RULE.fullmatch(rule)
    if found is None:
        raise BlocksError(
            f"{what} must be rules of all, other, double or single, numbers of blocks and a strength such as "
            f"{EXAMPLE!r}, got {brief(rule)}"
        )
    _set(found[1].lower(), re.split(r"\s*,\s*|(?<=\d)\s+(?=\d)", found[2].strip()), found[3], values, what, 0)


def _short_rule(rule: str, values: dict[str, list[float]], what: str) -> None:
    found = _SHORT.fullmatch(rule)
    if found is None:
        raise BlocksError(
            f"{what} must have default, base, double or single, numbers of blocks and = behind its %, such as "
            f"'%default=1,double1-4=0.5', got {brief(rule)}"
        )
    kind = {"default": "all", "base": "other"}.get(found[1].lower(), found[1].lower())
    _set(kind, [found[2].strip()], found[3], values, what, 1)


def _set(kind: str, ranges: Sequence[str], number: str, values: dict[str, list[float]], what: str, first: int) -> None:
    """Set the strength of some blocks, whose numbers count from `first`."""
    strength = _number(number, what)
    if kind not in KINDS:
        if any(ranges):
            raise BlocksError(f"{what} must have {kind} without numbers of blocks, got {brief(' '.join(ranges))}")
        for name in values if kind == "all" else ("other",):
            values[name] = [strength] * len(values[name])
        return
    own = values[kind]
    for text in ranges if any(ranges) else [f"{first}-{first + len(own) - 1}"] if own else []:
        found = _RANGE.fullmatch(text)
        start, end = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not first <= start <= end < first + len(own):
            there = f"{first} to {first + len(own) - 1}" if own else "none"
            raise BlocksError(
                f"{what} must name {kind} blocks of this model ({there}), got {plain(text) or 'no number'}"
            )
        own[start - first : end - first + 1] = [strength] * (end - start + 1)


def _number(text: str, what: str) -> float:
    number = float(text) if _NUMBER.fullmatch(text.strip()) else math.nan
    if not abs(number) <= MOST:
        raise BlocksError(f"{what} must have strengths from {-MOST:g} to {MOST:g}, got {brief(text.strip())}")
    return number


def _runs(values: Sequence[float]) -> list[tuple[str, float]]:
    """Runs of neighbouring blocks with the same value: block numbers and the value."""
    runs, start = [], 0
    for place in range(1, len(values) + 1):
        if place == len(values) or values[place] != values[start]:
            runs.append((f"{start}" if place - start == 1 else f"{start}-{place - 1}", values[start]))
            start = place
    return runs

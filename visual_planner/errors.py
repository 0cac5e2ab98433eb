"""The errors of the planner: one base class, one child per subject; and how values appear in their messages.

Each message is a single line that names the input, says what it was, and says what it must be. Anything that was
read from outside (values, keys, names) is truncated and escaped in it (`brief`, `plain`, `listed`).
"""

import re
from collections.abc import Iterable, Mapping, Set
from itertools import islice

BRIEF = 80
"""Longest value in a message [characters]."""
_PROBLEM = 600
"""Longest problem in a message [characters]; several are separated by semicolons."""
_LONGEST = 4000
"""Longest message [characters]; only lists of many problems come near it."""
_DEEPEST = 4
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
"""Control characters, line and paragraph separators, marks that change the direction of text, lone surrogates."""


def plain(text: object, limit: int = BRIEF) -> str:
    """A name or a text for a message, without quotation marks: truncated, with control characters escaped."""
    text = text if isinstance(text, str) else brief(text, limit)
    return _cut(_UNPRINTABLE.sub(_escaped, text[: limit + 1]), limit)


def listed(names: Iterable[object], most: int = 8) -> str:
    """Names for a message, the first ones: "a, b, c and 5 more"."""
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(plain(name, 40) for name in names[:most]) + rest


def brief(value: object, limit: int = BRIEF) -> str:
    """A value for a message: its `repr`, on one line and truncated.

    The work is bounded as well: of a large or deeply nested structure only the beginning is looked at, and parts that
    occur in it many times are not written out.
    """
    return _cut(_UNPRINTABLE.sub(_escaped, _brief(value, limit + 1, 0)), limit)


def _brief(value: object, room: int, depth: int) -> str:
    if isinstance(value, str | bytes | bytearray):
        return repr(value[: max(room, 1)])
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return f"a number of about {round(value.bit_length() * 0.30103)} digits"
    if isinstance(value, Mapping):
        opened, closed, items = "{", "}", value.items()
    elif isinstance(value, list | tuple | Set):
        opened, closed = ("[", "]") if isinstance(value, list) else ("(", ")") if isinstance(value, tuple) else "{}"
        items = value
    else:
        try:
            return repr(value)
        except Exception:  # a foreign class whose repr fails: show its name
            return f"a {type(value).__name__}"
    if depth == _DEEPEST:
        return f"{opened}...{closed}"
    parts: list[str] = []
    used = 2
    for item in islice(iter(items), room):
        if used > room:
            break
        if isinstance(value, Mapping):
            key = _brief(item[0], room - used, depth + 1)
            text = f"{key}: {_brief(item[1], room - used, depth + 1)}"
        else:
            text = _brief(item, room - used, depth + 1)
        parts.append(text)
        used += len(text) + 2
    comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
    return f"{opened}{', '.join(parts)}{comma}{closed}"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


class PlannerError(ValueError):
    """Something given to the planner cannot be used; the message says what and how to fix it."""

    def __str__(self) -> str:
        """The message: one line, every problem and the whole of bounded length."""
        problems = plain(super().__str__(), _LONGEST).split("; ")
        return "; ".join(_cut(problem, _PROBLEM) for problem in problems)


class LayoutError(PlannerError):
    """A grid layout, a cell size or a number of frames does not fit."""


class ImageError(PlannerError):
    """A picture has a shape, a dtype or a value range that cannot be used."""


class TrajectoryError(PlannerError):
    """A trajectory cannot be read, or asks for something impossible."""


class PromptError(PlannerError):
    """A prompt cannot be built from the given mode, instruction and template."""


class SpecError(PlannerError):
    """A planner record (PlannerSpec) is broken, contradicts itself or is of an unknown version."""


class ConditioningError(PlannerError):
    """Latents, tokens or position ids do not fit together."""


class ChainError(PlannerError):
    """Plans cannot follow each other as asked."""


class ReadoutError(PlannerError):
    """A read-out's record, weights or camera cannot be used."""

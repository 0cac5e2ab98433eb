"""JSON from outside: a text becomes a value, or an error of one line."""

import json

from .errors import PlannerError, brief, plain
from .text import decode_text

MAX_DEPTH = 64
"""Deepest nesting of a record: a deeper one would break the code that walks through it later."""


def json_value(text: "str | bytes | bytearray", what: str, error: type[Exception] = PlannerError) -> object:
    """The value that JSON stands for.

    Args:
        text: the JSON; bytes are decoded by `decode_text`.
        what: names it in messages.
        error: class of the error to raise.

    Raises:
        PlannerError: (or `error`) it is not JSON, is nested deeper than `MAX_DEPTH`, has a number of thousands of
            digits, or an object has a key twice (JSON leaves open which one counts); the message says where.
    """
    if not isinstance(text, str | bytes | bytearray):
        raise error(f"{what} must be JSON text, got {brief(text)}")
    if not isinstance(text, str):
        text = decode_text(bytes(text), what, error)
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except _RepeatedKey as problem:
        raise error(f"{what} must have each key once, but {brief(problem.key)} stands twice in one object") from None
    except json.JSONDecodeError as problem:
        raise error(
            f"{what} must be JSON, but line {problem.lineno} column {problem.colno} cannot be read: "
            f"{plain(problem.msg)}"
        ) from None
    except RecursionError:
        raise error(f"{what} must be nested at most {MAX_DEPTH} deep, got more") from None
    except ValueError:  # a number with more digits than Python converts
        raise error(f"{what} must be JSON, but it has a number of more than 4300 digits") from None
    if _too_deep(value):
        raise error(f"{what} must be nested at most {MAX_DEPTH} deep, got more")
    return value


def json_record(text: "str | bytes | bytearray", what: str, error: type[Exception] = PlannerError) -> dict:
    """The object that JSON stands for; see `json_value`.

    Raises:
        PlannerError: (or `error`) as `json_value`, and for a value of another type.
    """
    value = json_value(text, what, error)
    if not isinstance(value, dict):
        raise error(f"{what} must be a JSON object, got {type(value).__name__}")
    return value


def numbers(value: object, most: int, limit: float = 1e9, depth: int = 1) -> list | None:
    """A list of finite numbers, or of equally long lists of them, as JSON gives it; None for everything else.

    Args:
        value: as it was read.
        most: how many numbers it may hold.
        limit: largest absolute value of one; also what keeps later arithmetic finite.
        depth: 1 for a list of numbers, 2 for a list of such lists.
    """
    if not isinstance(value, list | tuple) or len(value) > most:
        return None
    flat = value
    for _ in range(depth - 1):
        if not all(isinstance(item, list | tuple) for item in flat):
            return None
        if len({len(item) for item in flat}) > 1 or (flat and len(flat) * len(flat[0]) > most):
            return None
        flat = [part for item in flat for part in item]
    plain_numbers = all(isinstance(item, int | float) and not isinstance(item, bool) for item in flat)
    return list(value) if plain_numbers and all(-limit <= item <= limit for item in flat) else None


class _RepeatedKey(ValueError):
    """An object has a key twice."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _unique(pairs: list[tuple[str, object]]) -> dict:
    """The object made of the key-value pairs that `json` passes."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        raise _RepeatedKey(next(key for key, _ in pairs if key in seen or seen.add(key)))
    return found


def _too_deep(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            part
            for item in level
            if isinstance(item, dict | list)
            for part in (item.values() if isinstance(item, dict) else item)
            if isinstance(part, dict | list)
        ]
        if not level:
            return False
    return True

"""JSON from outside: a text becomes a value, or an error of one line."""

import json

from .errors import PlannerError, plain

MAX_DEPTH = 64
"""Deepest nesting of a record: a value beyond it would break what walks through it later."""


def json_value(text: "str | bytes | bytearray", what: str, error: type[Exception] = PlannerError) -> object:
    """The value that JSON stands for.

    Args:
        text: the JSON; bytes are UTF-8.
        what: names it in messages.
        error: class of the error to raise.

    Raises:
        PlannerError: (or `error`) it is not JSON, is nested deeper than `MAX_DEPTH`, or has a number of thousands of
            digits; the message says where.
    """
    if not isinstance(text, str):
        try:
            text = bytes(text).decode("utf-8-sig")
        except UnicodeDecodeError as problem:
            byte = problem.object[problem.start]
            raise error(f"{what} must be UTF-8 text, got byte 0x{byte:02x} at {problem.start}") from None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as problem:
        raise error(
            f"{what} must be JSON, but line {problem.lineno} column {problem.colno} cannot be read: "
            f"{plain(problem.msg)}"
        ) from None
    except RecursionError:
        raise error(f"{what} must be nested at most {MAX_DEPTH} deep, got more") from None
    except ValueError:  # of a number that is longer than Python converts
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

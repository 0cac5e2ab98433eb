"""Records that others wrote, checked before they are used: JSON objects, rows of tables."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from visual_planner.errors import brief, plain
from visual_planner.text import one_line

from ...errors import TrainingError


class Record(BaseModel):
    """A record of known keys; further keys are ignored. Nothing is converted: "3" is not a number."""

    model_config = ConfigDict(strict=True, extra="ignore", arbitrary_types_allowed=True)


def _whole(value: object) -> object:
    """Turn whole floats into integers: tables with missing values store whole numbers as floats."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _readable(text: str) -> str:
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError("must be text, got half a surrogate pair")
    return text


def _some(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


_WORDS = {"Input should": "must", "must be a valid": "must be a", "must be a integer": "must be an integer"}
"The library's phrases -> ours, replaced one after the other."
Text = Annotated[str, AfterValidator(_readable)]
SomeText = Annotated[str, AfterValidator(_readable), AfterValidator(_some)]
Count = Annotated[int, BeforeValidator(_whole), Field(ge=1, lt=2**31)]
Index = Annotated[int, BeforeValidator(_whole), Field(ge=0, lt=2**31)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Instruction = Annotated[str, BeforeValidator(lambda value: instruction_of(value))]
"""A text; numbers, lists and null count as an empty one."""


def instruction_of(value: object) -> str:
    """An instruction on one line, without the NULs of arrays of a fixed width; "" for anything that is not a text."""
    if not isinstance(value, str):
        return ""
    return one_line(value.encode("utf-8", "replace").decode("utf-8").replace("\0", ""))


def checked(kind: type[Record], value: object, what: str) -> Any:
    """Validate a record.

    Args:
        kind: class that declares the required keys and their values.
        value: what was read.
        what: names the file, and the line or row, in messages.

    Raises:
        TrainingError: it is not an object, or a key is missing or has a wrong value; the message names the first one.
    """
    if not isinstance(value, Mapping):
        raise TrainingError(f"{what} must be an object, got {brief(value)}")
    try:
        return kind.model_validate(dict(value))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = plain(".".join(str(part) for part in problem["loc"]) or "record")
        if problem["type"] == "missing":
            raise TrainingError(f"{what} lacks {place!r}") from None
        text = problem["msg"].removeprefix("Value error, ")
        for theirs, ours in _WORDS.items():
            text = text.replace(theirs, ours)
        raise TrainingError(f"{what}: {place!r} {text}, got {brief(problem['input'])}") from None

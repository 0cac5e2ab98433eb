"""Instructions in an episode: texts or code points, under the names that various data sets use."""

import re

from ....errors import TrainingError
from ..records import instruction_of
from .tfrecord import Example

_NAMES = (
    "steps/language_instruction",
    "steps/observation/natural_language_instruction",
    "steps/natural_language_instruction",
    "steps/observation/language_instruction",
    "steps/observation/instruction",
    "episode_metadata/language_instruction",
    "language_instruction",
)
_LIKE = re.compile(
    r"(natural_)?(language_)?instructions?(_\d+)?|task_description|task_language|language", re.IGNORECASE
)
"Last part of other names: second phrasings (DROID), and names in further data sets."


def instruction(example: Example, steps: int, what: str) -> str:
    """First text that is not empty, searching the names in order and each over all steps; "" if there is none.

    Args:
        example: the episode.
        steps: its length.
        what: names it in messages.

    Raises:
        TrainingError: bytes that are not UTF-8.
    """
    others = sorted(name for name in example.names if name not in _NAMES and _LIKE.fullmatch(name.rpartition("/")[2]))
    for name in (*_NAMES, *others):
        for value in example.texts(name):
            if value.strip(b"\0 \t\r\n"):
                try:
                    return instruction_of(value.rstrip(b"\0").decode("utf-8"))
                except UnicodeDecodeError as error:
                    raise TrainingError(f"{what}: {name} is not UTF-8 text") from error
        if text := _of_code_points(example.integers(name), steps):
            return text
    return ""


def _of_code_points(values: list[int], steps: int) -> str:
    """First text in rows of code points, one row per step, padded with zeros (Language-Table's int32[512])."""
    if not values or len(values) % steps or len(values) == steps:
        return ""  # a single number per step is a number, not a text
    width = len(values) // steps
    for start in range(0, len(values), width):
        letters = values[start : start + width]
        while letters and not letters[-1]:
            letters = letters[:-1]
        if letters and all(letter >= 32 or letter in (9, 10, 13) for letter in letters) and max(letters) < 0x110000:
            return instruction_of("".join(map(chr, letters)))
    return ""

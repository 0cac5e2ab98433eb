"""Read a planner spec's record from a file: JSON text of this version or an older one, brought to today's fields."""

from collections.abc import Set

from ..errors import SpecError, brief, listed
from ..execution.keyframe_choice import RULES
from ..json_text import json_record
from ..versions import upgrade
from .families import FLUX1

SPEC_KEY = "visual_planner.spec"
"""Key of the record in a safetensors header."""
SPEC_VERSION = 6
_UPGRADES = {
    # Version 1 did not say how a frame fills its cell; all data of that time was made with the default.
    1: lambda record: {"fit": "letterbox"},
    # Until version 2 there was one family, sampled without classifier-free guidance.
    2: lambda record: {"family": FLUX1.name, "cfg": 1.0},
    # Until version 3 the frames of a plan were evenly spaced in time, as far as was known.
    3: lambda record: {"keyframes": RULES[0]},
    # Until version 4 plans to be executed were sampled like those to be looked at.
    4: lambda record: {"execution_steps": record.get("steps")},
    # Until version 5 no planner was given a goal picture.
    5: lambda record: {"goal_prompt": ""},
}
_REQUIRED = ("base_model", "base_shift", "max_shift", "execution_steps")
"""Fields that code, but not a record, may leave to the family or to another field."""


def read_record(text: str, names: Set[str]) -> dict:
    """Fields of a record, brought to this version.

    Args:
        text: the record's JSON.
        names: names of all fields.

    Raises:
        SpecError: the text is not JSON, is of a newer version, lacks keys, or has unknown keys.
    """
    if not isinstance(text, str):
        raise SpecError(f"planner spec must be JSON text, got {brief(text)}")
    record = json_record(text, "planner spec", SpecError)
    record = upgrade(record, _UPGRADES, SPEC_VERSION, "planner spec", SpecError)
    if unknown := sorted(record.keys() - names):
        raise SpecError(f"planner spec has unknown keys: {listed(unknown)}; known are {', '.join(sorted(names))}")
    if missing := sorted(names - record.keys()):
        raise SpecError(f"planner spec lacks the keys {', '.join(missing)}")
    for name in _REQUIRED:
        if record[name] is None:
            raise SpecError(f"planner spec {name} must have a value, got null")
    return record

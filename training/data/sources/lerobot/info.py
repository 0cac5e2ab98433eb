"""meta/info.json: what a data set holds, and where."""

import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from visual_planner.errors import brief

from ....errors import TrainingError
from ....files import read_json
from ..records import Count, Finite, Record, SomeText, Text, checked

_SPEC = re.compile(r"(0?[1-9])?d?")
"Format of a number in a path template, such as 06d: greater widths would only make names long."
_JOINTS = re.compile(
    r"joint|shoulder|elbow|wrist|waist|forearm|upper_?arm|motor|angle|degree|radian|"
    r"(^|[._ -])(pan|lift|flex|roll|q|j)\d*($|[._ -])",
    re.IGNORECASE,
)
_AXIS = re.compile(r"(^|[^a-z])[xyz]($|[^a-z])", re.IGNORECASE)


class Info(Record):
    """The keys that are needed; `features` holds each feature's own description."""

    codebase_version: Text
    fps: Annotated[Finite, Field(gt=0, le=100_000)]
    features: dict[Text, dict]
    data_path: SomeText
    video_path: SomeText | None = None
    chunks_size: Annotated[Count, BeforeValidator(lambda value: value or 1000)] = 1000

    @property
    def cameras(self) -> list[str]:
        """Features that are pictures."""
        return [name for name, feature in self.features.items() if feature.get("dtype") in ("image", "video")]

    def is_video(self, camera: str) -> bool:
        """Whether a camera's pictures are in videos; otherwise they are in the tables."""
        return self.features[camera]["dtype"] == "video"

    @property
    def is_v3(self) -> bool:
        """Whether many episodes share a file."""
        return self.codebase_version.startswith("v3.")


def read_info(path: Path) -> Info:
    """The record of a data set.

    Raises:
        TrainingError: it is missing, of another version, or a key of it has a value that cannot be used.
    """
    file = path / "meta" / "info.json"
    record = read_json(file, "LeRobot data set")
    version = record.get("codebase_version", "")
    if not isinstance(version, str) or not version.startswith(("v2.", "v3.")):
        raise TrainingError(f"{file}: codebase_version must be v2.x or v3.x, got {brief(version)}")
    return checked(Info, record, str(file))


def fill(path: Path, template: str, **values: object) -> Path:
    """The path that a template of info.json gives, within the data set's folder.

    Raises:
        TrainingError: the template has an unknown field or a format other than a plain number's, or the path leads out
            of the folder.
    """
    where = f"{path / 'meta' / 'info.json'}: path template {brief(template)}"
    try:
        for _, name, spec, conversion in string.Formatter().parse(template):
            if name is None:
                continue
            plain_number = isinstance(values.get(name), int) and _SPEC.fullmatch(spec)
            if name not in values or conversion or not (plain_number or not spec):
                raise TrainingError(
                    f"{where} must have fields such as {{{'}, {'.join(values)}}}, got {brief(name)}:{brief(spec)}"
                )
        file = path / template.format(**values)
        if not file.resolve().is_relative_to(path.resolve()):
            raise TrainingError(f"{where} leaves the data set's folder")
        file.exists()  # of a name that is too long nothing else can be asked either
    except (OSError, ValueError) as error:
        if isinstance(error, TrainingError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise TrainingError(f"{where} cannot be filled: {reason}") from error
    return file


def may_be_states(feature: Mapping) -> bool:
    """Whether a feature's values can begin with a place: floats, three or more per row if its shape is given."""
    shape = feature.get("shape")
    few = isinstance(shape, list) and len(shape) == 1 and isinstance(shape[0], int) and shape[0] < 3
    return str(feature.get("dtype")).startswith("float") and not few


def check_states(feature: Mapping, name: str, choices: list[str]) -> None:
    """Raise TrainingError if a feature declares its first values as joint angles, which are not a place in space."""
    names = _flat(feature.get("names"))[:3]
    joints = [text for text in names if _JOINTS.search(text)]
    if len(joints) >= 2 and not all(_AXIS.search(text) for text in names):
        raise TrainingError(
            f"states must be positions of the end effector [m], got {name!r} with {', '.join(names)}: joint angles are "
            "no place in the picture"
            + (f" (prepare.states may be {', '.join(choices)})" if choices else ", and there are no other states")
        )


def _flat(names: object) -> list[str]:
    """Names of a feature's values, which are a list, or lists by group."""
    if isinstance(names, str):
        return [names]
    parts = list(names.values()) if isinstance(names, Mapping) else names if isinstance(names, list) else []
    return [text for part in parts for text in _flat(part)]

"""Every key that a configuration may have, with type, default and meaning: `python -m training describe [SECTION]`."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from visual_planner.errors import brief

from ..errors import TrainingError
from .config import Config

MARKDOWN = "--markdown"


class Key(NamedTuple):
    """One key: its dotted name, type, default and meaning, as text."""

    name: str
    kind: str
    default: str
    meaning: str


def describe(arguments: list[str]) -> None:
    """Print the keys of the named sections, or of all; with `--markdown` as the reference page.

    Raises:
        TrainingError: there is no section of that name.
    """
    sections = {name: model for name, field in Config.model_fields.items() if (model := _section(field.annotation))}
    names = [name for name in arguments if name != MARKDOWN]
    unknown = [name for name in names if name not in sections]
    if unknown:
        raise TrainingError(f"section must be one of {', '.join(sections)}, got {brief(unknown[0])}")
    chosen = {name: sections[name] for name in names or sections}
    if MARKDOWN in arguments:
        print(reference(chosen), end="")
        return
    for name, model in chosen.items():
        for key in keys(name, model):
            print(f"{key.name} ({key.kind}, {key.default})" + (f": {key.meaning}" if key.meaning else ""))


def keys(prefix: str, model: type[BaseModel]) -> Iterator[Key]:
    """The keys of a section and of the sections in it."""
    for name, field in model.model_fields.items():
        inner = _section(field.annotation)
        if inner is not None:
            yield from keys(f"{prefix}.{name}", inner)
            continue
        default = field.get_default(call_default_factory=True)
        value = "required" if default is PydanticUndefined else f"default {default}"
        yield Key(f"{prefix}.{name}", type_text(field.annotation), value, field.description or "")


def reference(sections: dict[str, type[BaseModel]]) -> str:
    """The page docs/reference/configuration.md."""
    parts = [
        "# Configuration",
        "",
        "Every key of a training configuration, made by `python -m training describe --markdown`.",
        "The section `spec` has the fields of PlannerSpec (`visual_planner/planner/spec.py`).",
        "Unknown keys are refused; `--set section.key=value` changes one value.",
    ]
    for name, model in sections.items():
        parts += ["", f"## {name}", "", (inspect.getdoc(model) or "").splitlines()[0], ""]
        parts += ["| key | type | default | meaning |", "|---|---|---|---|"]
        for key in keys(name, model):
            cells = (f"`{key.name}`", key.kind, key.default.removeprefix("default "), key.meaning)
            parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(parts) + "\n"


def type_text(annotation: object) -> str:
    """A type in the terms of a person who writes YAML: number, text, path, list of ..., one of ..."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(inner[0])
    if origin is Literal:
        return ", ".join(map(str, inner))
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(type_text(part) for part in inner if part is not NoneType))
    if origin is list:
        return f"list of {type_text(inner[0])}"
    if origin is dict:
        return f"mapping of {type_text(inner[0])} to {type_text(inner[1])}"
    if origin is tuple:
        return " and ".join(type_text(part) for part in inner)
    names = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}
    return names.get(annotation, "mapping" if annotation is dict else getattr(annotation, "__name__", str(annotation)))


def _section(annotation: object) -> type[BaseModel] | None:
    """The section class in an annotation such as `TrainSection | None`."""
    kinds = [annotation, *get_args(annotation)]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)

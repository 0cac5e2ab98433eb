"""Every key that a configuration may have, with type, default and meaning: `python -m training describe [SECTION]`."""

from collections.abc import Iterator
from typing import get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from ..errors import TrainingError
from .config import Config


def describe(arguments: list[str]) -> None:
    """Print the keys of the named sections, or of all.

    Raises:
        TrainingError: there is no section of that name.
    """
    sections = {name: model for name, field in Config.model_fields.items() if (model := _section(field.annotation))}
    unknown = [name for name in arguments if name not in sections]
    if unknown:
        raise TrainingError(f"section must be one of {', '.join(sections)}, got {unknown[0]!r}")
    for name in arguments or sections:
        print("\n".join(_lines(name, sections[name])))


def _section(annotation: object) -> type[BaseModel] | None:
    """The section class in an annotation such as `TrainSection | None`."""
    kinds = [annotation, *get_args(annotation)]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _lines(prefix: str, model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = _section(field.annotation)
        if inner is not None:
            yield from _lines(f"{prefix}.{name}", inner)
            continue
        kind = str(field.annotation).replace("typing.", "").replace("pathlib._local.", "").replace("pathlib.", "")
        kind = field.annotation.__name__ if isinstance(field.annotation, type) else kind
        default = field.get_default(call_default_factory=True)
        value = "required" if default is PydanticUndefined else f"default {default}"
        yield f"{prefix}.{name} ({kind}, {value})" + (f": {field.description}" if field.description else "")

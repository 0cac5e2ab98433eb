"""The widgets of a node in a workflow file: which inputs they stand for, and which saved value belongs to which.

The editor saves values as a bare list, in the order in which it creates the widgets; this module uses the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

JsonObject = dict[str, Any]

WIDGET_TYPES = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
# A choice that adds further inputs, named "choice.input" (ComfyUI 0.33 and newer).
DYNAMIC_COMBO = "COMFY_DYNAMICCOMBO_V3"
SEED_CONTROLS = frozenset({"fixed", "increment", "decrement", "randomize"})
UPLOAD_FLAGS = ("image_upload", "video_upload", "audio_upload", "file_upload")
UPLOAD_VALUE = "image"  # what the editor saves for the button that uploads a file
_MISSING = object()


class Widget(NamedTuple):
    """A widget's place in `widgets_values` (index, or key if values are saved by name) and its value."""

    key: int | str
    value: Any


def read_widgets(info: JsonObject, values: list[Any] | Mapping[str, Any]) -> dict[str, Widget]:
    """Name -> widget, for all widgets of a node.

    A value that the file lacks, because the node had fewer inputs when it was saved, becomes the input's default, as in
    the editor; inputs without a default are left out.

    Args:
        info: The node type's entry in `/object_info`.
        values: The node's `widgets_values`.
    """
    reader = _ByName(values) if isinstance(values, Mapping) else _InOrder(list(values))
    reader.read_group(info["input"], info.get("input_order") or {}, "")
    return reader.found


class _InOrder:
    """Reads a list of values from its start."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values
        self.position = 0
        self.found: dict[str, Widget] = {}

    def read_group(self, inputs: JsonObject, order: JsonObject, prefix: str) -> None:
        for group in ("required", "optional"):
            entries = inputs.get(group) or {}
            uploads = False
            for name in order.get(group) or entries:
                kind, options = entries[name][0], (entries[name][1] if len(entries[name]) > 1 else {})
                if kind == DYNAMIC_COMBO:
                    self.read_choice(f"{prefix}{name}", options)
                elif is_widget(kind, options):
                    uploads = uploads or any(options.get(flag) for flag in UPLOAD_FLAGS)
                    self.read_one(f"{prefix}{name}", options, _default(kind, options))
                    if _has_seed_control(name, options):
                        self.skip(SEED_CONTROLS)
            if uploads:
                self.skip({UPLOAD_VALUE})

    def read_choice(self, name: str, options: JsonObject) -> None:
        choices = {choice["key"]: choice["inputs"] for choice in options["options"]}
        self.read_one(name, options, next(iter(choices), _MISSING))
        chosen = self.found.get(name)
        if chosen is not None and chosen.value in choices:
            self.read_group(choices[chosen.value], {}, f"{name}.")

    def read_one(self, name: str, options: JsonObject, default: Any) -> None:
        value = self.values[self.position] if self.position < len(self.values) else default
        if value is not _MISSING:
            self.found[name] = Widget(self.position, value)
        self.position += 1

    def skip(self, known: frozenset[str] | set[str]) -> None:
        """Skip a value that belongs to no input."""
        if self.position < len(self.values) and self.values[self.position] in known:
            self.position += 1


class _ByName(_InOrder):
    """Reads values that are saved by name."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__([])
        self.by_name = values

    def read_one(self, name: str, options: JsonObject, default: Any) -> None:
        value = self.by_name.get(name, default)
        if value is not _MISSING:
            self.found[name] = Widget(name, value)


def is_widget(kind: Any, options: JsonObject) -> bool:
    """Whether the editor shows an input as a widget."""
    if options.get("forceInput"):
        return False
    return isinstance(kind, list) or kind in WIDGET_TYPES or options.get("widgetType") in WIDGET_TYPES


def _default(kind: Any, options: JsonObject) -> Any:
    choices = kind if isinstance(kind, list) else options.get("options")
    return options.get("default", choices[0] if choices else _MISSING)


def _has_seed_control(name: str, options: JsonObject) -> bool:
    return bool(options.get("control_after_generate")) or name in ("seed", "noise_seed")

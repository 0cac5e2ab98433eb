"""Checks an API prompt against node types, as a ComfyUI server does before it runs one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launcher.widgets import DYNAMIC_COMBO

JsonObject = dict[str, Any]
Fault = tuple[str, str, str]
"""Type of the node, its input, and the server's word for what is wrong."""

RECORDED = Path(__file__).resolve().parents[1] / "fixtures" / "comfyui_0.33.0_nodes.json"
"""What ComfyUI 0.33.0 tells in `/object_info` of the stock nodes of workflows that 0.3.75 cannot open."""


def with_recorded(info: JsonObject) -> JsonObject:
    """A server's node types, and for those that it lacks the recorded ones."""
    return json.loads(RECORDED.read_text(encoding="utf-8")) | info


def prompt_faults(prompt: JsonObject, info: JsonObject) -> set[Fault]:
    """What is wrong with the inputs of a prompt's nodes.

    Args:
        prompt: node id -> class_type, inputs.
        info: `/object_info`.

    Raises:
        KeyError: a node's type is not in `info`.
    """
    return {
        (node["class_type"], name, fault)
        for node in prompt.values()
        for name, required, spec in _inputs(info[node["class_type"]]["input"], node["inputs"])
        if (fault := _fault(prompt, info, node["inputs"], name, required, spec))
    }


def _inputs(groups: JsonObject, given: JsonObject, prefix: str = "") -> Iterator[tuple[str, bool, list]]:
    """Name, whether it is required, and specification; of a choice that brings inputs, those of what is chosen."""
    for group in ("required", "optional"):
        for name, spec in (groups.get(group) or {}).items():
            name, options = f"{prefix}{name}", spec[1] if len(spec) > 1 else {}
            if spec[0] != DYNAMIC_COMBO:
                yield name, group == "required", spec
                continue
            choices = {choice["key"]: choice["inputs"] for choice in options["options"]}
            yield name, group == "required", [list(choices), options]
            yield from _inputs(choices.get(given.get(name), {}), given, f"{name}.")


def _fault(prompt: JsonObject, info: JsonObject, given: JsonObject, name: str, required: bool, spec: list) -> str:
    if name not in given:
        return "required_input_missing" if required else ""
    value, kind, options = given[name], spec[0], spec[1] if len(spec) > 1 else {}
    if isinstance(value, list):
        source, slot = value
        made = info[prompt[source]["class_type"]]["output"][slot]
        fits = isinstance(kind, str) and (kind == "*" or set(made.split(",")) & set(kind.split(",")))
        return "" if fits else "return_type_mismatch"
    choices = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
    if choices is not None:
        return "" if value in choices else "value_not_in_list"
    if isinstance(value, int | float) and value < options.get("min", value):
        return "value_smaller_than_min"
    if isinstance(value, int | float) and value > options.get("max", value):
        return "value_bigger_than_max"
    return ""

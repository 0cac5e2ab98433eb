"""Workflow files (as ComfyUI's editor saves them, format 0.4) and their conversion to what the server executes.

The editor does this conversion in the browser. It is done here as well, so that the demo and the tests run exactly the
files that a user opens. It follows the editor: widget values by the order of the node's inputs, links, muted and
bypassed nodes, reroutes, primitives.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from .errors import LauncherError
from .widgets import Widget, read_widgets

JsonObject = dict[str, Any]

MODE_MUTED, MODE_BYPASSED = 2, 4
# Nodes that exist only in the editor.
NOTES = frozenset({"Note", "MarkdownNote"})
REROUTE, PRIMITIVE = "Reroute", "PrimitiveNode"


class WorkflowError(LauncherError):
    """A workflow file cannot be read, or does not fit the server's nodes."""


def _is_workflow(data: object) -> bool:
    """Whether a value has the form that the editor saves: nodes with id, type and widgets, and links."""
    if not isinstance(data, dict) or not isinstance(data.get("definitions", {}), dict | None):
        return False
    nodes, links = data.get("nodes"), data.get("links")
    return (
        isinstance(nodes, list)
        and isinstance(links, list)
        and all(
            isinstance(node, dict)
            and isinstance(node.get("id"), int | str)
            and isinstance(node.get("type"), str)
            and isinstance(node.get("widgets_values", []), list | dict | None)
            and all(isinstance(node.get(side) or [], list) for side in ("inputs", "outputs"))
            and all(isinstance(slot, dict) for side in ("inputs", "outputs") for slot in node.get(side) or [])
            for node in nodes
        )
        and all(link is None or (isinstance(link, list) and len(link) >= 5 and _are_plain(link[:5])) for link in links)
    )


def _are_plain(values: list) -> bool:
    return all(isinstance(value, int | str) for value in values)


class Workflow:
    """A workflow file, together with the node types of the server that will run it."""

    def __init__(self, data: JsonObject, object_info: JsonObject, name: str = "workflow") -> None:
        """Copy the file's content.

        Args:
            data: Content of the workflow file.
            object_info: The server's `/object_info`.
            name: The workflow's name in messages.

        Raises:
            WorkflowError: The content is not a workflow of the supported form.
        """
        if not _is_workflow(data):
            raise WorkflowError(f"{name} must be a workflow saved by ComfyUI's editor (with nodes and links)")
        self.data = copy.deepcopy(data)
        self.object_info = object_info
        self.name = name
        self._nodes = {node["id"]: node for node in self.data["nodes"]}
        self._links = {link[0]: tuple(link[1:5]) for link in self.data["links"] if link is not None}
        if (self.data.get("definitions") or {}).get("subgraphs"):
            raise WorkflowError(f"{name} holds subgraphs: unpack them in the editor first")

    @classmethod
    def load(cls, path: Path, object_info: JsonObject) -> Workflow:
        """Read a workflow file.

        Raises:
            WorkflowError: It is missing or is not a workflow.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise WorkflowError(f"workflow file {path} is missing") from None
        except (ValueError, RecursionError, OSError) as error:
            reason = str(error).encode("unicode_escape").decode()[:200]
            raise WorkflowError(f"workflow file {path} is not JSON: {reason}") from error
        return cls(data, object_info, path.name)

    def find(self, node_type: str, title: str | None = None) -> list[JsonObject]:
        """Nodes of a type (and title), in the order of the file."""
        return [
            node
            for node in self.data["nodes"]
            if node["type"] == node_type and (title is None or self.title(node) == title)
        ]

    def feeding(self, node_type: str, name: str) -> JsonObject | None:
        """The node whose output goes straight to an input of the first node of a type; None if there is none."""
        return feeding(self.data, node_type, name)

    def title(self, node: JsonObject) -> str:
        """Title of a node: the user's own, or else the display name of its type."""
        info = self.object_info.get(node["type"], {})
        return node.get("title") or info.get("display_name") or node["type"]

    def has_widget(self, node: JsonObject, name: str) -> bool:
        """Whether a node has a widget of that name."""
        return node["type"] in self.object_info and name in self._widgets(node)

    def get_widget(self, node: JsonObject, name: str) -> Any:
        """Value of a node's widget.

        Raises:
            WorkflowError: The node has no such widget.
        """
        return self._widget(node, name).value

    def set_widget(self, node: JsonObject, name: str, value: Any) -> None:
        """Set a node's widget, as typing into it would.

        Raises:
            WorkflowError: The node has no such widget, or a link feeds it.
        """
        key = self._widget(node, name).key
        if any(entry.get("name") == name and entry.get("link") is not None for entry in node.get("inputs") or []):
            raise WorkflowError(f"{self.name}: {self.title(node)} gets {name} from another node, so it cannot be set")
        values = node["widgets_values"] = node.get("widgets_values") or []
        if isinstance(values, list) and len(values) <= key:  # saved before the node had this widget
            values += [widget.value for widget in self._widgets(node).values() if widget.key >= len(values)]
        values[key] = value

    def _widget(self, node: JsonObject, name: str) -> Widget:
        widgets = self._widgets(node)
        if name not in widgets:
            raise WorkflowError(f"{self.name}: {self.title(node)} has no widget {name!r}; it has {', '.join(widgets)}")
        return widgets[name]

    def _widgets(self, node: JsonObject) -> dict[str, Widget]:
        return read_widgets(self.object_info[node["type"]], node.get("widgets_values") or [])

    def to_prompt(self) -> JsonObject:
        """Convert to the server's form: node id -> class_type, inputs, title.

        Raises:
            WorkflowError: A node's type is unknown to the server.
        """
        prompt: JsonObject = {}
        for node in self.data["nodes"]:
            if node["type"] in NOTES or node["type"] in (REROUTE, PRIMITIVE):
                continue
            if node.get("mode", 0) in (MODE_MUTED, MODE_BYPASSED):
                continue
            if node["type"] not in self.object_info:
                raise WorkflowError(f"{self.name} needs the node {node['type']!r}, which this ComfyUI does not have")
            prompt[str(node["id"])] = {
                "class_type": node["type"],
                "inputs": self._inputs(node),
                "_meta": {"title": self.title(node)},
            }
        for entry in prompt.values():  # drop links from nodes that are not executed
            entry["inputs"] = {
                name: value
                for name, value in entry["inputs"].items()
                if not (isinstance(value, list) and len(value) == 2 and str(value[0]) not in prompt)
            }
        return prompt

    def _inputs(self, node: JsonObject) -> JsonObject:
        # The server reads a two-element list as a link, so a widget's own list is wrapped.
        inputs = {
            name: {"__value__": widget.value} if isinstance(widget.value, list) else widget.value
            for name, widget in self._widgets(node).items()
        }
        for entry in node.get("inputs") or []:
            if entry.get("link") is None:
                continue
            source = self._resolve(entry["link"])
            if source is None:
                if not entry.get("widget"):
                    inputs.pop(entry["name"], None)
                continue
            inputs[entry["name"]] = source
        return inputs

    def _resolve(self, link_id: int) -> Any:
        """Where a link comes from: [node id, output], a primitive's value, or None if it leads nowhere."""
        for _ in range(len(self._links) + 1):
            if link_id not in self._links:
                return None
            origin_id, slot, _, _ = self._links[link_id]
            origin = self._nodes.get(origin_id)
            if origin is None or origin.get("mode", 0) == MODE_MUTED:
                return None
            if origin["type"] == PRIMITIVE:
                return (origin.get("widgets_values") or [None])[0]
            if origin["type"] != REROUTE and origin.get("mode", 0) != MODE_BYPASSED:
                return [str(origin_id), slot]
            link_id = _passed_through(origin, slot)
        raise WorkflowError(f"{self.name}: a reroute leads back to itself")


def feeding(data: JsonObject, node_type: str, name: str) -> JsonObject | None:
    """The node of a workflow file whose output goes straight to an input of the first node of a type."""
    slots = [slot for node in data["nodes"] if node["type"] == node_type for slot in node.get("inputs") or []]
    links = [slot.get("link") for slot in slots if slot.get("name") == name]
    origins = [link[1] for link in data["links"] if link is not None and link[0] in links]
    return next((node for node in data["nodes"] if node["id"] in origins), None)


def _passed_through(node: JsonObject, slot: int) -> int | None:
    """Link of the input that a reroute or a bypassed node passes on: the same slot's, or else the first that fits."""
    inputs = node.get("inputs") or []
    if node["type"] == REROUTE:
        return inputs[0].get("link") if inputs else None
    wanted = node["outputs"][slot]["type"]
    order = [slot, *(index for index in range(len(inputs)) if index != slot)]
    for index in order:
        if index < len(inputs) and inputs[index]["type"] in (wanted, "*") and inputs[index].get("link") is not None:
            return inputs[index]["link"]
    return None

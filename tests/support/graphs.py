"""Small workflow files of ComfyUI's own nodes, built the way the editor saves them (format 0.4)."""

from __future__ import annotations

from typing import Any

JsonObject = dict[str, Any]


class GraphBuilder:
    """Builds a workflow file: `add` nodes, `link` them, take `data`."""

    def __init__(self) -> None:
        self.nodes: list[JsonObject] = []
        self.links: list[list[Any]] = []

    def add(
        self,
        node_type: str,
        inputs: tuple[tuple[str, str], ...] = (),
        outputs: tuple[tuple[str, str], ...] = (),
        widgets: Any = (),
        **extra: Any,
    ) -> JsonObject:
        """Add a node.

        Args:
            node_type: Its type.
            inputs: (name, type) of each input socket; a name with a leading `*` is the socket of a widget.
            outputs: (name, type) of each output.
            widgets: `widgets_values`.
            extra: More fields (title, mode, ...).
        """
        node = {
            "id": len(self.nodes) + 1,
            "type": node_type,
            "mode": 0,
            "inputs": [_socket(name, kind) for name, kind in inputs],
            "outputs": [{"name": name, "type": kind, "links": []} for name, kind in outputs],
            "widgets_values": widgets if isinstance(widgets, dict) else list(widgets),
            **extra,
        }
        self.nodes.append(node)
        return node

    def link(self, source: JsonObject, output: int, target: JsonObject, name: str) -> int:
        """Connect an output with an input."""
        slot = next(index for index, entry in enumerate(target["inputs"]) if entry["name"] == name)
        link_id = len(self.links) + 1
        kind = source["outputs"][output]["type"]
        self.links.append([link_id, source["id"], output, target["id"], slot, kind])
        source["outputs"][output]["links"].append(link_id)
        target["inputs"][slot]["link"] = link_id
        return link_id

    @property
    def data(self) -> JsonObject:
        """The content of the workflow file."""
        return {"version": 0.4, "nodes": self.nodes, "links": self.links, "groups": [], "config": {}, "extra": {}}


def _socket(name: str, kind: str) -> JsonObject:
    plain = name.removeprefix("*")
    socket: JsonObject = {"name": plain, "type": kind, "link": None}
    if plain != name:
        socket["widget"] = {"name": plain}
    return socket


def picture_graph(count: int = 3, color: int = 0x3366CC) -> GraphBuilder:
    """`count` plain pictures of 64x48, saved."""
    graph = GraphBuilder()
    empty = graph.add("EmptyImage", outputs=(("IMAGE", "IMAGE"),), widgets=(64, 48, count, color))
    save = graph.add("SaveImage", inputs=(("images", "IMAGE"),), widgets=("plain",), title="Keep these")
    graph.link(empty, 0, save, "images")
    return graph

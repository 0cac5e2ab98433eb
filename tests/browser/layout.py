"""Where nodes and groups of a workflow lie: what is wrong with it, and how it is set right."""

from __future__ import annotations

import itertools
from typing import Any

JsonObject = dict[str, Any]
Box = list[float]
"""x, y, width, height [px of the graph]"""

NOTE = "MarkdownNote"
TITLE = 30.0
"""Height of a node's title, which lies above its place [px]."""
GROUP_TITLE = 34.0
"""Height of a group's title, which lies inside its box [px]."""
GAP, SIDE, ABOVE = 20.0, 20.0, 50.0
"""Free room between nodes (and between groups), around a group's nodes, and above them for its title [px]."""
ROOM_BELOW = {"VisualPlannerExtend": 232.0}
"""What Nodes 2.0 of frontend 1.58 adds below nodes with a text field as soon as they show a picture, whatever their
height in the file [px]: free room in their group, since as height it would be added again at the next layout."""


def faults(nodes: list[JsonObject], groups: list[JsonObject]) -> list[str]:
    """What is wrong with a layout: nodes on nodes, groups on groups, nodes out of their group or on a group's title.

    Args:
        nodes: Their `title`, `type` and `box`, as `Editor.nodes` gives them.
        groups: Their `title` and `box`.
    """
    pairs = [*itertools.combinations(nodes, 2), *itertools.combinations(groups, 2)]
    found = [f"{a['title']} lies on {b['title']}" for a, b in pairs if touch(a["box"], b["box"])]
    for node in nodes:
        around = [group for group in groups if touch(node["box"], group["box"])]
        titles = [group["title"] for group in around]
        if node["type"] == NOTE:
            found += [f"{node['title']} lies on the group {title}" for title in titles]
        elif len(around) != 1:
            found.append(f"{node['title']} must lie in one group, not in {titles}")
        elif not _holds(around[0]["box"], node["box"]):
            found.append(f"{node['title']} leaves its group {titles[0]}")
        elif node["box"][1] < around[0]["box"][1] + GROUP_TITLE:
            found.append(f"{node['title']} lies on the title of its group {titles[0]}")
    return found


def touch(a: Box, b: Box) -> bool:
    """Whether two boxes have a place in common."""
    return _beside(a, b) and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def _beside(a: Box, b: Box) -> bool:
    """Whether one of two boxes would meet the other if it were moved up or down."""
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2]


def _holds(outer: Box, inner: Box) -> bool:
    return all(
        outer[axis] <= inner[axis] and inner[axis] + inner[axis + 2] <= outer[axis] + outer[axis + 2] for axis in (0, 1)
    )


def respace(data: JsonObject, heights: dict[str, float]) -> None:
    """Give nodes the heights that they need and move what is below them down, in the order in which it lies now.

    Columns and rows stay; each group gets the box around its nodes.

    Args:
        data: Content of a workflow file, which is changed.
        heights: Node's number -> height that it needs below its title [px].
    """
    groups, nodes = data["groups"], data["nodes"]
    members = {id(group): [node for node in nodes if _belongs(node, group)] for group in groups}
    grouped = {node["id"] for found in members.values() for node in found}
    for node in nodes:
        node["size"] = [node["size"][0], round(max(heights.get(str(node["id"]), 0.0), 1.0))]
    for group in groups:
        _stack_nodes(members[id(group)], group["bounding"][1] + ABOVE)
        group["bounding"] = _around(members[id(group)], group["bounding"])
    free = [node for node in nodes if node["id"] not in grouped]
    items = [(group["bounding"], [group, *members[id(group)]]) for group in groups]
    items += [(_box_of(node), [node]) for node in free]
    placed: list[Box] = []
    for box, parts in sorted(items, key=lambda item: item[0][1]):
        top = max([below[1] + below[3] + GAP for below in placed if _beside(box, below)], default=box[1])
        for part in parts:
            _move_down(part, top - box[1])
        placed.append([box[0], top, box[2], box[3]])


def heights_by_kind(workflows: list[JsonObject]) -> dict[tuple[str, float], float]:
    """(type, width) of nodes -> their greatest height; notes are left out, whose heights are those of their texts."""
    found: dict[tuple[str, float], float] = {}
    for node in (node for data in workflows for node in data["nodes"] if node["type"] != NOTE):
        kind = node["type"], node["size"][0]
        found[kind] = max(found.get(kind, 0.0), node["size"][1])
    return found


def widen(data: JsonObject, kind: str, width: float) -> None:
    """Give the nodes of a type a width [px]; what lies to the right of them moves, and their groups grow."""
    for node in data["nodes"]:
        more = width - node["size"][0]
        if node["type"] != kind or not more:
            continue
        edge = node["pos"][0]
        node["size"] = [width, node["size"][1]]
        for other in data["nodes"]:
            if other["pos"][0] > edge:
                other["pos"] = [other["pos"][0] + more, other["pos"][1]]
        for group in data["groups"]:
            x, y, wide, high = group["bounding"]
            group["bounding"] = [x + more, y, wide, high] if x > edge else [x, y, wide + more * (x + wide > edge), high]


def _belongs(node: JsonObject, group: JsonObject) -> bool:
    x, y, width, height = group["bounding"]
    return x <= node["pos"][0] < x + width and y <= node["pos"][1] < y + height and node["type"] != NOTE


def _box_of(node: JsonObject) -> Box:
    height = TITLE + node["size"][1] + ROOM_BELOW.get(node["type"], 0.0)
    return [node["pos"][0], node["pos"][1] - TITLE, node["size"][0], height]


def _stack_nodes(nodes: list[JsonObject], top: float) -> None:
    placed: list[Box] = []
    for node in sorted(nodes, key=lambda one: (one["pos"][1], one["pos"][0])):
        box = _box_of(node)
        start = max([below[1] + below[3] + GAP for below in placed if _beside(box, below)], default=top)
        node["pos"] = [node["pos"][0], round(start + TITLE)]
        placed.append(_box_of(node))


def _around(nodes: list[JsonObject], old: Box) -> Box:
    boxes = [_box_of(node) for node in nodes]
    left, right = min(box[0] for box in boxes) - SIDE, max(box[0] + box[2] for box in boxes) + SIDE
    return [left, old[1], right - left, max(box[1] + box[3] for box in boxes) + SIDE - old[1]]


def _move_down(part: JsonObject, by: float) -> None:
    key = "bounding" if "bounding" in part else "pos"
    part[key] = [part[key][0], round(part[key][1] + by), *part[key][2:]]

"""The demo's workflow file for each mode, with a goal picture added to those that draw a path."""

from __future__ import annotations

from pathlib import Path

from visual_planner.planner.prompts import parts_of

from .errors import LauncherError
from .workflow import JsonObject, Workflow

CONDITION = "VisualPlannerCondition"
TITLE, GAP, SIDE = 30, 20, 20
"""Height of a node's title, space between nodes, and space below the last one of a group [px]."""


def workflow_for(mode: str, folder: Path, object_info: JsonObject) -> Workflow:
    """The workflow of a mode; with both a path and a goal picture, that of the path with the goal added.

    Raises:
        LauncherError: A file is missing, is not a workflow, or lacks a required node.
    """
    parts = parts_of(mode)
    if not parts.goal:
        return Workflow.load(folder / f"tiny_{mode}.json", object_info)
    goal = Workflow.load(folder / "tiny_goal.json", object_info)
    if not parts.path:
        return goal
    picture = goal.feeding(CONDITION, "goal")
    if picture is None:
        raise LauncherError(f"{goal.name} must have a picture at the goal input of {CONDITION}, it has none")
    drawn = Workflow.load(folder / f"tiny_{mode.removesuffix('_goal')}.json", object_info)
    return Workflow(with_goal(drawn.data, picture), object_info, drawn.name)


def with_goal(data: JsonObject, picture: JsonObject) -> JsonObject:
    """A workflow file with another Load Image node below the first one's group, connected to the input *goal*.

    Args:
        data: Content of a workflow file, which is changed.
        picture: The node to add.

    Raises:
        LauncherError: There is no node for the condition, or no picture.
    """
    conditions = [node for node in data["nodes"] if node["type"] == CONDITION]
    pictures = [node for node in data["nodes"] if node["type"] == picture["type"]]
    if len(conditions) != 1 or len(pictures) != 1:
        found = f"{len(conditions)} and {len(pictures)}"
        raise LauncherError(f"a workflow must have one {CONDITION} and one {picture['type']}, it has {found}")
    condition, first = conditions[0], pictures[0]
    number, link = (1 + max(entry) for entry in ([n["id"] for n in data["nodes"]], [k[0] for k in data["links"]]))
    slots = condition["inputs"] = [slot for slot in condition["inputs"] if slot["name"] != "goal"]
    sockets = [index for index, slot in enumerate(slots) if not slot.get("widget")]
    slots.insert(sockets[-1] + 1, {"name": "goal", "shape": 7, "type": "IMAGE", "link": link})
    data["links"].append([link, number, 0, condition["id"], sockets[-1] + 1, "IMAGE"])
    outputs = [output | {"links": [link] if index == 0 else []} for index, output in enumerate(picture["outputs"])]
    data["nodes"].append(picture | {"id": number, "pos": _room_below(data, first, picture), "outputs": outputs})
    data |= {"last_node_id": number, "last_link_id": link}
    return data


def _room_below(data: JsonObject, node: JsonObject, added: JsonObject) -> list[float]:
    """Place for a node below everything in another one's group, which grows [px]."""
    for group in data["groups"]:
        x, y, width, height = group["bounding"]
        if x <= node["pos"][0] < x + width and y <= node["pos"][1] < y + height:
            top = y + height - SIDE + GAP + TITLE
            group["bounding"] = [x, y, width, top + added["size"][1] + SIDE - y]
            return [node["pos"][0], top]
    return [node["pos"][0], node["pos"][1] - TITLE - GAP - added["size"][1]]

"""Layouts of workflow files, without a browser: what is wrong with one is seen, and set right."""

from __future__ import annotations

import copy

import pytest
from browser import layout
from browser.workflow_files import FILES, read

from launcher.demo_goal import with_goal


def node(number: int, x: float, y: float, width: float = 100.0, height: float = 50.0, kind: str = "K") -> dict:
    return {"id": number, "type": kind, "pos": [x, y], "size": [width, height]}


def group(title: str, *box: float) -> dict:
    return {"title": title, "bounding": list(box)}


def faults(data: dict) -> list[str]:
    nodes = [
        {"title": str(one["id"]), "type": one["type"], "box": [one["pos"][0], one["pos"][1] - 30, *one["size"]]}
        for one in data["nodes"]
    ]
    for one in nodes:
        one["box"][3] += 30
    return layout.faults(nodes, [{"title": one["title"], "box": one["bounding"]} for one in data["groups"]])


CLEAN = {
    "nodes": [node(1, 20, 80), node(2, 20, 180), node(3, 200, 80), node(4, 0, -80, kind=layout.NOTE), node(5, 20, 400)],
    "groups": [group("A", 0, 0, 320, 260), group("B", 0, 320, 320, 160)],
}
BROKEN = {
    (1, 20, 170): "1 lies on 2",
    (3, 250, 80): "3 leaves its group A",
    (3, 200, 40): "3 lies on the title of its group A",
    (3, 400, 80): "3 must lie in one group, not in []",
    (2, 20, 280): "2 must lie in one group, not in ['A', 'B']",
    (4, 0, -40): "4 lies on the group A",
}


def test_a_clean_layout_has_no_fault() -> None:
    assert faults(CLEAN) == []


@pytest.mark.parametrize("moved", BROKEN, ids=BROKEN.values())
def test_each_fault_is_seen(moved: tuple[int, float, float]) -> None:
    data = copy.deepcopy(CLEAN)
    next(one for one in data["nodes"] if one["id"] == moved[0])["pos"] = list(moved[1:])
    assert faults(data) == [BROKEN[moved]]


def test_groups_on_each_other_are_seen() -> None:
    data = copy.deepcopy(CLEAN)
    data["groups"][1]["bounding"] = [0, 250, 320, 230]
    assert faults(data) == ["A lies on B"]


def test_higher_nodes_push_down_what_is_below_them_and_nothing_else() -> None:
    data = copy.deepcopy(CLEAN)
    layout.respace(data, {"1": 300, "2": 50, "3": 50, "4": 130, "5": 50})
    assert faults(data) == []
    places = {one["id"]: one["pos"] for one in data["nodes"]}
    assert places[4] == [0, -80] and places[3][0] == 200, "columns stay, and the top"
    assert places[3][1] == places[1][1], "the second column is not longer than it was"
    assert places[2][1] - places[1][1] == 300 + 30 + layout.GAP
    assert data["groups"][0]["bounding"][1] == 50 + layout.GAP, "below the note, which is higher now"
    again = copy.deepcopy(data)
    layout.respace(again, {str(one["id"]): one["size"][1] for one in data["nodes"]})
    assert again == data, "a layout that is clean stays as it is"


def test_a_node_that_grows_in_a_run_has_its_room_below(monkeypatch: pytest.MonkeyPatch) -> None:
    data = copy.deepcopy(CLEAN)
    data["nodes"][1]["type"] = "Grows"
    monkeypatch.setattr(layout, "ROOM_BELOW", {"Grows": 232.0})
    sizes = {str(one["id"]): one["size"][1] for one in data["nodes"]}
    layout.respace(data, sizes)
    assert {str(one["id"]): one["size"][1] for one in data["nodes"]} == sizes
    again = copy.deepcopy(data)
    layout.respace(again, sizes)
    assert again == data, "the room is not added twice"
    data["nodes"][1]["size"][1] += 232
    assert faults(data) == []


def test_a_wider_node_moves_what_is_right_of_it() -> None:
    data = copy.deepcopy(CLEAN)
    data["nodes"][0]["type"] = "Wide"
    data["groups"].append(group("C", 400, 0, 100, 100))
    layout.widen(data, "Wide", 160)
    assert [one["size"][0] for one in data["nodes"]] == [160, 100, 100, 100, 100]
    assert [one["pos"][0] for one in data["nodes"]] == [20, 20, 260, 0, 20]
    assert [one["bounding"][0::2] for one in data["groups"]] == [[0, 380], [0, 380], [460, 100]]


@pytest.mark.parametrize("name", ["tiny_both", "tiny_trajectory"])
def test_the_demos_goal_picture_gets_a_clean_place(name: str) -> None:
    data = read(name)
    picture = next(one for one in read("tiny_goal")["nodes"] if one.get("title") == "Goal picture")
    with_goal(data, picture)
    assert faults(data) == []
    assert len({one["id"] for one in data["nodes"]}) == len(data["nodes"])
    assert len({link[0] for link in data["links"]}) == len(data["links"])
    assert data["last_node_id"] == data["nodes"][-1]["id"]
    for link, origin, slot, target, place, kind in data["links"]:
        ends = {one["id"]: one for one in data["nodes"]}
        output, given = ends[origin]["outputs"][slot], ends[target]["inputs"][place]
        assert (output["type"], given["link"]) == (kind, link) and link in output["links"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_clean_by_its_own_sizes(name: str) -> None:
    assert faults(read(name)) == []

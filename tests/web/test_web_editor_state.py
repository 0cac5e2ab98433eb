"""The trajectory editor's state, without a browser: Python reads what it stores, and every step can be undone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from visual_planner.errors import TrajectoryError
from visual_planner.trajectory.overlay import arrow_ends
from visual_planner.trajectory.parse import parse_trajectory
from visual_planner.trajectory.trajectory import Trajectory

SIZE = {"width": 640, "height": 480}


def document(*paths, width=640, height=480):
    return {"version": 1, "width": width, "height": height, "paths": list(paths)}


def path(*points, interpolation="spline", name="gripper"):
    keys = ("x", "y", "t")
    return {
        "name": name,
        "points": [dict(zip(keys, point, strict=False)) for point in points],
        "interpolation": interpolation,
    }


def test_200_random_edit_sequences(node):
    """Serialise and parse are inverse, undo and redo give each state back (asserted in edit_sequences.js)."""
    result = node("edit_sequences.js", "200")
    assert result["sequences"] == 200
    assert result["edits"] > 5000
    plans = 0
    for text in result["texts"]:
        record = json.loads(text)
        record["paths"] = [drawn for drawn in record["paths"] if len(drawn["points"]) > 1]
        if record["paths"]:
            assert parse_trajectory(record).to_dict() == record
            plans += 1
    assert plans > 150, "nearly all of them end with something that can be planned"


def random_trajectories(count: int) -> list[Trajectory]:
    """Paths with holds, given and free times, on frames of many sizes."""
    random = np.random.default_rng(11)
    made = []
    for number in range(count):
        size = random.integers(48, 800, 2)
        points = random.uniform(0, size, (random.integers(2, 9), 2)).round(2)
        if number % 3 == 0:
            points = np.insert(points, 1, points[1], axis=0)
        times = np.sort(random.choice(np.arange(1, 1000), len(points), replace=False)) / 1000
        free = random.random(len(points)) < 0.4 if number % 4 else np.zeros(len(points), bool)
        rows = [
            {"x": x, "y": y} if skip else {"x": x, "y": y, "t": t}
            for (x, y), t, skip in zip(points.tolist(), times.tolist(), free, strict=True)
        ]
        shape = {"name": "gripper", "points": rows, "interpolation": ("spline", "polyline")[number % 2]}
        made.append(parse_trajectory(document(shape, width=int(size[0]), height=int(size[1]))))
    return made


def test_the_preview_is_pythons_curve(ask):
    trajectories = random_trajectories(50)
    curves = ask("curve", [trajectory.to_json() for trajectory in trajectories])
    for trajectory, curve in zip(trajectories, curves, strict=True):
        points, times = trajectory.paths[0].polyline()
        assert np.allclose(curve["points"], points, atol=1e-6)
        assert np.allclose(curve["times"], times, atol=1e-9)
        assert np.allclose(curve["pointTimes"], trajectory.paths[0].times(), atol=1e-9)


def test_arrows_are_pythons_arrows(ask):
    """Of one path, straight or bent or closed, and of several, which are one arrow each."""
    made = random_trajectories(40)
    shapes = [
        path((10, 10), (50, 50)),
        path((10, 10), (30, 31), (50, 50), interpolation="polyline"),
        path((10, 10), (50, 20), (10, 10)),
        path((10, 10, 0), (10, 10, 1)),
        path((10, 10, 0), (40, 40, 0.2), (40, 40, 0.8), (60, 10, 1)),
    ]
    made += [parse_trajectory(document(shape, width=64, height=64)) for shape in shapes]
    made += [parse_trajectory(document(*shapes[:3], width=64, height=64))]
    drawn = ask("arrows", [trajectory.to_json() for trajectory in made])
    expected = [np.array(arrow_ends(trajectory)) for trajectory in made]
    assert {len(ends) for ends in expected} == {1, 2, 3}
    for ends, wanted in zip(drawn, expected, strict=True):
        assert np.allclose(ends, wanted, atol=1e-4)


def test_the_ring_at_a_time_is_where_python_puts_the_frame(ask):
    trajectory = random_trajectories(6)[5]
    places = ask("place", [{"text": trajectory.to_json(), "time": time} for time in np.linspace(0, 1, 9).tolist()])
    assert np.allclose(places, trajectory.paths[0].resample(9), atol=1e-6)


READABLE = [
    json.dumps(document(path((1, 2), (3, 4)))),
    json.dumps(document(path((1, 2, 0), (3, 4), (5, 6, 1)), path((1, 1), (2, 2), interpolation="polyline", name="é"))),
    json.dumps({"version": 1, **SIZE, "paths": [{"points": [{"x": 1, "y": 2}, {"x": 2, "y": 2, "t": None}]}]}),
    '[{"x": 1, "y": 2}, {"x": 3, "y": 4}, {"x": 8, "y": 4}]',
    "[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]",
    "[[1, 2, 0.2], [3, 4, 0.9]]",
]


def test_it_reads_what_python_reads_and_as_python_does(ask):
    answers = ask("parse", [{"text": text, "size": SIZE} for text in READABLE])
    for text, answer in zip(READABLE, answers, strict=True):
        assert parse_trajectory(answer["document"]) == parse_trajectory(text, 640, 480)


FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


def test_it_reads_and_refuses_what_the_node_does(ask):
    """The list that tests/core reads, too; a drawing that has just begun is no trajectory yet, but the editor's."""
    forms = json.loads((FIXTURES / "trajectory_forms.json").read_text("utf-8"))
    answers = ask("parse", [{"text": form["text"], "size": SIZE} for form in forms])
    for form, answer in zip(forms, answers, strict=True):
        wanted = form.get("document", form.get("drawing"))
        assert answer.get("document") == wanted, form["name"]
        assert (answer.get("kind") == "DocumentError") == (wanted is None), form["name"]


def test_it_reads_the_files_of_other_packs_as_the_node_does(ask):
    texts = [file.read_text("utf-8") for file in sorted((FIXTURES / "peers").glob("*.json"))]
    answers, read = ask("parse", [{"text": text, "size": SIZE} for text in texts]), 0
    for text, answer in zip(texts, answers, strict=True):
        try:
            wanted = parse_trajectory(text, 640, 480)
        except TrajectoryError:
            assert answer.get("kind") == "DocumentError", text[:80]
        else:
            assert parse_trajectory(answer["document"]) == wanted, text[:80]
            read += 1
    assert read >= 8


REFUSED = [
    ("", "no text"),
    ("nonsense", 'line 1 column 1: unexpected "n"'),
    ('{"version": 1,\n "width": 64,,}', 'line 2 column 14: unexpected ","'),
    ('{"version": 1', "line 1 column 14: unexpected the end"),
    ("[1, 2] x", 'line 1 column 8: unexpected "x"'),
    ('{"a": "b\n"}', "line 1 column 9"),
    ('{"a": 01}', 'line 1 column 8: unexpected "1"'),
    ("{}", '"version" must be 1'),
    ("3", "must be an object or a list"),
    (json.dumps(document() | {"size": 3}), "unknown keys: size"),
    (json.dumps(document() | {f"key {n}": 3 for n in range(5000)}), r"unknown keys: (key \d, ){8}\.\.\.; known"),
    (json.dumps(document() | {"k" * 5000: 3}), r"unknown keys: k{37}\.\.\.; known"),
    ("[" * 20_000, "nested more than 64 deep"),
    ("[" * 20_000 + "]" * 20_000, "nested more than 64 deep"),
    ('{"a":' * 20_000 + "1" + "}" * 20_000, "nested more than 64 deep"),
    ('["]]]", ' + "[" * 64 + "]" * 64 + "]", "nested more than 64 deep"),
    ("[" * 64 + '"[[[[\\"[[[["' + "]" * 64, "must be a list of points|must be|point"),
    (json.dumps(document() | {"width": 0}), '"width" must be a positive whole number'),
    (json.dumps(document() | {"paths": {}}), '"paths" must be a list'),
    (json.dumps(document(path((1, 2), (3, "x")))), 'path "gripper", point 2: "y" must be a number'),
    (json.dumps(document(path((1, 2), (3, 4, 2)))), '"t" must be between 0 and 1, got 2'),
    (json.dumps(document(path((1, 2, 0.5), (3, 4, 0.5)))), "times must increase .* point 2"),
    (json.dumps(document(path((1, 2), (3, 4, 0)))), "leave room .* point 2"),
    (json.dumps(document(path((1, 2, 1), (3, 4)))), "leave room .* point 1"),
    (json.dumps(document(path((1, 2), (3, 4), interpolation="bezier"))), "spline or polyline"),
    ("[]", "the list is empty"),
    ('[{"x": 1}]', 'point 1: "y" must be a number'),
]


def test_bad_text_says_where(ask):
    answers = ask("parse", [{"text": text, "size": SIZE} for text, _ in REFUSED])
    for (text, message), answer in zip(REFUSED, answers, strict=True):
        assert answer.get("kind") == "DocumentError", text
        with pytest.raises(ValueError, match=message):
            raise ValueError(answer["error"])
        with pytest.raises(TrajectoryError):
            parse_trajectory(text, 640, 480)


def test_a_list_of_points_needs_the_first_frame(ask):
    (answer,) = ask("parse", [{"text": "[[1, 2], [3, 4]]", "size": None}])
    assert "does not define its frame size" in answer["error"]


def test_a_hold_is_two_times_at_one_place(ask):
    text = json.dumps(document(path((0, 0), (100, 0), (200, 0))))
    (held,) = ask("edit", [{"text": text, "steps": [["holdPoint", 0, 1]]}])
    places = parse_trajectory(held).paths[0].resample(9)
    assert (places[4:7, 0] == 100).all() and places[3, 0] < 100 < places[7, 0]


def test_a_point_behind_one_at_the_last_frame_takes_its_time(ask):
    text = json.dumps(document(path((0, 0, 0), (100, 0, 1))))
    (longer,) = ask("edit", [{"text": text, "steps": [["insertPoint", 0, 2, 300, 0]]}])
    assert parse_trajectory(longer).paths[0].times().tolist() == pytest.approx([0, 1 / 3, 1])


def test_a_time_stays_between_its_neighbours(ask):
    text = json.dumps(document(path((0, 0, 0.2), (100, 0), (200, 0, 0.6), (300, 0))))
    early, late = ask("edit", [{"text": text, "steps": [["setTime", 0, 2, time]]} for time in (0, 1)])
    assert 0.2 < early["paths"][0]["points"][2]["t"] < 0.21
    assert 0.99 < late["paths"][0]["points"][2]["t"] < 1


def test_repeated_clicks_go_through_overlapping_points(ask):
    text = json.dumps(document(path((10, 10), (10, 10), (90, 90)), path((11, 10), (50, 50), name="cube")))
    (chosen,) = ask("stack", [{"text": text, "x": 10, "y": 10, "reach": 3, "clicks": 4}])
    assert [(one["path"], one["point"]) for one in chosen] == [(0, 0), (0, 1), (1, 0), (0, 0)]


def test_a_click_on_the_line_is_between_its_points(ask):
    text = json.dumps(document(path((0, 0), (100, 0), (100, 100), interpolation="polyline")))
    on, off = ask("line", [{"text": text, "x": x, "y": 50, "reach": 5} for x in (98, 60)])
    assert on["segment"] == 1 and on["point"] == [100, 50]
    assert off is None


def numbered(*pairs):
    return [{"path": one, "point": other} for one, other in pairs]


TWO_PATHS = json.dumps(document(path((10, 10), (60, 40, 0.5), (110, 10, 1)), path((300, 200), (639, 470), name="cube")))


def test_several_points_move_as_one_and_stop_together_at_the_edge(ask):
    group = [["selectGroup", numbered((0, 1), (1, 0), (1, 1))]]
    moved, stopped = ask(
        "session", [{"text": TWO_PATHS, "steps": [*group, ["edit", "movePoints", *by]]} for by in ((-20, 5), (50, 50))]
    )
    gripper, cube = (one["points"] for one in moved["document"]["paths"])
    assert gripper[0] == {"x": 10, "y": 10} and gripper[1] == {"x": 40, "y": 45, "t": 0.5}
    assert [(point["x"], point["y"]) for point in cube] == [(280, 205), (619, 475)]
    assert moved["group"] == numbered((0, 1), (1, 0), (1, 1)), "they stay selected"
    gripper, cube = (one["points"] for one in stopped["document"]["paths"])
    assert (gripper[1]["x"], gripper[1]["y"]) == (61, 50)
    assert [(point["x"], point["y"]) for point in cube] == [(301, 210), (640, 480)], "no shape is changed"


def test_several_points_are_mirrored_deleted_and_undone(ask):
    group = ["selectGroup", numbered((0, 0), (0, 1), (0, 2))]
    text = json.dumps(document(path((10, 10), (30, 40, 0.5), (110, 20))))
    steps = (
        [group, ["edit", "mirrorPoints", "x"]],
        [group, ["edit", "mirrorPoints", "y"]],
        [["selectGroup", numbered((0, 0), (0, 2))], ["edit", "deletePoints"]],
        [group, ["edit", "mirrorPoints", "x"], ["select", 0, 1], ["undo"]],
    )
    across, down, left, undone = ask("session", [{"text": text, "steps": one} for one in steps])
    places = [[(p["x"], p["y"]) for p in one["document"]["paths"][0]["points"]] for one in (across, down, left, undone)]
    assert places[0] == [(110, 10), (90, 40), (10, 20)]
    assert places[1] == [(10, 40), (30, 10), (110, 30)]
    assert places[2] == [(30, 40)] and left["group"] == numbered((0, 0))
    assert places[3] == [(10, 10), (30, 40), (110, 20)]
    assert undone["group"] == group[1], "undo selects again what was changed"


def test_a_point_is_added_to_the_selection_and_taken_out(ask):
    steps = (
        [["select", 0, 1], ["toggle", 1, 0]],
        [["select", 0, 1], ["toggle", 1, 0], ["toggle", 1, 0]],
        [["select", 0, 1], ["toggle", 0, 1]],
        [["selectGroup", numbered((0, 0), (1, 0))], ["lead", 0, 0], ["lead", 0, 2]],
    )
    added, out, none, led = ask("session", [{"text": TWO_PATHS, "steps": one} for one in steps])
    assert (added["group"], added["selection"]) == (numbered((0, 1), (1, 0)), {"path": 1, "point": 0})
    assert (out["group"], out["selection"]) == (numbered((0, 1)), {"path": 0, "point": 1})
    assert (none["group"], none["selection"]) == ([], {"path": 0, "point": -1})
    assert led["selection"] == {"path": 0, "point": 0}, "only one of the selected points can lead"


def test_a_box_holds_the_points_inside_it(ask):
    (found,) = ask("box", [{"text": TWO_PATHS, "from": {"x": 50, "y": 10}, "to": {"x": 310, "y": 200}}])
    assert found == numbered((0, 1), (0, 2), (1, 0))


def test_distances_are_those_of_the_curve_and_the_times(ask):
    curved = json.dumps(document(path((0, 0, 0), (30, 40), (30, 140, 1), interpolation="polyline")))
    ends = [((0, 0), (0, 1)), ((0, 0), (0, 2)), ((0, 2), (1, 0))]
    asked = [
        {"text": text, "from": numbered(a)[0], "to": numbered(b)[0], "frames": 9}
        for text, (a, b) in zip((curved, curved, TWO_PATHS), ends, strict=True)
    ]
    near, far, apart = ask("distance", asked)
    assert near == pytest.approx({"straight": 50, "along": 50, "frames": 8 / 3})
    assert far == pytest.approx({"straight": np.hypot(30, 140), "along": 150, "frames": 8})
    assert apart["along"] is None, "there is no way from one path to another"
    assert apart["straight"] == pytest.approx(np.hypot(190, 190)) and apart["frames"] == 8
    times = parse_trajectory(curved).paths[0].times()
    assert near["frames"] == pytest.approx((times[1] - times[0]) * 8), "as Python counts"


def test_places_snap_to_guides_first_then_to_the_grid(ask):
    text = json.dumps(document(path((100, 100), (333, 47), (200, 90))))
    asked = {"text": text, "moved": numbered((0, 1)), "reach": 4, "guides": True, "grid": None}
    cases = (
        ({"x": 103, "y": 87}, {"x": 100, "y": 90, "lines": {"x": 100, "y": 90}}),
        ({"x": 322, "y": 243}, {"x": 320, "y": 240, "lines": {"x": 320, "y": 240}}),
        ({"x": 333, "y": 47}, {"x": 333, "y": 47, "lines": {}}),  # never to where the moved point is itself
    )
    assert ask("snapped", [asked | {"place": place} for place, _ in cases]) == [wanted for _, wanted in cases]
    both = asked | {"grid": 25, "place": {"x": 103, "y": 140}}
    assert ask("snapped", [both, both | {"guides": False}]) == [
        {"x": 100, "y": 150, "lines": {"x": 100}},
        {"x": 100, "y": 150, "lines": {}},
    ]


def test_zoom_keeps_the_place_under_the_pointer(ask):
    steps = [["zoom", 3, 50, 80], ["zoom", 0.7, 50, 80]]
    before, after = ask("view", [{"frame": [320, 240], "canvas": [100, 160], "steps": s} for s in ([], steps)])
    assert after["scale"] == pytest.approx(before["scale"] * 2.1)
    assert after["centre"] == pytest.approx(before["centre"])
    assert after["back"] == pytest.approx({"x": 0, "y": 0}, abs=1e-9)


def test_the_strip_snaps_to_frames_unless_asked_not_to(ask):
    times = [0, 0.3, 1]
    assert ask("strip", [{"time": t, "width": 300, "frames": 9} for t in times]) == pytest.approx(times)
    near = {"x": 14 + 272 / 8 * 3 + 4, "width": 300, "frames": 9}
    snapped, free = ask("snap", [near | {"free": False}, near | {"free": True}])
    assert snapped == 3 / 8 and free > 3 / 8


def load_image(number, value="folder/scene.png"):
    return {"id": number, "type": "LoadImage", "widgets": [{"name": "image", "value": value}]}


def link(number, origin, target, slot=0):
    return {"id": number, "origin_id": origin, "origin_slot": slot, "target_id": target}


def editor(number=1, link_id=1):
    return {"id": number, "type": "VisualPlannerTrajectory", "inputs": [{"name": "first_frame", "link": link_id}]}


IMAGE = {"type": "IMAGE"}
GRAPHS = {
    "straight": {"nodes": [editor(), load_image(2)], "links": [link(1, 2, 1)]},
    "reroute": {
        "nodes": [editor(), {"id": 2, "type": "Reroute", "inputs": [{"link": 2}], "outputs": [IMAGE]}, load_image(3)],
        "links": [link(1, 2, 1), link(2, 3, 2)],
    },
    "bypassed": {
        "nodes": [
            editor(),
            {
                "id": 2,
                "type": "Blur",
                "mode": 4,
                "inputs": [{"type": "FLOAT"}, {**IMAGE, "link": 2}],
                "outputs": [IMAGE],
            },
            load_image(3),
        ],
        "links": [link(1, 2, 1), link(2, 3, 2)],
    },
    "editor inside a subgraph": {
        "nodes": [
            {
                "id": 8,
                "type": "sub",
                "inputs": [{"name": "image", "link": 5}],
                "subgraph": {"inside": {"nodes": [editor()], "links": [link(1, -10, 1)]}},
            },
            load_image(3),
        ],
        "links": [link(5, 3, 8)],
    },
    "picture inside a subgraph": {
        "nodes": [
            editor(),
            {
                "id": 8,
                "type": "sub",
                "subgraph": {
                    "outputs": [{"linkIds": [7]}],
                    "inside": {"nodes": [load_image(3)], "links": [link(7, 3, -20)]},
                },
            },
        ],
        "links": [link(1, 8, 1)],
    },
}


def test_the_first_frame_is_found_through_the_links(ask):
    found = ask("upstream", [{"wanted": 1, **graph} for graph in GRAPHS.values()])
    for name, answer in zip(GRAPHS, found, strict=True):
        assert answer is not None, name
        assert json.loads(answer) == {"filename": "scene.png", "subfolder": "folder", "type": "input"}, name


def test_where_only_a_run_can_tell_there_is_no_first_frame(ask):
    blur = {"id": 2, "type": "Blur", "inputs": [{**IMAGE, "link": 2}], "outputs": [IMAGE]}
    graph = {"wanted": 1, "nodes": [editor(), blur, load_image(3)], "links": [link(1, 2, 1), link(2, 3, 2)]}
    loop = {"wanted": 1, "nodes": [editor(), {**blur, "type": "Reroute"}], "links": [link(1, 2, 1), link(2, 2, 2)]}
    alone = {"wanted": 1, "nodes": [editor(link_id=None)], "links": []}
    assert ask("upstream", [graph, loop, alone]) == [None, None, None]

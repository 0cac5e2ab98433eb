"""What folders are: cameras or episodes, said or refused; recordings of one scene on one side; annotations of CVAT."""

import json

import numpy as np
import pytest

from support.data_files import SIZE, config_of, lines_of, plain, write_frames, write_video
from training.data.overlays import open_overlay
from training.data.prepare import prepare
from training.data.sources import open_source
from training.data.splits import find_leaks, scenes_of, split_episodes
from training.errors import TrainingError


def make(folder, kind, items):
    """Items of nine frames whose shade is 10 times their place in the list."""
    for number, item in enumerate(items):
        pictures = [plain(10 * number + step) for step in range(9)]
        if kind == "frames":
            write_frames(folder / item, pictures)
        else:
            write_video(folder / f"{item}.mp4", pictures)
    return folder


def shades(source):
    """Place in the list of items of each episode's frames; -1 where there are none."""
    return {e.id: -1 if e.problem else round(source.frames(e, [0])[0].mean() / 10) for e in source.entries}


CAMERA_FIRST = ["front/a", "front/b", "wrist_cam/a", "wrist_cam/b"]
EPISODE_FIRST = ["a/front", "a/wrist_cam", "b/front", "b/wrist_cam"]


@pytest.mark.parametrize("kind", ["frames", "videos"])
@pytest.mark.parametrize(("items", "of"), [(CAMERA_FIRST, [[0, 1], [2, 3]]), (EPISODE_FIRST, [[0, 2], [1, 3]])])
def test_folders_named_like_cameras_are_cameras(tmp_path, kind, items, of):
    make(tmp_path, kind, items)
    first, other = open_source(tmp_path), open_source(tmp_path, camera="wrist_cam")
    assert first.cameras == other.cameras == ("front", "wrist_cam")
    assert [list(shades(source).values()) for source in (first, other)] == of
    assert list(shades(other)) == ["a", "b"]
    assert any("front, wrist_cam are taken for cameras of 2 episodes" in note for note in other.notes)
    with pytest.raises(TrainingError, match="camera must be one of front, wrist_cam .*, got 'top'"):
        open_source(tmp_path, camera="top")


@pytest.mark.parametrize("kind", ["frames", "videos"])
@pytest.mark.parametrize(
    ("cameras", "chosen"),
    [(["depth", "rgb"], 1), (["cam_depth", "cam_ir", "color"], 2), (["ir_left", "left"], 1), (["depth", "depth2"], 0)],
)
def test_what_shows_no_colors_is_taken_only_when_it_is_asked_for(tmp_path, kind, cameras, chosen):
    """Without --camera; where nothing else is there, the first is taken."""
    make(tmp_path, kind, [f"{camera}/{episode}" for camera in cameras for episode in "ab"])
    assert list(shades(open_source(tmp_path, folders="cameras")).values()) == [2 * chosen, 2 * chosen + 1]
    assert list(shades(open_source(tmp_path, folders="cameras", camera=cameras[0])).values()) == [0, 1]


@pytest.mark.parametrize("kind", ["frames", "videos"])
def test_two_readings_are_refused_with_the_option_that_decides(tmp_path, kind):
    items = ["blue/x", "blue/y", "red/x", "red/y"]
    make(tmp_path, kind, items)
    with pytest.raises(TrainingError, match=r"may be cameras of 2 episodes, or there are 4 .* set prepare\.folders"):
        open_source(tmp_path)
    assert len(open_source(tmp_path, folders="episodes").entries) == 4
    cameras = open_source(tmp_path, folders="cameras")
    assert len(cameras.entries) == 2 and len(cameras.cameras) == 2
    with pytest.raises(TrainingError, match="must be one of"):
        open_source(tmp_path, camera="green")


@pytest.mark.parametrize("kind", ["frames", "videos"])
def test_folders_of_tasks_are_no_cameras(tmp_path, kind):
    """Episodes are counted anew in each task's folder; the instructions name whole items."""
    items = ["pick_cup/episode_0", "pick_cup/episode_1", "push_cube/episode_0"]
    make(tmp_path, kind, items)
    found = shades(open_source(tmp_path))
    assert found == {"pick_cup__episode_0": 0, "pick_cup__episode_1": 1, "push_cube__episode_0": 2}
    make(tmp_path, kind, [*items, "push_cube/episode_1"])
    (tmp_path / "instructions.txt").write_text("".join(f"{item}\t{item}\n" for item in [*items, "push_cube/episode_1"]))
    source = open_source(tmp_path)
    assert len(source.entries) == 4 and source.cameras == ()
    assert [entry.instruction for entry in source.entries] == [*items, "push_cube/episode_1"]


def test_an_episode_that_a_camera_lacks_is_a_broken_one(tmp_path):
    make(tmp_path, "videos", ["front/a", "front/b", "side/b"])
    with pytest.raises(TrainingError, match="episode a of .* has no video of camera side"):
        open_source(tmp_path, camera="side")
    source = open_source(tmp_path, camera="side", strict=False)
    assert shades(source) == {"b": 2, "a": -1}


def test_a_stray_video_does_not_hide_the_rest(tmp_path):
    make(tmp_path, "videos", [*CAMERA_FIRST, "teaser"])
    source = open_source(tmp_path)
    assert shades(source) == {"a": 0, "b": 1}
    assert any("outside the folders of cameras are left out: teaser" in note for note in source.notes)


def test_a_preview_among_the_frames_is_two_formats(tmp_path):
    make(tmp_path, "frames", ["a", "b"])
    write_video(tmp_path / "a" / "preview.mp4", [plain(3)] * 9)
    with pytest.raises(TrainingError, match=r"as videos .*preview\.mp4\); frames .* choose one with prepare\.format"):
        open_source(tmp_path)
    assert shades(open_source(tmp_path, "frames")) == {"a": 0, "b": 1}


@pytest.mark.parametrize("count", [1, 12])
def test_pictures_without_a_folder_are_refused(tmp_path, count):
    write_frames(tmp_path / "set", [plain(20)] * count)
    with pytest.raises(TrainingError, match=rf"must have a folder per episode .*, got {count} pictures directly in it"):
        open_source(tmp_path / "set", "frames")


# --- splits ---


@pytest.mark.parametrize("rule", ["last", "random"])
def test_two_cameras_of_a_scene_stay_on_one_side(tmp_path, rule):
    make(tmp_path / "set", "frames", [f"ep{n}_{camera}" for n in range(6) for camera in ("front", "side")])
    (tmp_path / "set" / "instructions.txt").write_text("push")
    prepare(config_of(tmp_path, tmp_path / "set", split=rule, validation_episodes=4))
    sides = {line["episode"]: line["split"] for line in lines_of(tmp_path)}
    assert all(sides[f"ep{n}_front"] == sides[f"ep{n}_side"] for n in range(6))
    assert sorted(sides.values()).count("validation") == 4


def test_no_scene_is_ever_on_both_sides():
    random = np.random.default_rng(0)
    for trial in range(150):
        count = int(random.integers(2, 30))
        names = [f"{n:02d}" for n in range(count)]
        firsts = {name: f"f{random.integers(0, count)}" for name in names}
        shown = {name: [f"s{n}" for n in random.integers(0, 60, 4)] + [firsts[names[0]]] * (random.random() < 0.1)
                 for name in names}  # fmt: skip
        told = {name: str(random.integers(0, 12)) if random.random() < 0.3 else "" for name in names}
        scenes = scenes_of(firsts, shown, told)
        for one in names:
            for other in names:
                if firsts[one] == firsts[other] or (told[one] and told[one] == told[other]):
                    assert scenes[one] == scenes[other]
        wanted = int(random.integers(1, count))
        try:
            kept = split_episodes(scenes, wanted, ("last", "random")[trial % 2], trial)
        except TrainingError as error:
            sizes = np.unique(list(scenes.values()), return_counts=True)[1]
            assert "no episode can be held out" in str(error) and sizes.min() > wanted
            continue
        pairs = [{"episode": name, "split": "validation" if name in kept else "train"} for name in names]
        assert 0 < len(kept) <= wanted and find_leaks(pairs, firsts, scenes) == []


# --- CVAT ---

SHAPES = {
    "points": '<points frame="{0}" outside="{1}" points="{2}.0,20.0"/>',
    "box": '<box frame="{0}" outside="{1}" xtl="{2}" ytl="10" xbr="{2}" ybr="30"/>',
}


def project(shape="points", tasks=("a", "b"), marks=True, extra=""):
    """Export of a project: a task an episode, whose track runs from 10 or 40 px to the right, 2 px a frame."""
    head, tracks = "", ""
    for number, name in enumerate(tasks):
        head += (
            f"<task><id>{number + 7}</id><name>{name}</name><original_size><width>{SIZE[1]}</width>"
            f"<height>{SIZE[0]}</height></original_size></task>"
        )
        places = "".join(SHAPES[shape].format(f, 0, 10 + 30 * number + 2 * f) for f in range(9))
        mark = f' task_id="{number + 7}"' if marks else ""
        tracks += f'<track id="0" label="hand"{mark}>{places}{extra}</track>'
    return f"<annotations><meta><project><tasks>{head}</tasks></project></meta>{tracks}</annotations>"


def path_of(folder, data, number=0):
    source = open_source(folder)
    overlay = open_overlay("cvat", source, data, "", ("trajectory",))
    trajectory = overlay(source, source.entries[number], np.array([0, 4, 8]), SIZE)
    assert len(trajectory.paths) == 1
    return [(point.x, point.y, point.t) for point in trajectory.paths[0].points]


@pytest.fixture
def episodes(tmp_path):
    return make(tmp_path / "set", "frames", ["a", "b"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("shape", list(SHAPES))
def test_a_project_gives_each_episode_its_own_tracks(tmp_path, episodes, shape, encoding):
    (tmp_path / "p.xml").write_bytes(project(shape).encode(encoding))
    for number in range(2):
        path = path_of(episodes, tmp_path / "p.xml", number)
        assert path == [(10 + 30 * number + 2 * f, 20, f / 8) for f in range(9)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (project(marks=False), "a track does not say whose it is: export each alone"),
        (project(tasks=("a", "a")), "must have one task or image for episode a .*, got 2 tasks"),
        (project(tasks=("x", "y")), "got no image and no task"),
        (project(extra='<points frame="8" outside="0" points="1,2;3,4"/>'), "must have one point per frame, got 2"),
        (project(extra='<points frame="9" outside="0" points="1,2"/>'), "must be at frames 0 to 8 .*, got frame '9'"),
        (project(extra='<points frame="-1" outside="0" points="1,2"/>'), "got frame '-1'"),
        (project(extra='<points frame="8" outside="0" points="nan,2"/>'), "must have finite points"),
        (project(extra='<points frame="8" outside="0" points="1"/>'), "has points that cannot be read"),
        (project(extra='<points frame="8" outside="0"/>'), "has points that cannot be read"),
        ("<annotations", "are not XML"),
        ("", "are not XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "must not declare a document type"),
    ],
)
def test_annotations_that_say_something_else_are_one_line(tmp_path, episodes, text, message):
    (tmp_path / "p.xml").write_text(text)
    with pytest.raises(TrainingError, match=rf"p\.xml.*{message}") as caught:
        path_of(episodes, tmp_path / "p.xml")
    assert str(caught.value).isprintable()


def test_what_is_outside_is_left_out(tmp_path, episodes):
    text = project(tasks=("a",)).replace('frame="5" outside="0" points="20.0', 'frame="5" outside="1" points="60.0')
    (tmp_path / "p.xml").write_text(text)
    assert [x for x, _, _ in path_of(episodes, tmp_path / "p.xml")] == [10, 12, 14, 16, 18, 22, 24, 26]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", ["folder", "lines"])
def test_drawn_paths_in_every_encoding(tmp_path, episodes, form, encoding):
    points = [{"x": 4, "y": 6}, {"x": 50, "y": 40}]
    record = {"version": 1, "width": SIZE[1], "height": SIZE[0], "paths": [{"points": points}]}
    data = tmp_path / ("drawn" if form == "folder" else "drawn.jsonl")
    if form == "folder":
        data.mkdir()
        (data / "a.json").write_bytes(json.dumps(record, indent=1).encode(encoding))
    else:
        data.write_bytes((json.dumps({"episode": "a", "trajectory": record}) + "\r\n").encode(encoding))
    source = open_source(episodes)
    overlay = open_overlay("drawn", source, data, "", ("trajectory",))
    path = overlay(source, source.entries[0], np.array([0, 4, 8]), SIZE).paths[0]
    assert [(point.x, point.y) for point in path.points] == [(4, 6), (50, 40)]
    with pytest.raises(TrainingError, match=r"episode b .* has no drawn path: .*drawn.* does not exist"):
        overlay(source, source.entries[1], np.array([0, 4, 8]), SIZE)

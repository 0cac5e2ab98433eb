"""Meta-World: scenes by seed, pictures, keyframes, execution, data sets, and the page's figures."""

import itertools
import json
import re

import numpy as np
import pytest
from PIL import Image

from support.imports import ROOT
from training.data.sources import open_source
from visual_planner.errors import PlannerError
from visual_planner.execution.camera import View
from visual_planner.execution.keyframe_choice import choose_by_shape
from worlds.errors import WorldError
from worlds.metaworld.__main__ import main
from worlds.metaworld.bounds import ROWS, measure_bounds
from worlds.metaworld.camera import CAMERAS, Pictures, project
from worlds.metaworld.dataset import MAX_ATTEMPTS, MAX_RECOVERIES, Options, write_dataset
from worlds.metaworld.execution import MAX_STEPS, execute
from worlds.metaworld.motion import demonstrate, play, recover, show
from worlds.metaworld.scene import EVALUATION_SEEDS, Scenes
from worlds.metaworld.tasks import TASKS, all_texts, caption, instruction


@pytest.fixture(scope="module")
def scenes():
    return Scenes()


def test_a_seed_gives_the_same_scene_whatever_ran_before(scenes):
    _, first = scenes.reset("door-open", 3)
    first = first.copy()
    scenes.reset("basketball", 1)
    _, other = scenes.reset("door-open", 4)
    assert not np.allclose(other[:7], first[:7])
    _, again = scenes.reset("door-open", 3)
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize(("task", "seed"), [("door", 1), ("hammer", -1), ("hammer", 1.5), ("hammer", 2**32)])
def test_a_scene_that_cannot_be_is_refused(scenes, task, seed):
    with pytest.raises(WorldError, match="must be"):
        scenes.reset(task, seed)


@pytest.mark.parametrize("task", ["faucet-open", "shelf-place", "assembly"])
def test_true_keyframes_by_shape_do_the_task(scenes, task):
    motion = demonstrate(scenes, task, 0)
    assert motion.success is not None and len(motion) <= MAX_STEPS + 1
    chosen = motion.choose(9)
    assert chosen[0] == 0 and chosen[-1] == len(motion) - 1 and (np.diff(chosen) > 0).all()
    outcome = execute(*scenes.reset(task, 0), motion.keyframes(chosen))
    assert outcome.success and outcome.steps <= MAX_STEPS
    still = execute(*scenes.reset(task, 0), np.repeat(motion.keyframes(chosen[:1]), 9, axis=0))
    assert not still.success


def test_pictures_show_the_hand_where_the_view_says(scenes):
    """The fingers are white and cyan: near the projected place there is more of them than anywhere else."""
    motion = demonstrate(scenes, "basketball", 2)
    env, _ = scenes.reset("basketball", 2)
    pictures = Pictures(env, 64)
    number = len(motion) // 2
    show(env, motion.states[number])
    for camera in CAMERAS:
        picture = pictures.take(camera).astype(int)
        assert picture.shape == (64, 64, 3)
        cyan = (picture[..., 1] > 150) & (picture[..., 2] > 150) & (picture[..., 0] < 110)
        x, y = project(pictures.view(camera), motion.hand_m[number], 64)
        rows, cols = np.nonzero(cyan)
        assert np.hypot(rows.mean() - y, cols.mean() - x) < 5, camera
        view = View(**pictures.view(camera))
        seen = view.see(motion.hand_m[number][None])
        np.testing.assert_allclose(seen[0, :2] * 64, [x, y], atol=1e-4)
        np.testing.assert_allclose(view.place(seen)[0], motion.hand_m[number], atol=1e-6)
    pictures.close()


def test_play_does_not_depend_on_what_ran_before(scenes):
    first = play(scenes, "hammer", 7, np.random.default_rng(1))
    demonstrate(scenes, "hammer", 0)
    again = play(scenes, "hammer", 7, np.random.default_rng(1))
    np.testing.assert_array_equal(first.states, again.states)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metaworld") / "data"
    summary = write_dataset(folder, Options(1, 5_000_000, tasks=("door-close", "hammer"), later_starts=1), 1, False)
    return folder, summary


def test_a_data_set_is_read_by_training(data):
    folder, summary = data
    source = open_source(folder)
    assert source.format == "simulated"
    assert len(source.entries) == summary["episodes"] == 2 * 3 * 2
    records = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    for entry, record in zip(source.entries, records, strict=True):
        assert source.frames(entry, range(9)).shape == (9, 64, 64, 3)
        assert entry.instruction and record["success"] and len(record["end_effector_m"]) == 9
        assert record["path_px"][0][2] == 0 and record["path_px"][-1][2] == 1
    begins = [record["begins"] for record in records]
    assert begins.count(0.0) == 6 and all(0 < value <= 0.75 for value in begins if value)


def test_a_recovery_begins_where_a_wrong_plan_has_failed(scenes, tmp_path):
    """The script goes on from what the plan has left; where the plan succeeded after all there is nothing to show."""
    options = Options(2, 5_000_000, policy="recovery", tasks=("shelf-place",), cameras=("corner",))
    write_dataset(tmp_path / "data", options, 1, False)
    records = [json.loads(line) for line in (tmp_path / "data" / "episodes.jsonl").read_text().splitlines()]
    assert len(records) == 2
    for record in records:
        seed = record["seed"]
        assert record["id"] == f"shelf-place_{seed}_corner_recovery" and record["success"] and record["begins"] == 0
        start = scenes.reset("shelf-place", seed)[1][:3]
        assert np.linalg.norm(start - record["end_effector_m"][0]) > 0.05, "not the scene's own start"
    motion = recover(scenes, "shelf-place", seed, np.random.default_rng((seed, TASKS.index("shelf-place"))))
    np.testing.assert_allclose(motion.hand_m[0], record["end_effector_m"][0], atol=1e-4)
    done = [recover(scenes, "door-close", seed, np.random.default_rng(seed)) for seed in range(5_000_000, 5_000_006)]
    assert None in done and all(motion is None or len(motion) > 1 for motion in done)


def test_a_run_without_a_recovery_is_left_out_and_a_task_without_any_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr("worlds.metaworld.dataset.recover", lambda scenes, task, seed, rng: None)
    with pytest.raises(WorldError, match="no recovery of door-close succeeded from seed 5000000 on"):
        write_dataset(tmp_path / "none", Options(1, 5_000_000, policy="recovery", tasks=("door-close",)), 1, False)
    assert not (tmp_path / "none").exists()
    monkeypatch.setattr(
        "worlds.metaworld.dataset.recover",
        lambda scenes, task, seed, rng: None if seed % 2 else recover(scenes, task, seed, rng),
    )
    options = Options(2, 5_000_000, policy="recovery", tasks=("shelf-place",), cameras=("corner",))
    assert write_dataset(tmp_path / "some", options, 1, False)["episodes"] == 1


def test_two_processes_write_the_same_data_set(data, tmp_path, capfd):
    folder, _ = data
    options = Options(1, 5_000_000, tasks=("door-close", "hammer"), later_starts=1)
    write_dataset(tmp_path / "two", options, 2, False)
    assert "EGL" not in capfd.readouterr().err  # the processes close their renderers in time
    for name in ("episodes.jsonl", "dataset.json"):
        assert (tmp_path / "two" / name).read_bytes() == (folder / name).read_bytes()
    for file in (folder / "frames").iterdir():
        ours, theirs = (np.array(Image.open(path)) for path in (file, tmp_path / "two" / "frames" / file.name))
        np.testing.assert_array_equal(ours, theirs)


def test_bad_options_are_named(tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    command = ["demonstrate", "--runs", "1", "--seed", "5000000", "--quiet", "--out"]
    assert main([*command, str(tmp_path / "full")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "new"), "--tasks", "juggle"]) == 2
    assert "tasks must be some of door-open" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_training_seeds_are_no_evaluation_seeds():
    configs = [
        (ROOT / "training" / "configs" / name).read_text() for name in ("metaworld.yaml", "metaworld_readout.yaml")
    ]
    runs = {
        (int(seed), int(count)) for text in configs for count, seed in re.findall(r"--runs (\d+) --seed (\d+)", text)
    }
    assert len(runs) >= 5
    # a scene that the script cannot solve is replaced by one whose seed lies further on
    attempts = max(MAX_ATTEMPTS, MAX_RECOVERIES)
    drawn = [range(seed, seed + count * attempts) for seed, count in sorted(runs)]
    for one, following in zip([EVALUATION_SEEDS, *drawn], drawn, strict=False):
        assert one.stop <= following.start
    assert Options(1, 3).for_evaluation and not Options(1, 1_000_000).for_evaluation


def test_every_task_is_told_without_saying_it_in_the_caption():
    assert len(TASKS) == 11 and len(all_texts()) == 11 * 4
    for task in TASKS:
        assert instruction(task) in all_texts() and instruction(task) not in caption(task)


def test_bounds_of_a_few_scenes(tmp_path, capsys):
    result = measure_bounds(range(2), ("door-close",), progress=False)
    assert result.keys() == ROWS.keys()
    assert result["true_keyframes"] == {"door-close": 2} and result["static"] == {"door-close": 0}
    assert main(["bounds", "--seeds", "0", "1", "--quiet", "--out", str(tmp_path / "x.json")]) == 2
    assert "range of two or more" in capsys.readouterr().err


def test_the_page_says_what_the_results_say():
    page = (ROOT / "docs" / "benchmarks" / "metaworld.md").read_text()
    results = json.loads((ROOT / "docs" / "benchmarks" / "metaworld_bounds.json").read_text())
    for task in TASKS:
        cells = " | ".join(f"{results['successes'][row][task]}/{results['scenes_of_task']}" for row in ROWS)
        assert re.search(rf"^\| {task}( \*)? \| {re.escape(cells)} \|$", page, re.MULTILINE), task
    for row in ROWS:
        total = sum(results["successes"][row].values())
        assert f"{total}/275 = {total / 275:.1%}" in page


# ---- keyframes by shape


def test_the_corners_of_a_broken_line_are_found():
    corners = np.array([[0, 0], [4, 0], [4, 3], [1, 3]], float)
    steps = [np.linspace(a, b, 12)[:-1] for a, b in itertools.pairwise(corners)]
    path = np.concatenate([*steps, corners[-1:]])
    assert choose_by_shape(path, 4).tolist() == [0, 11, 22, 33]


def test_a_short_path_is_taken_whole_and_its_end_repeated():
    assert choose_by_shape(np.arange(6.0).reshape(3, 2), 5).tolist() == [0, 1, 2, 2, 2]
    assert choose_by_shape(np.arange(40.0).reshape(20, 2), 9, step=5).tolist()[0] == 0


def test_more_moments_never_fit_worse():
    rng = np.random.default_rng(0)
    path = np.cumsum(rng.normal(size=(60, 3)), axis=0)

    def error(chosen):
        total = 0.0
        for a, b in itertools.pairwise(chosen):
            points, along = path[a : b + 1] - path[a], path[b] - path[a]
            share = np.clip(points @ along / max(along @ along, 1e-12), 0, 1)[:, None]
            total += float(((points - share * along) ** 2).sum())
        return total

    errors = [error(choose_by_shape(path, count)) for count in range(2, 12)]
    assert all(after <= before + 1e-9 for before, after in itertools.pairwise(errors))
    assert error(choose_by_shape(path, 6)) <= error(np.linspace(0, 59, 6).round().astype(int))


@pytest.mark.parametrize(("path", "count"), [([1.0, 2.0], 3), ([[0.0, np.nan]], 3), ([[0.0, 1.0]] * 5, 1)])
def test_a_path_that_is_none_is_refused(path, count):
    with pytest.raises(PlannerError, match="must be"):
        choose_by_shape(np.array(path), count)

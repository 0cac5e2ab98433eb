"""What every world promises, a toy among them that was made by the documented steps."""

import numpy as np
import pytest

from support.imports import ROOT
from worlds.__main__ import main
from worlds.errors import UnreachableError, WorldError
from worlds.protocol import Viewpoint, checked_keyframes
from worlds.registry import WORLDS, open_world, world_class

TOY = "support.toy_world:ToyWorld"
SEEDS = {"jaco": 9_000_300, "metaworld": 3, "toy": 5}
TASKS = {"jaco": "pick", "metaworld": "faucet-open", "toy": "left"}


@pytest.fixture(scope="module", params=["jaco", "metaworld", "toy"])
def world(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(WORLDS, "toy", TOY)
        try:
            made = open_world(request.param, 32)
        except WorldError as error:
            if "render" in str(error):
                pytest.skip(f"NO RENDERING TEST HAS RUN: {error}")
            raise
        with made:
            yield made


@pytest.fixture(scope="module")
def request_of(world):
    return world.draw(SEEDS[world.name], TASKS[world.name])


def test_a_seed_gives_the_same_request_and_pictures(world, request_of):
    shown = world.demonstrate(request_of)
    world.demonstrate(world.draw(SEEDS[world.name] + 1))
    again = world.draw(SEEDS[world.name], TASKS[world.name])
    assert again == request_of
    second = world.demonstrate(again)
    np.testing.assert_array_equal(second.frames, shown.frames)
    np.testing.assert_array_equal(second.keyframes, shown.keyframes)
    np.testing.assert_array_equal(world.first_frame(again), shown.frames[0])
    assert request_of.instruction and request_of.caption and request_of.task == TASKS[world.name]


@pytest.mark.parametrize("rule", ["time", "shape"])
def test_the_demonstration_is_seen_where_the_view_says(world, request_of, rule):
    for camera in world.cameras:
        request = world.draw(SEEDS[world.name], TASKS[world.name], viewpoint=Viewpoint(camera))
        shown = world.demonstrate(request, 9, rule)
        assert shown.success and shown.frames.shape == (9, 32, 32, 3) and shown.keyframes.shape == (9, 4)
        assert set(np.unique(shown.keyframes[:, 3])) <= {0.0, 1.0} or world.name == "jaco"
        times = shown.path_px[:, 2]
        assert times[0] == 0 and times[-1] == 1 and (np.diff(times) >= 0).all()
        cells = np.linspace(0, 1, 9)
        on_path = np.stack([np.interp(cells, times, shown.path_px[:, axis]) for axis in (0, 1)], axis=1)
        seen = request.view.see(shown.keyframes[:, :3])[:, :2] * 32
        assert np.abs(on_path - seen).max() < 1.0, "a frame's place stands in the path at the time of its cell"


@pytest.mark.parametrize("rule", ["time", "shape"])
def test_true_keyframes_do_the_task_and_a_still_plan_does_not(world, request_of, rule):
    shown = world.demonstrate(request_of, 9, rule)
    rollout = world.start(request_of, 9, rule)
    done = rollout.carry_out(shown.keyframes)
    assert rollout.success and done.clamped == 0 and done.start_error_m < 0.02
    assert done.frames.shape == (9, 32, 32, 3) and done.tool_m.shape == (9, 3)
    assert done.tracking_error_m(shown.keyframes) < 0.1
    still = world.start(request_of)
    assert not still.success
    still.carry_out(np.repeat(shown.keyframes[:1], 9, axis=0))
    assert not still.success


def test_an_attempt_is_the_same_again_with_pictures_and_without(world, request_of):
    keys = world.demonstrate(request_of).keyframes
    first = world.start(request_of).carry_out(keys[:5])
    again = world.start(request_of).carry_out(keys[:5], pictures=False)
    np.testing.assert_array_equal(first.tool_m, again.tool_m)


def test_a_second_plan_goes_on_where_the_first_one_ended(world, request_of):
    keys = world.demonstrate(request_of).keyframes
    rollout = world.start(request_of, 9)
    first = rollout.carry_out(keys[:5])
    second = rollout.carry_out(keys[4:])
    assert rollout.success
    np.testing.assert_allclose(second.tool_m[0], first.tool_m[-1], atol=0.02)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (np.zeros((9, 3)), r"shape \(F from 2, 4\)"),
        (np.zeros((1, 4)), r"shape \(F from 2, 4\)"),
        (np.full((3, 4), np.nan), "finite"),
        ([["a"] * 4] * 2, "numbers"),
    ],
)
def test_keyframes_that_are_none_are_refused(world, request_of, keys, message):
    with pytest.raises(WorldError, match=message):
        world.start(request_of).carry_out(keys)


def test_what_a_world_does_not_know_is_refused(world):
    seed = SEEDS[world.name]
    for call in (
        lambda: world.draw(seed, "juggle"),
        lambda: world.draw(seed, viewpoint=Viewpoint("behind")),
        lambda: world.draw(seed, wordings="rude"),
        lambda: open_world(world.name, 32, "cubist"),
    ):
        with pytest.raises(WorldError, match=f"must be .* in world {world.name}, got"):
            call()


def test_runs_are_all_scenes_once(world):
    runs = world.runs(7, 6, world.tasks[:2], world.cameras)
    assert len(set(runs)) == len(runs) and {task for _, task, _ in runs} == set(world.tasks[:2])
    if world.name == "metaworld":
        assert len(runs) == 6 * 2 * 3, "so many seeds of every task, each seen by every camera"


def test_unknown_worlds_and_missing_packages_are_one_line(monkeypatch, capsys):
    with pytest.raises(WorldError, match="world must be one of jaco, metaworld.*, got 'mars'"):
        open_world("mars")
    monkeypatch.setitem(WORLDS, "gone", "no_such_package.world:World")
    with pytest.raises(WorldError, match="world gone needs the package no_such_package"):
        world_class("gone")
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert "gone: not available" in listed and "jaco: the simulated Jaco arm" in listed
    assert main(["--help"]) == 0
    assert main(["scene", "--world", "mars"]) == 2
    assert "world must be one of" in capsys.readouterr().err


def test_the_command_of_a_world_is_reached(tmp_path, capsys):
    arguments = ["scene", "--world", "jaco", "--seed", "3", "--task", "reach", "--out", str(tmp_path / "first.png")]
    assert main(arguments) == 0
    assert '"task": "reach"' in capsys.readouterr().out and (tmp_path / "first.png").is_file()


def test_keyframes_are_copied():
    given = np.zeros((2, 4))
    checked = checked_keyframes(given)
    checked += 1
    assert not given.any() and checked.dtype == np.float64


def test_the_toy_refuses_what_it_cannot_reach():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(WORLDS, "toy", TOY)
        with open_world("toy", 32) as world, pytest.raises(UnreachableError):
            world.start(world.draw(1)).carry_out(np.full((2, 4), 2.0))


def test_the_page_names_every_member_of_the_protocol():
    """The documented steps are complete: what a world must say stands there."""
    page = (ROOT / "docs" / "maintaining" / "add_a_world.md").read_text()
    from worlds.protocol import Rollout, World

    members = {*World.__abstractmethods__, *Rollout.__abstractmethods__}
    assert {name for name in members if f"`{name}`" not in page} == set()

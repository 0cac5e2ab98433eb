"""Laws of the parts that need neither physics nor pictures."""

from __future__ import annotations

import numpy as np
import pytest

from simulation.camera import FRONT, Camera
from simulation.dataset import episode_seed
from simulation.errors import SimulationError
from simulation.execution import check_keyframes
from simulation.kinematics import HOME_RAD, POINTING_DOWN, ArmKinematics
from simulation.model import load_model
from simulation.motion import FRAMES, minimum_jerk
from simulation.policy import demonstration
from simulation.scene import OBJECT_GAP_M, PLATE_GAP_M, rng_for
from simulation.tasks import DIRECTIONS, TASKS, draw_task
from simulation.toolpath import commands, monotone_slopes
from simulation.wordings import HELD_OUT, TRAIN, instruction, templates


def test_minimum_jerk_starts_and_ends_at_rest():
    s = np.linspace(0, 1, 1001)
    progress = minimum_jerk(s)
    assert progress[0] == 0 and progress[-1] == 1 and (np.diff(progress) >= 0).all()
    assert np.abs(np.gradient(progress, s)[[0, -1]]).max() < 1e-4
    np.testing.assert_allclose(progress + progress[::-1], 1.0, atol=1e-12)


@pytest.mark.parametrize("task", TASKS)
def test_the_timing_of_a_task_is_the_same_in_every_episode(task):
    timings = set()
    for seed in range(20):
        scene, drawn = draw_task(seed, (task,))
        motion = demonstration(scene, drawn, rng_for(seed, "motion"))
        timings.add(tuple((point.frame, point.gripper) for point in motion.points))
        for point in motion.points:
            if point.frame < FRAMES - 1:
                np.testing.assert_allclose(motion.at(point.frame)[0], point.position_m, atol=1e-12)
        np.testing.assert_allclose(motion.at(0)[0], scene.start_m)
        assert motion.at(0)[1] == 0, "an open hand at the start tells nothing about the task"
    assert len(timings) == 1


def test_scenes_keep_their_gaps_and_have_distinct_colours():
    counts = set()
    for seed in range(60):
        scene, _ = draw_task(seed)
        points = np.array([item.position_m for item in scene.objects])
        counts.add(len(points))
        assert len({item.color for item in scene.objects}) == len(points)
        for index, point in enumerate(points):
            assert np.hypot(*(point - np.array(scene.plate_m))) >= PLATE_GAP_M
            assert all(np.hypot(*(point - other)) >= OBJECT_GAP_M for other in points[index + 1 :])
    assert counts == {2, 3}


def test_seed_and_task_name_give_again_the_scene_drawn_among_all_tasks():
    for seed in range(40):
        scene, task = draw_task(seed)
        assert draw_task(seed, (task.name,)) == (scene, task)


def test_every_task_and_direction_is_drawn():
    drawn = [draw_task(seed)[1] for seed in range(150)]
    assert {task.name for task in drawn} == set(TASKS)
    assert {task.direction for task in drawn if task.name == "push"} == set(DIRECTIONS)


def test_wordings_are_many_plain_and_apart():
    checked = 0
    for task in TASKS:
        train, held_out = templates(task, "train"), templates(task, "held_out")
        assert len(set(train)) == len(train) >= 10 and len(set(held_out)) == len(held_out) >= 3
        assert not set(train) & set(held_out)
        assert templates(task, "all") == train + held_out
        for template in (*TRAIN[task], *HELD_OUT[task]):
            assert "{object}" in template and ("{direction}" in template) == (task == "push")
            checked += 1
    assert checked >= 4 * 13
    for seed in range(30):
        _, task = draw_task(seed)
        words = instruction(task, rng_for(seed, "wording"), "all")
        assert words == words.lower() and task.target in words and "{" not in words and not words.endswith(".")


def test_unknown_tasks_and_wordings_are_named():
    with pytest.raises(SimulationError, match=r"some of reach, push, pick, place, got 'juggle'"):
        draw_task(0, ("juggle",))
    with pytest.raises(SimulationError, match=r"got none"):
        draw_task(0, ())
    with pytest.raises(SimulationError, match=r"train, held_out, all, got 'rude'"):
        templates("pick", "rude")


def test_episode_seeds_are_exact_in_json_and_distinct():
    seeds = {episode_seed(s, n, a) for s in range(4) for n in range(500) for a in range(2)}
    assert len(seeds) == 4000 and max(seeds) < 2**53


def test_projection_of_lookat_is_the_middle_and_right_and_down_grow():
    camera = FRONT
    np.testing.assert_allclose(camera.project(camera.lookat, 64, 96), (48, 32))
    x, y = camera.project([(0.4, 0.0, 0.0), (0.4, 0.1, 0.0), (0.5, 0.0, 0.0), (0.4, 0.0, 0.1)], 64, 64).T
    assert x[1] > x[0] and y[2] > y[0] > y[3]
    np.testing.assert_allclose(camera.project((0.3, 0.1, 0.05), 128, 128), 2 * camera.project((0.3, 0.1, 0.05), 64, 64))


def test_camera_jitter_is_reproducible_and_survives_json():
    jittered = FRONT.jittered(rng_for(3, "camera"), 0.02)
    assert jittered == FRONT.jittered(rng_for(3, "camera"), 0.02) != FRONT
    assert FRONT.jittered(rng_for(3, "camera"), 0.0) == FRONT
    assert Camera.from_json(jittered.to_json()) == jittered
    with pytest.raises(SimulationError, match="eye_m, lookat_m"):
        Camera.from_json({"eye_m": [0, 0]})


def test_a_turned_camera_looks_at_the_same_place_from_the_same_distance():
    turned = FRONT.turned(90)
    np.testing.assert_allclose(turned.project(FRONT.lookat, 64, 64), (32, 32))
    away = FRONT.eye[0] - FRONT.lookat[0]
    np.testing.assert_allclose(turned.eye, (FRONT.lookat[0], FRONT.lookat[1] + away, FRONT.eye[2]))
    np.testing.assert_allclose(turned.turned(-90).eye, FRONT.eye, atol=1e-12)
    x, _ = turned.project([(0.4, 0.0, 0.1), (0.3, 0.0, 0.1)], 64, 64).T
    assert x[1] > x[0]  # from the robot's left side (y grows to the picture's right in front), its arm is on the right


def test_inverse_kinematics_reaches_the_whole_workspace():
    arm = ArmKinematics(load_model())
    solved = 0
    for x in (0.26, 0.4, 0.54):
        for y in (-0.22, 0.0, 0.22):
            for z in (0.05, 0.2):
                joints, _ = arm.solve(np.array([x, y, z]), POINTING_DOWN, HOME_RAD, iterations=200)
                place, rotation = arm.tool(joints)
                np.testing.assert_allclose(place, (x, y, z), atol=1e-3)
                np.testing.assert_allclose(rotation, POINTING_DOWN, atol=5e-3)
                solved += 1
    assert solved == 18


def _keyframes(gripper=(0,) * 9):
    places = np.linspace((0.36, 0.0, 0.22), (0.45, 0.1, 0.1), 9)
    return np.concatenate([places, np.array(gripper, dtype=float)[:, None]], axis=1)


@pytest.mark.parametrize("gripper", [(0,) * 9, (0, 0, 0, 0, 1, 1, 1, 1, 1), (0, 0, 0, 0, 1, 1, 1, 1, 0)])
def test_commands_pass_through_the_keyframes_and_do_not_overshoot(gripper):
    keyframes = _keyframes(gripper)
    steps, done = commands(keyframes)
    assert len(done) == 9 and done[0] == 0 and done[-1] == len(steps)
    for k in range(1, 9):
        np.testing.assert_allclose(steps[done[k] - 1][0], keyframes[k, :3], atol=1e-12)
        assert steps[done[k] - 1][1] == keyframes[k, 3]
    places = np.array([place for place, _ in steps])
    assert (places >= keyframes[:, :3].min(axis=0) - 1e-12).all()
    assert (places <= keyframes[:, :3].max(axis=0) + 1e-12).all()


def test_a_hand_opens_before_it_leaves_and_closes_after_it_has_come():
    steps, done = commands(_keyframes((0, 0, 0, 0, 1, 1, 1, 1, 0)))
    closing, opening = steps[done[3] : done[4]], steps[done[7] : done[8]]
    arrived = next(i for i, (place, _) in enumerate(closing) if np.allclose(place, closing[-1][0]))
    assert all(grip == 0 for _, grip in closing[:arrived]) and closing[-1][1] == 1
    leaves = next(i for i, (place, _) in enumerate(opening) if not np.allclose(place, opening[0][0]))
    assert opening[0][1] < 1 and opening[leaves - 1][1] == 0


def test_monotone_slopes_are_zero_at_turns_and_ends():
    np.testing.assert_allclose(monotone_slopes(np.array([[0.0], [1.0], [2.0], [1.0], [1.0]])).ravel(), (0, 1, 0, 0, 0))


def test_keyframes_out_of_reach_are_counted_or_refused():
    keyframes = _keyframes()
    same, clamped = check_keyframes(keyframes)
    assert clamped == 0 and np.array_equal(same, keyframes)
    keyframes[3, 2] = -0.1
    limited, clamped = check_keyframes(keyframes)
    assert clamped == 1 and limited[3, 2] > 0 and keyframes[3, 2] == -0.1
    with pytest.raises(SimulationError, match="keyframe 3 is out of reach"):
        check_keyframes(keyframes, "error")
    with pytest.raises(SimulationError, match="limit must be one of clamp, error, got 'cut'"):
        check_keyframes(keyframes, "cut")


@pytest.mark.parametrize(
    ("keyframes", "message"),
    [
        (np.zeros((8, 4)), r"shape \(9, 4\).*got \(8, 4\)"),
        (np.full((9, 4), np.nan), "finite.*keyframe 0"),
        ("nonsense", "must be numbers"),
        ([[1, 2], [3]], "must be numbers"),
    ],
)
def test_bad_keyframes_get_one_line(keyframes, message):
    with pytest.raises(SimulationError, match=message) as caught:
        check_keyframes(keyframes)
    assert "\n" not in str(caught.value)
    with pytest.raises(SimulationError):
        check_keyframes(keyframes[:1] if isinstance(keyframes, np.ndarray) else keyframes, frames=None)

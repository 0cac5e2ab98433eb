"""The tasks in physics: the script does them, a static arm does none, keyframes alone are enough."""

from __future__ import annotations

import json

import numpy as np
import pytest

from simulation.errors import SimulationError
from simulation.execution import execute
from simulation.motion import FRAMES
from simulation.plans import parse_plan, read_plans
from simulation.policy import demonstration
from simulation.scene import rng_for
from simulation.tasks import TASKS, draw_task, is_done
from simulation.world import STEPS_PER_FRAME, World

SEEDS = range(500, 506)


@pytest.fixture(scope="module")
def demonstrations(blind_world):
    """Every task on every seed: scene, task, trace and keyframes."""
    made = []
    for name in TASKS:
        for seed in SEEDS:
            scene, task = draw_task(seed, (name,))
            motion = demonstration(scene, task, rng_for(seed, "motion"))
            blind_world.reset(scene, 0.0)
            trace, _ = blind_world.run(motion.at)
            gripper = np.array([[motion.at(k)[1]] for k in range(FRAMES)])
            made.append((seed, scene, task, trace, np.concatenate([trace.tool_m[::STEPS_PER_FRAME], gripper], axis=1)))
    assert len(made) == len(TASKS) * len(SEEDS)
    return made


@pytest.mark.parametrize("name", TASKS)
def test_the_script_does_its_task(demonstrations, name):
    done = [is_done(task, scene, trace) for _, scene, task, trace, _ in demonstrations if task.name == name]
    assert len(done) == len(SEEDS) and all(done)


@pytest.mark.parametrize("name", TASKS)
def test_true_keyframes_do_the_task_and_a_static_arm_does_not(demonstrations, blind_world, name):
    for _, scene, task, _, keyframes in demonstrations:
        if task.name == name:
            done = execute(keyframes, scene, task, blind_world)
            assert done.success and done.clamped == 0
            assert done.tracking_error_m < 0.005 and done.start_error_m < 0.002
            still = execute(np.repeat(keyframes[:1], FRAMES, axis=0), scene, task, blind_world)
            assert not still.success and still.moved_m.max() < 0.005


def test_another_task_s_keyframes_do_not_count(demonstrations, blind_world):
    """A pick is no place, a push no pick: the check asks for the task, not for motion."""
    swapped = {"pick": "place", "place": "pick", "push": "pick", "reach": "pick"}
    for _, scene, task, trace, _ in demonstrations:
        other = type(task)(swapped[task.name], task.slot, task.target)
        assert not is_done(other, scene, trace)


def test_a_cube_dragged_onto_the_plate_is_not_placed(demonstrations):
    _, scene, task, trace, _ = next(item for item in demonstrations if item[2].name == "place")
    assert is_done(task, scene, trace)
    dragged = trace.objects_m.copy()
    dragged[:, task.slot, 2] = np.minimum(dragged[:, task.slot, 2], dragged[-1, task.slot, 2])
    assert not is_done(task, scene, type(trace)(trace.tool_m, dragged))


def test_the_same_seed_gives_the_same_physics_whatever_ran_before(demonstrations):
    seed, scene, task, trace, _ = demonstrations[-1]
    with World(size=None) as fresh:
        fresh.reset(scene, 0.0)
        again, frames = fresh.run(demonstration(scene, task, rng_for(seed, "motion")).at)
        with pytest.raises(SimulationError, match="without rendering"):
            fresh.frame()
    assert frames == []
    assert np.array_equal(again.tool_m, trace.tool_m) and np.array_equal(again.objects_m, trace.objects_m)


def test_a_start_out_of_reach_is_refused(blind_world):
    with pytest.raises(SimulationError, match="cannot reach"):
        blind_world.place_arm(np.array([2.0, 0.0, 0.2]), 0.3)


def _plan(demonstrations) -> dict:
    seed, _, task, _, keyframes = demonstrations[0]
    return {
        "seed": seed,
        "task": task.name,
        "end_effector_m": keyframes[:, :3].tolist(),
        "gripper": keyframes[:, 3].tolist(),
    }


def test_a_plan_file_is_read_as_object_list_or_lines(demonstrations, tmp_path):
    value = _plan(demonstrations)
    for name, text in {
        "one.json": json.dumps(value),
        "list.json": json.dumps([value, value]),
        "lines.jsonl": "\n".join([json.dumps(value)] * 3) + "\n",
    }.items():
        (tmp_path / name).write_text(text)
    assert [len(read_plans(tmp_path / name)) for name in ("one.json", "list.json", "lines.jsonl")] == [1, 2, 3]
    assert len(read_plans(tmp_path / "lines.jsonl", limit=2)) == 2
    plan = read_plans(tmp_path / "one.json")[0]
    assert (plan.scene, plan.task) == draw_task(value["seed"], (value["task"],))


def test_without_opengl_the_command_still_executes(demonstrations, command, tmp_path):
    (tmp_path / "plan.json").write_text(json.dumps(_plan(demonstrations)))
    done = command("execute", tmp_path / "plan.json", MUJOCO_GL="disable")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["success"] is True and "1 of 1 succeeded" in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"task": "juggle"}, "task must be one of"),
        ({"gripper": [0] * 8}, "gripper a number for each"),
        ({"gripper": [float("nan")] * 9}, "finite"),
        ({"end_effector_m": "here"}, "lists of finite numbers"),
        ({"camera": {}}, "a camera must have"),
        ({"objects": []}, "from those of its seed"),
    ],
)
def test_a_bad_plan_gets_one_line(demonstrations, change, message):
    with pytest.raises(SimulationError, match=message) as caught:
        parse_plan({**_plan(demonstrations), **change})
    assert "\n" not in str(caught.value)


def test_a_plan_file_that_is_none_gets_one_line(tmp_path):
    with pytest.raises(SimulationError, match="cannot be read"):
        read_plans(tmp_path / "missing.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(SimulationError, match="must be JSON, but line 1"):
        read_plans(tmp_path / "broken.json")
    (tmp_path / "empty.json").write_text("[]")
    with pytest.raises(SimulationError, match="holds no plan"):
        read_plans(tmp_path / "empty.json")
    (tmp_path / "poor.json").write_text('{"seed": 1}')
    with pytest.raises(SimulationError, match="lacks task, end_effector_m, gripper"):
        read_plans(tmp_path / "poor.json")

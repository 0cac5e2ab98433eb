"""Actions: a joint trajectory keeps its limits, passes its keyframes, and leaves as JSON, CSV and a LeRobot episode."""

import json

import numpy as np
import pytest

from simulation.errors import SimulationError
from simulation.execution import execute
from simulation.joint_trajectory import JointLimits, plan_actions
from simulation.lerobot_episode import FPS, write_lerobot
from simulation.model import CONTROL_HZ
from simulation.tasks import draw_task

KEYS = np.array(
    [
        (0.36, 0.00, 0.225, 0), (0.34, 0.05, 0.20, 0), (0.36, 0.12, 0.165, 0), (0.36, 0.12, 0.052, 0),
        (0.36, 0.12, 0.052, 1), (0.36, 0.12, 0.18, 1), (0.42, -0.08, 0.18, 1), (0.42, -0.08, 0.07, 1),
        (0.42, -0.08, 0.165, 0),
    ]
)  # fmt: skip


@pytest.fixture(scope="module")
def made(blind_world):
    scene, _ = draw_task(3, ("pick",))
    blind_world.reset(scene, 0.0)
    start = blind_world.joints.copy()
    keys = KEYS.copy()
    keys[0, :3] = blind_world.tool()
    return keys, start, plan_actions(blind_world.arm, keys, start)


def test_limits_are_kept(made):
    limits, (_, start, actions) = JointLimits(), made
    np.testing.assert_allclose(actions.joints_rad[0], start, atol=1e-9)
    assert (np.abs(actions.velocity()) <= np.array(limits.velocity_rad_s) * 1.0001).all()
    assert (np.abs(actions.acceleration()) <= np.array(limits.acceleration_rad_s2) * 1.0001).all()
    assert actions.stretch > 1.0, "this plan is too fast for the arm, so it must take longer"


def test_the_tool_passes_every_keyframe(made):
    keys, _, actions = made
    at = actions.tool_m[list(actions.keyframe_steps)]
    assert np.linalg.norm(at - keys[:, :3], axis=1).max() < 4e-3
    assert (actions.gripper[list(actions.keyframe_steps)] >= 0.5).tolist() == (keys[:, 3] >= 0.5).tolist()
    assert len(actions.keyframe_steps) == 9 and actions.keyframe_steps[-1] == len(actions.joints_rad) - 1


def test_the_arm_stands_while_the_gripper_closes(made):
    _, _, actions = made
    closing = np.flatnonzero(np.diff(actions.gripper) > 0.01)
    assert len(closing) > 3
    moved = np.linalg.norm(np.diff(actions.tool_m, axis=0), axis=1)[closing]
    assert moved.max() < 1e-3


def test_tighter_limits_take_longer(blind_world, made):
    keys, start, actions = made
    half = JointLimits(tuple(v / 2 for v in JointLimits().velocity_rad_s))
    slower = plan_actions(blind_world.arm, keys, start, half)
    assert slower.stretch > 1.3 * actions.stretch
    assert (np.abs(slower.velocity()) <= np.array(half.velocity_rad_s) * 1.0001).all()
    wide = JointLimits((50.0,) * 6, (1e4,) * 6)
    assert plan_actions(blind_world.arm, keys, start, wide).stretch == 1.0


@pytest.mark.parametrize("values", [(1.0,) * 5, (0.0,) * 6, (float("nan"),) * 6])
def test_bad_limits_are_refused(values):
    with pytest.raises(SimulationError, match="velocity_rad_s must be 6 positive numbers"):
        JointLimits(values)


def test_what_is_out_of_reach_is_named(blind_world, made):
    keys, start, _ = made
    far = keys.copy()
    far[4, :3] = (1.6, 0.0, 0.2)
    with pytest.raises(SimulationError, match="cannot reach"):
        plan_actions(blind_world.arm, far, start)


def test_execution_follows_what_is_exported(blind_world):
    scene, task = draw_task(3, ("pick",))
    done = execute(KEYS, scene, task, blind_world)
    assert done.tracking_error_m < 0.01
    value = json.loads(done.actions.to_json(instruction="pick it up"))
    assert value["instruction"] == "pick it up" and value["control_hz"] == CONTROL_HZ
    np.testing.assert_allclose(value["joints_rad"], done.actions.joints_rad, atol=1e-5)
    assert len(value["keyframe_times_s"]) == 9
    head, *rows = done.actions.to_csv().splitlines()
    assert head.split(",")[0] == "time_s" and len(head.split(",")) == 11
    table = np.array([[float(cell) for cell in row.split(",")] for row in rows])
    np.testing.assert_allclose(table[:, 1:7], done.actions.joints_rad, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.diff(table[:, 0]), 1 / CONTROL_HZ, atol=1e-5)


def test_a_lerobot_episode_can_be_read_back(made, tmp_path):
    pytest.importorskip("av")
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from training.data.sources import open_source
    from training.errors import TrainingError

    _, _, actions = made
    frames = np.stack([np.full((33, 64, 3), 20 * number, np.uint8) for number in range(9)])
    folder = write_lerobot(tmp_path / "episode", actions, frames, "pick up the red cube")
    source = open_source(folder)
    (entry,) = source.entries
    assert source.format == "lerobot" and entry.instruction == "pick up the red cube"
    with pytest.raises(TrainingError, match="joint angles are no place in the picture"):
        source.positions(entry, "observation.state")
    (table,) = (folder / "data").rglob("*.parquet")
    states = np.array(parquet.read_table(table)["observation.state"].to_pylist())
    assert states.shape == (entry.length, 7)
    stride = CONTROL_HZ // FPS
    np.testing.assert_allclose(
        states[:-1],
        np.c_[actions.joints_rad, actions.gripper][: stride * entry.length : stride][: len(states) - 1],
        atol=1e-5,
    )
    shown = source.frames(entry, [0, entry.length - 1])
    assert abs(int(shown[0].mean()) - 0) < 6 and abs(int(shown[1].mean()) - 160) < 6
    with pytest.raises(SimulationError, match="must not exist yet"):
        write_lerobot(folder, actions, frames, "again")
    with pytest.raises(SimulationError, match="one per keyframe, 9, got 3"):
        write_lerobot(tmp_path / "other", actions, frames[:3], "three")
    assert not (tmp_path / "other").exists()


def test_a_missing_package_is_one_line(made, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SimulationError, match="needs the package av: pip install pyarrow av"):
        write_lerobot(tmp_path / "episode", made[2], np.zeros((9, 8, 8, 3), np.uint8), "x")

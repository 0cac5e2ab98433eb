"""Rank Plans and Execute Plan say what the closed loop says of the same seed: scores, actions and success."""

from pathlib import Path

import numpy as np
import pytest
import torch

from training.evaluation.closed_loop import trial
from training.evaluation.closed_loop.requests import draw
from training.model.readout import open_readout
from visual_planner.execution.keyframes import keyframes
from visual_planner.planner.spec import PlannerSpec
from worlds.errors import WorldError
from worlds.jaco import JacoRollout
from worlds.registry import open_world

pytestmark = pytest.mark.comfyui
READOUT = Path(__file__).resolve().parents[2] / "models" / "readout"
SEEDS = ((9_000_001, "pick"), (9_000_002, "push"))


@pytest.fixture(scope="module")
def table():
    try:
        made = open_world("jaco", 64)
    except WorldError as error:
        pytest.skip(f"NO RENDERING TEST HAS RUN: {error}")
    with made:
        yield made


def scene_of(comfy, seed, task):
    return comfy.call(
        "VisualPlannerScene", seed=seed, task=task, wordings="held_out", camera_jitter=0.0, size=64
    )  # fmt: skip


def as_node_frames(frames):
    return torch.from_numpy(frames.astype(np.float32) / 255.0)


def as_node_path(module, asked):
    return module("visual_planner.trajectory.parse").parse_trajectory(asked.trajectory.to_json())


@pytest.mark.parametrize(("seed", "task"), SEEDS)
@pytest.mark.parametrize("mode", ["text", "both"])
def test_a_plan_has_the_same_score(comfy, module, table, seed, task, mode):
    """The demonstration and a still plan: the parts of both scores agree, and the better one is the demonstration."""
    asked = draw(table, seed, task, "held_out")
    plans = np.stack([np.repeat(asked.truth[:1], 9, axis=0), asked.truth])
    judged, order = trial.rank(plans, asked, mode, open_readout(READOUT))
    first, _, scene = scene_of(comfy, seed, task)
    path = as_node_path(module, asked) if mode == "both" else None
    simulator, rank = module("nodes.simulator"), module("nodes.rank")
    net = simulator.load_readout()
    for plan, frames in zip(judged, plans, strict=True):
        score, _ = rank.score(as_node_frames(frames), "letterbox", first, path, scene, net)
        assert ("path" in score.parts) == (mode == "both")
        assert score.parts == pytest.approx(plan.score.parts, abs=1e-6) and score.moves == plan.score.moves
    assert order == [1, 0]


@pytest.mark.parametrize(("rows", "cols"), [(3, 3), (2, 2)])
@pytest.mark.parametrize(("seed", "task"), SEEDS)
def test_a_plan_is_executed_alike(comfy, module, table, monkeypatch, seed, task, rows, cols):
    """The same joints at the same times, and the same success, however many frames the planner's grid has."""
    spec = PlannerSpec(rows=rows, cols=cols, cell_height=64, cell_width=64)
    asked = draw(table, seed, task, "held_out", frames=spec.layout.frames)
    done = []
    carry_out = JacoRollout.carry_out
    monkeypatch.setattr(
        JacoRollout, "carry_out", lambda *args, **more: done.append(carry_out(*args, **more)) or done[-1]
    )
    reading = trial.read_plan(asked.truth, asked, open_readout(READOUT))
    success = trial.carry_out(keyframes(reading), asked, table)

    _, _, scene = scene_of(comfy, seed, task)
    own = module("visual_planner.planner.spec").PlannerSpec.from_metadata(spec.to_metadata())
    simulator, ran = module("nodes.simulator"), []
    run_in = simulator.run_in
    monkeypatch.setattr(simulator, "run_in", lambda *args: ran.append(run_in(*args)) or ran[-1])
    inputs = {"frames": as_node_frames(asked.truth), "scene": scene, "spec": own}
    node_success, *_ = comfy.call("VisualPlannerExecute", **inputs)
    assert node_success is success
    trace, actions = done[0].own
    assert ran[0].actions.keyframe_steps == actions.keyframe_steps
    np.testing.assert_allclose(ran[0].actions.joints_rad, actions.joints_rad, atol=1e-5)
    moved = np.linalg.norm(trace.objects_m[-1] - trace.objects_m[0], axis=-1)
    np.testing.assert_allclose(ran[0].moved_m, moved, atol=1e-4)
    text, *_ = comfy.call("VisualPlannerPlanToActions", **inputs)
    reading = simulator.read(inputs["frames"], scene)
    planned = simulator.trajectory_for(reading, scene, spec.layout.frames, scene.instruction)
    assert text == planned.json == actions.to_json(instruction=scene.instruction)
    assert planned.keyframe_steps == actions.keyframe_steps

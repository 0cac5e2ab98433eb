"""Scene, Plan to Actions and Execute: true frames of a demonstration go through, files are whole, extras are named."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.comfyui
SEED = 9_000_001


@pytest.fixture
def oracle(module, monkeypatch):
    """A read-out that knows the truth: `oracle(places, gripper)`; so what is tested is all that comes after it."""

    def know(places, gripper):
        readout = module("visual_planner.execution.readout")
        count = len(gripper)
        reading = readout.Reading(
            np.asarray(places), np.asarray(gripper, float), np.full(count, 1e-3), np.ones(count), np.zeros((count, 2))
        )
        monkeypatch.setattr(module("nodes.simulator"), "read", lambda frames, scene, net=None: reading)

    return know


@pytest.fixture(scope="module")
def demonstration():
    """A pick in the scene of the seed, by the simulator as the command line has it."""
    from simulation.episode import demonstrate
    from simulation.errors import SimulationError
    from simulation.world import World

    try:
        with World(64) as world:
            return demonstrate(world, SEED, ("pick",), "held_out")
    except SimulationError as error:
        pytest.skip(f"NO RENDERING TEST HAS RUN: {error}")


def draw(comfy):
    return comfy.call(
        "VisualPlannerScene", seed=SEED, task="pick", wordings="held_out", camera_jitter=0.0, size=64
    )  # fmt: skip


def test_a_scene_is_the_command_lines(comfy, demonstration):
    frame, instruction, scene = draw(comfy)
    assert instruction == demonstration.instruction and scene.seed == SEED
    assert frame.shape == (1, 64, 64, 3) and frame.dtype == torch.float32
    np.testing.assert_array_equal((frame[0] * 255).round().numpy(), demonstration.frames[0])


def test_true_frames_are_executed_and_a_still_plan_is_not_a_success(comfy, demonstration, oracle):
    _, _, scene = draw(comfy)
    frames = torch.from_numpy(demonstration.frames).float() / 255
    oracle(demonstration.tool_m, demonstration.gripper)
    success, both, video, report, executed = comfy.call("VisualPlannerExecute", frames=frames, scene=scene, fps=4.0)
    assert success is True and report.startswith("succeeded: ")
    assert both.shape == (9, 64, 128, 3)
    assert (both[:, :, 64:] - frames).abs().mean() < 0.02, "an execution of true keyframes looks like the demonstration"
    assert video.get_components().images.shape == both.shape
    assert torch.equal(executed, both[:, :, 64:])
    oracle(np.repeat(demonstration.tool_m[:1], 9, axis=0), np.zeros(9))
    success, _, _, report, _ = comfy.call("VisualPlannerExecute", frames=frames, scene=scene)
    assert success is False and report.startswith("failed: ")


def test_a_drawn_path_keeps_the_hand_on_it(comfy, demonstration, oracle, module):
    """Places that are wrong across the picture, right in height: with the demonstration's path the task is done."""
    from training.data.overlays.recorded import episode_trajectory

    _, _, scene = draw(comfy)
    view = module("nodes.simulator").view_of(scene, 64, 64)
    seen = view.see(demonstration.tool_m, "height")
    seen[1:, 0] += 0.12
    frames = torch.from_numpy(demonstration.frames).float() / 255
    oracle(view.place(seen, "height"), demonstration.gripper)
    drawn = episode_trajectory(np.array(demonstration.record("x")["path_px"]), (64, 64))
    trajectory = module("visual_planner.trajectory.parse").parse_trajectory(drawn.to_json())
    success, *_ = comfy.call("VisualPlannerExecute", frames=frames, scene=scene)
    assert success is False
    success, _, _, report, _ = comfy.call("VisualPlannerExecute", frames=frames, scene=scene, trajectory=trajectory)
    assert success is True, report
    asked = drawn.resample(9)[:, 0] / 64
    text, *_ = comfy.call("VisualPlannerPlanToActions", frames=frames, scene=scene, trajectory=trajectory)
    times = json.loads(text)
    tool = np.array(times["tool_m"])[np.round(np.array(times["keyframe_times_s"]) * 50).astype(int)]
    assert np.abs(view.see(tool)[1:, :2] - asked[1:]).max() < 0.02


def test_actions_are_those_that_are_executed(comfy, demonstration, oracle, module):
    _, _, scene = draw(comfy)
    frames = torch.from_numpy(demonstration.frames).float() / 255
    oracle(demonstration.tool_m, demonstration.gripper)
    text, reading, picture = comfy.call("VisualPlannerPlanToActions", frames=frames, scene=scene)
    value = json.loads(text)
    assert value["instruction"] == scene.instruction and len(reading.splitlines()) == 10
    assert picture.ndim == 4 and picture.shape[-1] == 3
    execution = module("nodes.simulator")
    done = execution.run_in(scene, execution.read(frames, scene), None, 9)
    np.testing.assert_allclose(value["joints_rad"], done.actions.joints_rad, atol=2e-5)


def test_files_are_written_and_numbered_on(comfy, demonstration, oracle):
    import folder_paths

    oracle(demonstration.tool_m, demonstration.gripper)
    frames = torch.from_numpy(demonstration.frames).float() / 255
    inputs = {"frames": frames, "instruction": "pick it", "save": "json, csv", "filename_prefix": "test_actions/plan"}
    for _ in range(2):
        comfy.call("VisualPlannerPlanToActions", **inputs)
    folder = Path(folder_paths.get_output_directory()) / "test_actions"
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"plan_0000{number}.{kind}" for number in (1, 2) for kind in ("csv", "json")]
    assert json.loads((folder / "plan_00001.json").read_text())["instruction"] == "pick it"


@pytest.mark.parametrize("prefix", ["run [left]", "a[0-9]b", "[!x]", "test_actions/[a]/[b]"])
def test_a_name_with_brackets_is_numbered_on_as_well(comfy, demonstration, oracle, prefix):
    import folder_paths

    oracle(demonstration.tool_m, demonstration.gripper)
    frames = torch.from_numpy(demonstration.frames).float() / 255
    for words in ("first", "second", "third"):
        inputs = {"frames": frames, "instruction": words, "save": "json", "filename_prefix": prefix}
        comfy.call("VisualPlannerPlanToActions", **inputs)
    home = Path(folder_paths.get_output_directory()) / prefix
    files = [home.with_name(f"{home.name}_0000{number}.json") for number in (1, 2, 3)]
    assert [json.loads(file.read_text())["instruction"] for file in files] == ["first", "second", "third"]


@pytest.fixture
def fresh(module):
    """The simulator's process starts again, with the environment as it is then; and once more afterwards."""
    child = module("nodes.comfy.processes.child").child
    child.close()
    yield child
    child.close()


def test_without_the_simulator_it_says_what_to_install(comfy, fresh, monkeypatch, tmp_path):
    (tmp_path / "mujoco.py").write_text("raise ModuleNotFoundError(\"No module named 'mujoco'\", name='mujoco')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ValueError, match="pip install 'mujoco") as caught:
        draw(comfy)
    assert "\n" not in str(caught.value)


def test_without_opengl_it_says_what_to_install(comfy, fresh, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "disable")
    with pytest.raises(ValueError, match="no picture can be rendered .*libegl1") as caught:
        draw(comfy)
    assert "\n" not in str(caught.value)


def test_a_missing_readout_is_one_line(comfy, module, monkeypatch, tmp_path):
    monkeypatch.setitem(module("nodes.simulator").READOUTS, "jaco", tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="world jaco needs its read-out .*none.safetensors, which does not exist"):
        comfy.call("VisualPlannerPlanToActions", frames=torch.zeros(9, 64, 64, 3))


def test_the_nodes_offer_the_worlds_that_there_are(module):
    """The nodes cannot import the worlds, so their choices are written out: they are the registry's."""
    from worlds.registry import WORLDS, world_class

    simulator = module("nodes.simulator")
    assert {name: world_class(name).tasks for name in WORLDS} == simulator.TASKS
    assert {camera for name in WORLDS for camera in world_class(name).cameras} == set(simulator.CAMERAS[1:])
    assert {look for name in WORLDS for look in world_class(name).looks} == set(simulator.LOOKS)
    root = simulator.READOUTS["jaco"].parents[2]
    assert {name: root / world_class(name).readout / "readout.safetensors" for name in WORLDS} == simulator.READOUTS


def _metaworld(comfy, **changes):
    values = {"seed": 0, "task": "faucet-open", "wordings": "held_out", "camera_jitter": 0.0, "size": 64}
    return comfy.call("VisualPlannerScene", **values | {"world": "metaworld", "camera": "corner2"} | changes)


def test_a_scene_of_metaworld_is_drawn_and_executed(comfy, module, monkeypatch):
    from worlds.protocol import Viewpoint
    from worlds.registry import open_world

    first, words, scene = _metaworld(comfy)
    assert first.shape == (1, 64, 64, 3) and words == "open the faucet" and scene.world == "metaworld"
    with open_world("metaworld", 64) as world:
        request = world.draw(0, "faucet-open", viewpoint=Viewpoint("corner2"))
        shown = world.demonstrate(request)
        assert scene.view == module("visual_planner.execution.camera").View(request.view.eye_m, request.view.rays)
    assert np.array_equal((first[0].numpy() * 255).round().astype(np.uint8), shown.frames[0])
    reading = module("visual_planner.execution.readout").Reading(
        shown.keyframes[:, :3], shown.keyframes[:, 3], np.full(9, 1e-3), np.ones(9), np.zeros((9, 2))
    )
    simulator = module("nodes.simulator")
    monkeypatch.setattr(simulator, "read", lambda frames, scene, net=None: reading)
    monkeypatch.setattr(simulator, "load_readout", lambda world: None)
    spec = module("visual_planner.planner.spec").PlannerSpec(cell_height=64, cell_width=64, keyframes="shape")
    frames = torch.from_numpy(shown.frames.astype(np.float32) / 255)
    success, both, video, report, executed = comfy.call("VisualPlannerExecute", frames=frames, scene=scene, spec=spec)
    assert success is True and report.startswith("succeeded: open the faucet (faucet-open, seed 0)")
    assert both.shape == (9, 64, 128, 3) and executed.shape == (9, 64, 64, 3)
    played = video.get_components()
    assert len(played.images) == 9 * 8 and played.frame_rate == 32, "frames by shape are shown as long as they move"
    with pytest.raises(ValueError, match="world metaworld has no joint trajectories"):
        comfy.call("VisualPlannerPlanToActions", frames=frames, scene=scene)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "pick"}, "task must be one of door-open.* in world metaworld, got 'pick'"),
        ({"camera": "front"}, "camera must be one of corner, corner2, corner3 in world metaworld, got 'front'"),
        ({"camera_jitter": 0.1}, "cameras of world metaworld stand where the benchmark has them"),
        ({"seed": 2**40}, "seed must be a whole number from 0 to"),
        ({"world": "jaco"}, "task must be one of reach|tasks must be some of reach|camera must be one of front"),
    ],
)
def test_what_a_world_has_not_is_one_line(comfy, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        _metaworld(comfy, **changes)
    assert "\n" not in str(caught.value)


def test_without_its_readout_a_world_says_how_to_get_one(comfy, module, monkeypatch, tmp_path):
    _, _, scene = _metaworld(comfy)
    monkeypatch.setitem(module("nodes.simulator").READOUTS, "metaworld", tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="python -m training readout --world metaworld"):
        comfy.call("VisualPlannerExecute", frames=torch.zeros(9, 64, 64, 3), scene=scene)


def test_frames_by_shape_make_an_uneven_video(comfy, module):
    spec = module("visual_planner.planner.spec").PlannerSpec(cell_height=32, cell_width=32, keyframes="shape")
    grid = torch.zeros(2, 96, 96, 3)
    grid[:, :32, 64:] = 1.0
    frames, video, *_ = comfy.call("VisualPlannerSliceGrid", grid=grid, fps=4.0, layout=spec)
    played = video.get_components()
    assert frames.shape[0] == 18 and len(played.images) == 18 * 8 and played.frame_rate == 32
    even = module("visual_planner.planner.spec").PlannerSpec(cell_height=32, cell_width=32)
    _, video, *_ = comfy.call("VisualPlannerSliceGrid", grid=grid, fps=4.0, layout=even)
    assert len(video.get_components().images) == 18 and video.get_components().frame_rate == 4

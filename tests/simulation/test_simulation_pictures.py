"""What needs pictures: projection, episodes, play."""

from __future__ import annotations

import numpy as np
import pytest

from simulation.camera import FRONT
from simulation.episode import demonstrate, draw_request, first_frame
from simulation.errors import SimulationError
from simulation.execution import execute
from simulation.model import OBJECT_HALF_M
from simulation.play import play
from simulation.scene import COLORS, rng_for
from simulation.world import World


def _looks_like(frame: np.ndarray, color: str) -> np.ndarray:
    """Return where (H, W) the frame shows a colour of the palette, by the direction of RGB."""
    rgb = frame.astype(float) / (np.linalg.norm(frame.astype(float), axis=-1, keepdims=True) + 1e-9)
    wanted = np.array(COLORS[color][:3])
    return rgb @ (wanted / np.linalg.norm(wanted)) > 0.985


@pytest.mark.parametrize(("jitter_m", "turn_deg"), [(0.0, 0.0), (0.02, 0.0), (0.0, 40.0)])
def test_an_object_is_drawn_where_its_centre_projects(world, jitter_m, turn_deg):
    checked = 0
    for seed in range(12):
        request = draw_request(seed, camera_jitter_m=jitter_m, camera=FRONT.turned(turn_deg))
        frame = first_frame(world, request)
        for item in request.scene.objects:
            centre = request.camera.project((*item.position_m, OBJECT_HALF_M), 64, 64)
            mask = _looks_like(frame, item.color)
            assert mask[int(centre[1]), int(centre[0])], f"seed {seed}: no {item.color} at {centre}"
            rows, columns = np.nonzero(mask)
            middle = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
            assert np.abs(middle - centre).max() < 1.5
            assert 6 <= np.ptp(columns) + 1 <= 11, "an object is about 7 to 9 px wide"
            checked += 1
    assert checked >= 24


def test_the_same_seed_gives_the_same_episode_bit_for_bit(world):
    first = demonstrate(world, 11)
    demonstrate(world, 12)
    with World(size=64) as fresh:
        again = demonstrate(fresh, 11)
    assert first.success and np.array_equal(first.frames, again.frames)
    assert first.record("x") == again.record("x")
    assert not np.array_equal(first.frames, demonstrate(world, 13).frames)


def test_an_episode_s_record_keeps_the_truth(world):
    episode = demonstrate(world, 21, ("place",))
    record = episode.record("000021")
    assert episode.frames.shape == (9, 64, 64, 3) and episode.strip().shape == (64, 9 * 64, 3)
    assert np.array_equal(episode.strip()[:, 64:128], episode.frames[1])
    assert record["task"] == "place" and record["target"] in record["instruction"] and record["success"] is True
    assert record["target"] in record["caption"] and "place" not in record["caption"]
    path = np.array(record["path_px"])
    assert path.shape == (33, 3) and path[0, 2] == 0 and path[-1, 2] == 1 and (np.diff(path[:, 2]) > 0).all()
    np.testing.assert_allclose(path[::4, :2], record["end_effector_px"], atol=0.35)
    assert len(record["gripper"]) == len(record["end_effector_m"]) == 9
    for item in record["objects"]:
        assert len(item["positions_m"]) == len(item["positions_px"]) == 9
    np.testing.assert_allclose(FRONT.project(record["end_effector_m"], 64, 64), record["end_effector_px"], atol=0.03)


def test_an_episode_may_begin_in_the_middle_of_its_task(world):
    """The same motion from there on, in nine frames: picture, places, gripper and path."""
    whole, later = demonstrate(world, 21, ("place",), frames=9), demonstrate(world, 21, ("place",), begins=0.5)
    assert later.begins == later.record("x")["begins"] == 0.5 and whole.record("x")["begins"] == 0.0
    assert np.array_equal(later.frames[::2], whole.frames[4:]), "its frames 1, 3, ... are the whole's 5, 6, ..."
    np.testing.assert_allclose(later.tool_m[::2], whole.tool_m[4:])
    np.testing.assert_allclose(later.objects_m[::2], whole.objects_m[4:])
    assert np.array_equal(later.gripper[::2], whole.gripper[4:]) and later.gripper[0] == 1.0, "it holds the object"
    np.testing.assert_allclose(later.path_m[[0, -1]], whole.tool_m[[4, 8]])
    assert later.instruction == whole.instruction and later.success


def test_the_hand_stays_in_the_frame(world):
    for seed in range(8):
        pixels = np.array(demonstrate(world, seed).record("x")["path_px"])[:, :2]
        assert pixels.min() > 4 and pixels.max() < 60


def test_a_request_s_first_frame_is_the_episode_s(world):
    assert np.array_equal(first_frame(world, draw_request(31)), demonstrate(world, 31).frames[0])


def test_execution_gives_nine_pictures(world):
    episode = demonstrate(world, 41, ("pick",))
    keyframes = np.concatenate([episode.tool_m, episode.gripper[:, None]], axis=1)
    done = execute(keyframes, episode.scene, episode.task, world)
    assert done.success and done.frames.shape == (9, 64, 64, 3)
    assert np.array_equal(done.frames[0], episode.frames[0])
    difference = np.abs(done.frames.astype(float) - episode.frames).mean()
    assert difference < 3, "an execution of true keyframes looks like the demonstration"


def test_play_tells_no_task_and_moves_objects_without_overlap(world):
    held = moved = 0
    for seed in range(30):
        episode = play(world, seed)
        record = episode.record("x")
        assert (record["task"], record["instruction"], record["target"], record["success"]) == ("", "", None, False)
        assert len(record["end_effector_px"]) == 9 and len(record["path_px"]) == 33
        for tool, centres in zip(episode.tool_m, episode.objects_m, strict=True):
            in_hand = np.linalg.norm(centres - tool, axis=-1) < 0.03
            held += bool(in_hand.any())
            assert (centres[:, 2] >= OBJECT_HALF_M - 1e-6).all()
            resting = centres[centres[:, 2] < 0.045]
            gaps = np.linalg.norm(resting[:, None, :2] - resting[None, :, :2], axis=-1)
            assert (gaps[~np.eye(len(resting), dtype=bool)] > 0.065).all()
        moved += int(np.ptp(episode.objects_m, axis=0).max() > 0.05)
    assert held > 50 and moved > 15
    assert np.array_equal(play(world, 5).frames, play(world, 5).frames)


def test_streams_of_a_seed_are_independent():
    values = {
        stream: rng_for(1, stream).random() for stream in ("task", "scene", "motion", "wording", "camera", "play")
    }
    assert len(set(values.values())) == 6


def test_a_frame_of_an_impossible_size_is_refused():
    with pytest.raises(SimulationError, match="16 to 512 px"):
        World(size=4)

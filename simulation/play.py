"""Play: nine frames in which the arm and the objects move at random, without any request.

Data for a base model that must learn what the table looks like (the arm anywhere, objects standing, held, lifted,
dropped, slid) without ever seeing a task performed. Poses are set, not simulated, so that no frame shows two things
inside each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .camera import FRONT, Camera
from .engine import mujoco
from .episode import PATH_POINTS, Episode, resample
from .model import FINGER_OPEN_RAD, OBJECT_HALF_M
from .motion import FRAMES, minimum_jerk
from .policy import GRIP_Z_M
from .scene import PLATE_GAP_M, REACH_AREA_M, START_AREA_M, SceneSpec, draw_layout, draw_scene, rng_for, set_object_pose
from .tasks import PLATE_TOP_M
from .world import World, finger_angle

HELD_FINGER_RAD = 0.70
HELD_BELOW_TOOL_M = GRIP_Z_M - OBJECT_HALF_M
_TOOL_LOW = np.array([0.27, -0.20, 0.05])
_TOOL_HIGH = np.array([0.52, 0.20, 0.25])


@dataclass
class _Frame:
    """The table at one frame: tool (3,) [m], gripper [0..1], object centres (objects, 3) [m], yaws [rad], slot held."""

    tool_m: np.ndarray
    gripper: float
    objects_m: np.ndarray
    yaws_rad: np.ndarray
    held: int | None = field(default=None)


def _on_table(xy, scene: SceneSpec) -> np.ndarray | None:
    """Return the centre of an object put down at ``xy``, on the table or the plate; None if it would tilt there."""
    distance = float(np.hypot(*(np.asarray(xy) - np.array(scene.plate_m))))
    if distance < 0.04:
        return np.array([*xy, PLATE_TOP_M + OBJECT_HALF_M])
    return np.array([*xy, OBJECT_HALF_M]) if distance > PLATE_GAP_M - 0.02 else None


def _free(point_m, slot: int, objects_m: np.ndarray, held: int | None = None) -> bool:
    others = [index for index in range(len(objects_m)) if index not in (slot, held)]
    return all(np.hypot(*(point_m - objects_m[index])[:2]) > 0.092 for index in others)


def _random_tool(rng: np.random.Generator) -> np.ndarray:
    tool = rng.uniform(_TOOL_LOW, _TOOL_HIGH)
    if rng.random() < 0.35:
        tool[2] = rng.uniform(0.05, 0.09)
    return tool


def _clear(frame: _Frame) -> None:
    """Raise the tool if the end effector, or what it holds, would be inside an object or the plate."""
    if frame.held is not None:
        frame.tool_m[2] = max(frame.tool_m[2], GRIP_Z_M + PLATE_TOP_M)
    for slot, centre in enumerate(frame.objects_m):
        if slot == frame.held:
            continue
        distance = float(np.hypot(*(frame.tool_m - centre)[:2]))
        around = frame.held is None and frame.gripper < 0.5 and distance < 0.012
        if not around and distance < 0.125:
            lowest = 0.185 if frame.held is not None else 0.135
            frame.tool_m[2] = max(frame.tool_m[2], lowest)
    if frame.held is not None:
        frame.objects_m[frame.held] = frame.tool_m - [0.0, 0.0, HELD_BELOW_TOOL_M]


def _jumping(rng: np.random.Generator, scene: SceneSpec) -> list[_Frame]:
    """Nine unrelated moments that share only the objects and the plate."""
    frames = []
    count = len(scene.objects)
    for _ in range(FRAMES):
        while True:
            points, _plate = draw_layout(rng, count)
            settled = [_on_table(point, scene) for point in points]
            if all(point is not None for point in settled):
                break
        held = int(rng.integers(count)) if rng.random() < 0.45 else None
        gripper = 1.0 if held is not None else float(rng.random() < 0.5)
        frame = _Frame(_random_tool(rng), gripper, np.array(settled), rng.uniform(-0.6, 0.6, count), held)
        if held is None and rng.random() < 0.3:
            frame.gripper = 0.0
            frame.tool_m[:2] = settled[int(rng.integers(count))][:2]
        _clear(frame)
        frames.append(frame)
    return frames


def _tool_path(rng: np.random.Generator, start: np.ndarray, meeting: tuple[int, np.ndarray] | None) -> np.ndarray:
    """Return a smooth random path of the tool (9, 3) [m] through two to four random places.

    Args:
        rng: random source.
        start: (3,) [m], the place at frame 0.
        meeting: a frame and the place (3,) [m] where the tool must be at that frame.
    """
    knots = set(rng.choice(np.arange(1, FRAMES), size=int(rng.integers(2, 5)), replace=False).tolist())
    if meeting is not None:
        knots = {knot for knot in knots if abs(knot - meeting[0]) > 1} | {meeting[0]}
    times = [0, *sorted(knots)]
    places = [start]
    places += [meeting[1] if meeting and knot == meeting[0] else _random_tool(rng) for knot in times[1:]]
    path = np.zeros((FRAMES, 3))
    for frame in range(FRAMES):
        segment = int(np.clip(np.searchsorted(times, frame, side="right") - 1, 0, len(times) - 2))
        span = times[segment + 1] - times[segment]
        s = minimum_jerk((frame - times[segment]) / span)
        path[frame] = places[segment] + s * (places[segment + 1] - places[segment])
    return path


def _smooth(rng: np.random.Generator, scene: SceneSpec) -> list[_Frame]:
    """The arm wanders; an object that it meets stays in its gripper until it is dropped; another object slides.

    Everything else stays where it is, so that the base learns that things persist from cell to cell.
    """
    count = len(scene.objects)
    rest = np.array([(*item.position_m, OBJECT_HALF_M) for item in scene.objects])
    yaws = np.array([item.yaw_rad for item in scene.objects])
    held = int(rng.integers(count)) if rng.random() < 0.75 else None
    first = int(rng.integers(1, FRAMES - 1))
    last = int(rng.integers(first, FRAMES))
    meeting = None if held is None else (first, rest[held] + [0.0, 0.0, HELD_BELOW_TOOL_M])
    path = _tool_path(rng, np.asarray(scene.start_m, dtype=float), meeting)
    slider = int(rng.integers(count)) if rng.random() < 0.5 else None
    slide = rng.uniform(-0.14, 0.14, 2)
    slide_from = int(rng.integers(0, FRAMES - 2))
    grips = (rng.random(FRAMES) < 0.5) if rng.random() < 0.4 else np.full(FRAMES, rng.random() < 0.5)
    frames: list[_Frame] = []
    for index in range(FRAMES):
        in_hand = held is not None and first <= index <= last
        if held is not None and index == last + 1:
            _drop(rng, scene, rest, held, frames[-1].tool_m)
        if slider is not None and slider != held and index > slide_from:
            _slide(scene, rest, slider, slide / (FRAMES - 1 - slide_from))
        gripper = 1.0 if in_hand else float(grips[index])
        frame = _Frame(path[index].copy(), gripper, rest.copy(), yaws, held if in_hand else None)
        _clear(frame)
        frames.append(frame)
    return frames


def _drop(rng, scene: SceneSpec, rest: np.ndarray, slot: int, tool_m: np.ndarray) -> None:
    """Put the object down under the end effector or, if it would hit something there, at a free place."""
    low, high = np.array(START_AREA_M).T
    for attempt in range(200):
        xy = tool_m[:2] if attempt == 0 else rng.uniform(low, high)
        point = _on_table(xy, scene)
        if point is not None and _free(point, slot, rest):
            rest[slot] = point
            return


def _slide(scene: SceneSpec, rest: np.ndarray, slot: int, step_m: np.ndarray) -> None:
    """Move the object by one frame's step (2,) [m] if the place is free."""
    xy = rest[slot, :2] + step_m
    inside = all(low <= value <= high for value, (low, high) in zip(xy, REACH_AREA_M, strict=True))
    point = _on_table(xy, scene)
    if inside and point is not None and _free(point, slot, rest) and point[2] == rest[slot, 2]:
        rest[slot] = point


def play(world: World, seed: int, camera_jitter_m: float = 0.0, camera: Camera = FRONT) -> Episode:
    """Make one play episode: nine in ten wander smoothly, one in ten jumps from moment to moment."""
    rng = rng_for(seed, "play")
    scene = draw_scene(rng)
    camera = camera.jittered(rng_for(seed, "camera"), camera_jitter_m)
    moments = _smooth(rng, scene) if rng.random() < 0.9 else _jumping(rng, scene)
    world.reset(scene, 0.0, camera)
    pictures, tools = [], []
    for moment in moments:
        free = finger_angle(moment.gripper) if moment.gripper > 0.5 else FINGER_OPEN_RAD
        world.place_arm(moment.tool_m, free if moment.held is None else HELD_FINGER_RAD)
        for slot, centre in enumerate(moment.objects_m):
            yaw = 0.0 if slot == moment.held else moment.yaws_rad[slot]
            set_object_pose(world.model, world.data, slot, centre, yaw)
        mujoco.mj_forward(world.model, world.data)
        pictures.append(world.frame())
        tools.append(world.tool())
    tool = np.array(tools)
    return Episode(
        seed=seed,
        scene=scene,
        task=None,
        instruction="",
        frames=np.array(pictures),
        tool_m=tool,
        objects_m=np.array([moment.objects_m for moment in moments]),
        gripper=np.array([moment.gripper for moment in moments]),
        path_m=resample(tool, PATH_POINTS),
        camera=camera,
        success=False,
    )

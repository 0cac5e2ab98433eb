"""A scene: its objects, the plate and the arm's start, drawn from a seed and put into a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .camera import FRONT, Camera
from .engine import mujoco
from .errors import SimulationError
from .model import OBJECT_HALF_M, OBJECT_SLOTS, PLATE_HALF_HEIGHT_M, PLATE_RADIUS_M

COLORS = {
    "red": (0.86, 0.05, 0.06, 1.0),
    "green": (0.05, 0.62, 0.12, 1.0),
    "blue": (0.08, 0.20, 0.92, 1.0),
    "yellow": (0.97, 0.83, 0.02, 1.0),
    "purple": (0.58, 0.10, 0.72, 1.0),
}
SHAPES = ("cube", "cylinder")
# Where objects may stand at the start, and where they may be pushed to: (x, y) bounds on the table [m].
START_AREA_M = ((0.285, 0.505), (-0.178, 0.178))
REACH_AREA_M = ((0.255, 0.535), (-0.205, 0.205))
OBJECT_GAP_M = 0.118
PLATE_GAP_M = PLATE_RADIUS_M + 0.062
HOME_M = (0.36, 0.0, 0.225)
STREAMS = {"task": 1, "scene": 2, "motion": 3, "wording": 4, "camera": 5, "play": 6, "beginning": 7}


def rng_for(seed: int, stream: str) -> np.random.Generator:
    """Return the generator of one named stream of an episode, so that draws of one stream never shift another's."""
    return np.random.default_rng([int(seed), STREAMS[stream]])


@dataclass(frozen=True)
class ObjectSpec:
    """One object: its colour and shape, its centre on the table (x, y) [m] and its yaw [rad]."""

    color: str
    shape: str
    position_m: tuple[float, float]
    yaw_rad: float = 0.0

    @property
    def name(self) -> str:
        """Return its name in phrasings, such as "red cube"."""
        return f"{self.color} {self.shape}"


@dataclass(frozen=True)
class SceneSpec:
    """Everything that can be seen before the arm moves.

    Attributes:
        objects: two or three objects of distinct colours.
        plate_m: the plate's centre on the table (x, y) [m].
        start_m: the tool's position at the start (x, y, z) [m].
    """

    objects: tuple[ObjectSpec, ...]
    plate_m: tuple[float, float]
    start_m: tuple[float, float, float]

    @property
    def caption(self) -> str:
        """Describe the scene, without any task."""
        names = ", ".join(f"a {item.name}" for item in self.objects)
        return f"a robot arm at a table with {names} and a plate"

    def index_of(self, name: str) -> int:
        """Return the slot of the object called ``name``.

        Raises:
            SimulationError: no such object.
        """
        names = [item.name for item in self.objects]
        if name not in names:
            raise SimulationError(f"the scene has no {name!r}; it has {', '.join(names)}")
        return names.index(name)


def draw_layout(rng: np.random.Generator, objects: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Draw positions (x, y) [m] of ``objects`` objects and of the plate that keep their gaps."""
    low, high = np.array(START_AREA_M).T
    while True:
        plate = rng.uniform(low + 0.02, high - 0.02)
        placed: list[np.ndarray] = []
        for _ in range(60):
            point = rng.uniform(low, high)
            if np.hypot(*(point - plate)) < PLATE_GAP_M:
                continue
            if all(np.hypot(*(point - other)) >= OBJECT_GAP_M for other in placed):
                placed.append(point)
                if len(placed) == objects:
                    return placed, plate


def hides(hand_m, point_m, camera: Camera) -> bool:
    """Say whether the gripper at ``hand_m`` covers the point in the picture (it and the forearm lie above the tool)."""
    hand, point = camera.project([hand_m, point_m], 64, 64)
    return abs(hand[0] - point[0]) < 9.5 and hand[1] - 26 < point[1] < hand[1] + 8


def draw_start(rng: np.random.Generator, objects_m, camera: Camera) -> tuple[float, float, float]:
    """Draw the tool's start: home with a small jitter (70%), else somewhere above the table with no object hidden."""
    home = np.array(HOME_M) + rng.uniform(-0.012, 0.012, 3)
    if rng.random() < 0.7:
        return tuple(map(float, home))
    for _ in range(200):
        start = rng.uniform([0.29, -0.18, 0.15], [0.47, 0.18, 0.24])
        if not any(hides(start, (*point, OBJECT_HALF_M), camera) for point in objects_m):
            return tuple(map(float, start))
    return tuple(map(float, home))


def draw_scene(rng: np.random.Generator) -> SceneSpec:
    """Draw a scene: two or three objects of distinct colours, a plate, and a start of the arm."""
    count = int(rng.integers(2, OBJECT_SLOTS + 1))
    colors = rng.permutation(list(COLORS))[:count]
    shapes = [SHAPES[int(rng.integers(len(SHAPES)))] for _ in range(count)]
    points, plate = draw_layout(rng, count)
    yaws = rng.uniform(-0.2, 0.2, count)
    start = draw_start(rng, points, FRONT)
    objects = tuple(
        ObjectSpec(str(color), shape, (float(point[0]), float(point[1])), float(yaw))
        for color, shape, point, yaw in zip(colors, shapes, points, yaws, strict=True)
    )
    return SceneSpec(objects, (float(plate[0]), float(plate[1])), start)


def apply_scene(model, data, scene: SceneSpec) -> None:
    """Put the scene's objects and plate into the model and its data; unused slots are parked out of sight."""
    mujoco.mj_resetData(model, data)
    for slot in range(OBJECT_SLOTS):
        item = scene.objects[slot] if slot < len(scene.objects) else None
        geom = model.geom(f"object_{slot}")
        if item is not None:
            cube = item.shape == "cube"
            geom.type = mujoco.mjtGeom.mjGEOM_BOX if cube else mujoco.mjtGeom.mjGEOM_CYLINDER
            geom.rgba = COLORS[item.color]
            set_object_pose(model, data, slot, (*item.position_m, OBJECT_HALF_M), item.yaw_rad)
        else:
            # on the table behind the camera, so that it neither falls forever nor is seen
            geom.type = mujoco.mjtGeom.mjGEOM_BOX
            set_object_pose(model, data, slot, (1.6, 0.3 * slot, OBJECT_HALF_M), 0.0)
    data.mocap_pos[0] = (*scene.plate_m, PLATE_HALF_HEIGHT_M)


def set_object_pose(model, data, slot: int, position_m, yaw_rad: float = 0.0) -> None:
    """Set the pose of one object: centre (x, y, z) [m], upright, turned by ``yaw_rad`` [rad], at rest."""
    joint = model.joint(f"object_{slot}")
    address, dof = joint.qposadr[0], joint.dofadr[0]
    data.qpos[address : address + 3] = position_m
    data.qpos[address + 3 : address + 7] = (np.cos(yaw_rad / 2), 0.0, 0.0, np.sin(yaw_rad / 2))
    data.qvel[dof : dof + 6] = 0.0


def shift_object(model, data, slot: int, by_m) -> None:
    """Move one object by (x, y) [m] along the table without turning it, and leave it at rest."""
    joint = model.joint(f"object_{slot}")
    address, dof = joint.qposadr[0], joint.dofadr[0]
    data.qpos[address : address + 2] += by_m
    data.qvel[dof : dof + 6] = 0.0
    mujoco.mj_kinematics(model, data)


def move_plate(data, plate_m) -> None:
    """Move the plate's centre to (x, y) [m]."""
    data.mocap_pos[0][:2] = plate_m


def object_position(data, slot: int) -> np.ndarray:
    """Return the centre (3,) [m] of one object."""
    return data.body(f"object_{slot}").xpos.copy()

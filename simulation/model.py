"""The MuJoCo model: a Jaco arm and gripper on a table, three objects and a plate.

One model serves every scene: a scene only changes colours, shapes and positions (see ``scene.py``), so a process
compiles it once. World frame: origin at the arm's base on the table's surface, x towards the camera, y to the right of
the picture, z up [m].
"""

from __future__ import annotations

import copy
from functools import lru_cache

from .assets import jaco_folder
from .engine import mujoco

CONTROL_HZ = 50
TIMESTEP_S = 0.004
OBJECT_SLOTS = 3
OBJECT_HALF_M = 0.0325
PLATE_RADIUS_M = 0.072
PLATE_HALF_HEIGHT_M = 0.004
TOOL_SITE = "hand/gripsite"
ARM_JOINTS = tuple(f"joint_{i}" for i in range(1, 7))
FINGER_JOINTS = tuple(f"hand/finger_{i}" for i in range(1, 4))
FINGER_OPEN_RAD = 0.25
FINGER_CLOSED_RAD = 1.3

_TABLE_RGBA = (0.80, 0.77, 0.71, 1.0)
_PLATE_RGBA = (0.55, 0.66, 0.74, 1.0)
_ARM_RGBA = (0.16, 0.16, 0.18, 1.0)
_RING_RGBA = (0.42, 0.42, 0.45, 1.0)
_HAND_RGBA = (1.0, 0.50, 0.05, 1.0)
_TIP_RGBA = (1.0, 0.97, 0.55, 1.0)


def _colour(geom, rgba) -> None:
    geom.material = ""
    geom.rgba = rgba


def _paint(spec) -> None:
    for geom in spec.geoms:
        name = geom.name
        if "finger_tip" in name:
            _colour(geom, _TIP_RGBA)
        elif name.startswith("hand/"):
            _colour(geom, _HAND_RGBA)
        elif name.startswith("ring"):
            _colour(geom, _RING_RGBA)
        elif name.startswith("link") or name == "base":
            _colour(geom, _ARM_RGBA)


def _collisions(spec) -> None:
    """Let fingers and palm touch objects and table, but the links nothing, so that no self-collision jams the arm."""
    for geom in spec.geoms:
        fingers = "finger" in geom.name
        if fingers or geom.name.startswith("hand/"):
            geom.contype, geom.conaffinity = 2, 0
        else:
            geom.contype, geom.conaffinity = 0, 0
        if fingers:
            geom.friction = [1.6, 0.02, 0.001]
            geom.condim = 4


def _actuate(spec) -> None:
    for joint in spec.joints:
        joint.frictionloss = 0.0
        actuator = spec.add_actuator(name=joint.name, target=joint.name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        if "finger" in joint.name:
            joint.range = [0.0, 1.45]
            # one finger opposes two: without twice their force it would be pushed aside with the object
            strength = 2.0 if joint.name.endswith("finger_1") else 1.0
            actuator.set_to_position(kp=14.0 * strength, kv=1.2 * strength)
            actuator.forcerange = [-4.0 * strength, 4.0 * strength]
            actuator.forcelimited = mujoco.mjtLimited.mjLIMITED_TRUE
        else:
            joint.armature = 1.0
            actuator.set_to_position(kp=6000.0, kv=150.0)
        actuator.ctrllimited = mujoco.mjtLimited.mjLIMITED_FALSE


def _add_table(spec) -> None:
    spec.worldbody.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[1.5, 1.5, 0.05],
        pos=[0.4, 0, -0.05],
        rgba=_TABLE_RGBA,
        contype=1,
        conaffinity=3,
        friction=[0.5, 0.005, 0.0001],
    )
    plate = spec.worldbody.add_body(name="plate", mocap=True, pos=[0.4, 0.2, PLATE_HALF_HEIGHT_M])
    plate.add_geom(
        name="plate",
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        size=[PLATE_RADIUS_M, PLATE_HALF_HEIGHT_M, 0],
        rgba=_PLATE_RGBA,
        contype=1,
        conaffinity=3,
        friction=[0.8, 0.005, 0.0001],
    )


def _add_objects(spec) -> None:
    for slot in range(OBJECT_SLOTS):
        body = spec.worldbody.add_body(name=f"object_{slot}", pos=[0.4, 0.1 * slot - 0.1, OBJECT_HALF_M])
        body.add_freejoint(name=f"object_{slot}")
        # condim 4 with some torsional friction: a held cube does not spin in the fingers
        body.add_geom(
            name=f"object_{slot}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[OBJECT_HALF_M] * 3,
            mass=0.08,
            condim=4,
            contype=1,
            conaffinity=3,
            friction=[0.5, 0.005, 0.0001],
        )


def build_spec():
    """Return the ``MjSpec`` of the table before it is compiled."""
    folder = jaco_folder()
    arm = mujoco.MjSpec.from_file(str(folder / "jaco_arm.xml"))
    hand = mujoco.MjSpec.from_file(str(folder / "jaco_hand.xml"))
    arm.attach(hand, prefix="hand/", site=arm.site("wristsite"))
    for body in arm.bodies:
        body.gravcomp = 1.0
    _paint(arm)
    _collisions(arm)
    _actuate(arm)
    _add_table(arm)
    _add_objects(arm)
    arm.option.timestep = TIMESTEP_S
    arm.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    arm.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    arm.option.impratio = 10
    arm.visual.quality.offsamples = 0
    arm.visual.quality.shadowsize = 0
    arm.visual.global_.offwidth = 1024
    arm.visual.global_.offheight = 1024
    arm.visual.headlight.ambient = [0.45, 0.45, 0.45]
    arm.visual.headlight.diffuse = [0.25, 0.25, 0.25]
    arm.visual.headlight.specular = [0.0, 0.0, 0.0]
    light = arm.worldbody.add_light(name="lamp", pos=[0.9, -0.5, 1.6], dir=[-0.5, 0.5, -1.6])
    light.diffuse, light.specular, light.castshadow = [0.55, 0.55, 0.55], [0.0, 0.0, 0.0], False
    light.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    return arm


@lru_cache(maxsize=1)
def _compiled():
    return build_spec().compile()


def load_model():
    """Return a fresh copy of the compiled model (a scene may change its colours and shapes)."""
    return copy.deepcopy(_compiled())

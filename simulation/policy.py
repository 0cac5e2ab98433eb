"""The scripted demonstrator: way points for each task at frames that are the same in every episode."""

from __future__ import annotations

import numpy as np

from .motion import Motion, WayPoint, sideways_bow
from .scene import SceneSpec
from .tasks import DIRECTIONS, HOVER_M, LIFT_M, PLATE_TOP_M, PUSH_BEHIND_M, PUSH_M, Task

GRIP_Z_M = 0.052
ABOVE_Z_M = 0.165
PUSH_Z_M = 0.055
# Distance from the tool to the object's centre when the closed gripper touches it, by the axis of the push (x, y) [m].
PUSH_CONTACT_M = (0.064, 0.068)
# In a push along x, two of the three fingertips touch first, on one side; this sideways offset [m] centres the contact.
PUSH_SIDE_M = 0.025


def _random_bow(rng: np.random.Generator, start, end) -> tuple[float, float, float]:
    """Return the bow [m] of a path: half of the paths are nearly straight, half bow to a side by up to 6 cm."""
    offset = rng.normal(0.0, 0.005) if rng.random() < 0.5 else rng.uniform(0.015, 0.06) * rng.choice([-1.0, 1.0])
    return sideways_bow(start, end, float(offset))


def _at(xy, z: float) -> tuple[float, float, float]:
    return (float(xy[0]), float(xy[1]), float(z))


def demonstration(scene: SceneSpec, task: Task, rng: np.random.Generator) -> Motion:
    """Return the motion that fulfils the request; only bows and small errors are random, never the timing."""
    start = scene.start_m
    here = np.array(scene.objects[task.slot].position_m)
    if task.name == "reach":
        above, at = _at(here, ABOVE_Z_M + 0.03), _at(here, HOVER_M)
        bow = _random_bow(rng, start, above)
        return Motion([WayPoint(0, start, 0), WayPoint(6, above, 0, bow), WayPoint(8, at, 0)])
    if task.name == "push":
        return _push(start, here, np.array(DIRECTIONS[task.direction]), rng)
    above, at, lifted = _at(here, ABOVE_Z_M), _at(here, GRIP_Z_M), _at(here, GRIP_Z_M + LIFT_M)
    points = [
        WayPoint(0, start, 0),
        WayPoint(2, above, 0, _random_bow(rng, start, above)),
        WayPoint(3, at, 0),
        WayPoint(4, at, 1),
    ]
    if task.name == "pick":
        return Motion([*points, WayPoint(7.5, lifted, 1), WayPoint(8, lifted, 1)])
    plate = np.array(scene.plate_m)
    over, down = _at(plate, GRIP_Z_M + LIFT_M), _at(plate, GRIP_Z_M + PLATE_TOP_M + 0.004)
    return Motion(
        [
            *points,
            WayPoint(5, _at(here, GRIP_Z_M + LIFT_M), 1),
            WayPoint(6.4, over, 1, _random_bow(rng, lifted, over)),
            WayPoint(7, down, 1),
            WayPoint(7.4, down, 0),
            WayPoint(8, _at(plate, ABOVE_Z_M), 0),
        ]
    )


def _push(start, here, way, rng) -> Motion:
    contact = PUSH_CONTACT_M[0] if way[0] else PUSH_CONTACT_M[1]
    here = here + (np.array([0.0, PUSH_SIDE_M]) if way[0] else 0.0)
    behind = here - PUSH_BEHIND_M * way
    end = here + (PUSH_M - contact) * way
    above = _at(behind, ABOVE_Z_M)
    return Motion(
        [
            WayPoint(0, start, 0),
            WayPoint(2, above, 1, _random_bow(rng, start, above)),
            WayPoint(3, _at(behind, PUSH_Z_M), 1),
            WayPoint(7, _at(end, PUSH_Z_M), 1),
            WayPoint(8, _at(end - 0.02 * way, ABOVE_Z_M), 1),
        ]
    )

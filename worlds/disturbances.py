"""What may go wrong while a plan is executed: kinds of disturbance as data, and how a seed draws them.

A world lists the kinds that it has (`World.disturbances`) and implements them in its own physics; disturbances of
pictures are implemented here for all worlds. A seed always disturbs a scene in the same way, whatever is executed in it
and however often it is looked at, so that one plan and re-planning are compared under the same conditions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import WorldError

MAX_STRENGTH = 3.0
_STREAM = 8
"""Keeps these draws independent of all others from a scene's seed."""


@dataclass(frozen=True)
class Kind:
    """One kind of disturbance.

    Args:
        what: what happens, in a sentence.
        least: smallest amount at strength 1.
        most: largest amount at strength 1.
        unit: unit of the amount.
    """

    what: str
    least: float
    most: float
    unit: str


KINDS: dict[str, Kind] = {
    "object_moved": Kind("the object of the task is set down elsewhere while the gripper is away", 0.04, 0.08, "m"),
    "target_moved": Kind("the place where the object belongs moves", 0.05, 0.08, "m"),
    "arm_pushed": Kind("the end effector is pushed aside and returns", 0.06, 0.1, "m"),
    "grasp_slipped": Kind("the gripper opens after it has lifted the object, and closes again", 0.5, 0.5, "s"),
    "sensor_noise": Kind(
        "every picture has noise, and all of a scene are too bright or too dark", 0.04, 0.06, "of full brightness"
    ),
}
"""The kinds by name. A new one needs a line here and its physics in each world that lists it. It must go to the end,
since the draws of a seed depend on the order."""


@dataclass(frozen=True)
class Drawn:
    """What a seed draws of one kind.

    Args:
        amount: in the kind's unit, strength included.
        moment: fraction of the time in which it may happen, 0 to 1.
        angle_rad: its direction on the table.
    """

    amount: float
    moment: float
    angle_rad: float

    @property
    def aside(self) -> np.ndarray:
        """The direction as a unit vector (2,)."""
        return np.array([np.cos(self.angle_rad), np.sin(self.angle_rad)])


@dataclass(frozen=True)
class Disturbance:
    """What disturbs one scene.

    Args:
        kinds: names in `KINDS`.
        strength: factor of all amounts.
        seed: seed of the draws; the scene's.
    """

    kinds: tuple[str, ...]
    strength: float
    seed: int

    def rng(self, kind: str, *more: int) -> np.random.Generator:
        """The random source of one kind."""
        return np.random.default_rng([self.seed, _STREAM, list(KINDS).index(kind), *more])

    def drawn(self, kind: str) -> Drawn | None:
        """What the seed draws of a kind; None if it is not among this scene's kinds."""
        if kind not in self.kinds:
            return None
        rng = self.rng(kind)
        amount = self.strength * rng.uniform(KINDS[kind].least, KINDS[kind].most)
        return Drawn(float(amount), float(rng.uniform()), float(rng.uniform(0.0, 2 * np.pi)))

    def seen(self, picture: np.ndarray, moment: int) -> np.ndarray:
        """A picture (h, w, 3) uint8 as the camera delivers it: with `sensor_noise`, if that is among the kinds.

        Args:
            picture: the undisturbed picture.
            moment: number of the world's step; pictures of the same moment have the same noise.
        """
        drawn = self.drawn("sensor_noise")
        if drawn is None:
            return picture
        brightness = (2 * drawn.amount) * (1 if drawn.moment < 0.5 else -1)
        noise = self.rng("sensor_noise", moment).normal(brightness, drawn.amount, picture.shape)
        return np.clip(picture + 255 * noise, 0, 255).round().astype(np.uint8)


def check_kinds(
    kinds: Sequence[str], strength: float, known: Mapping[str, Sequence[str]], world: str,
    names: tuple[str, str] = ("disturbance", "strength of a disturbance"),
) -> None:  # fmt: skip
    """Refuse disturbances that a world cannot do.

    Args:
        kinds: requested kinds.
        strength: requested strength.
        known: the world's kinds, each with the tasks that it can disturb.
        world: its name.
        names: names of a kind and of the strength in messages.

    Raises:
        WorldError: a kind that the world does not have or that is named twice, or a strength out of bounds.
    """
    for kind in kinds:
        if kind not in known:
            has = f"one of {', '.join(known)}" if known else "empty"
            raise WorldError(f"{names[0]} must be {has} in world {world}, got {kind!r}")
    if len(set(kinds)) < len(kinds):
        raise WorldError(f"{names[0]} must name each kind once, got {', '.join(kinds)}")
    if not 0 < strength <= MAX_STRENGTH:
        raise WorldError(f"{names[1]} must be above 0 and at most {MAX_STRENGTH:g}, got {strength:g}")

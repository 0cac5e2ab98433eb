"""What may go wrong while a plan is executed: kinds of disturbance as data, and what a seed draws of them.

A world lists the kinds that it has (`World.disturbances`) and does them in its own physics; a kind of pictures is done
here for all of them. The same seed disturbs a scene in the same manner, whatever is executed in it and however often it
is looked at, so that one plan and re-planning are compared under the same conditions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import WorldError

MAX_STRENGTH = 3.0
_STREAM = 8
"""Keeps these draws apart from all others of a scene's seed."""


@dataclass(frozen=True)
class Kind:
    """One kind of disturbance.

    Args:
        what: happens, in a sentence.
        least: smallest amount at strength 1.
        most: largest amount at strength 1.
        unit: of the amount.
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
"""The kinds by name. A new one is a line here and its physics in each world that lists it; the order is part of what a
seed draws, so it goes to the end."""


@dataclass(frozen=True)
class Drawn:
    """What a seed says of one kind.

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
        strength: all amounts are multiplied by it.
        seed: of the draws; the scene's.
    """

    kinds: tuple[str, ...]
    strength: float
    seed: int

    def rng(self, kind: str, *more: int) -> np.random.Generator:
        """The random source of one kind."""
        return np.random.default_rng([self.seed, _STREAM, list(KINDS).index(kind), *more])

    def drawn(self, kind: str) -> Drawn | None:
        """What the seed says of a kind; None: this scene has none of it."""
        if kind not in self.kinds:
            return None
        rng = self.rng(kind)
        amount = self.strength * rng.uniform(KINDS[kind].least, KINDS[kind].most)
        return Drawn(float(amount), float(rng.uniform()), float(rng.uniform(0.0, 2 * np.pi)))

    def seen(self, picture: np.ndarray, moment: int) -> np.ndarray:
        """A picture (h, w, 3) uint8 as the camera gives it: with `sensor_noise`, if that is among the kinds.

        Args:
            picture: what there is to see.
            moment: number of the world's step; the same moment is seen the same however often it is looked at.
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
    """Refuse what a world cannot do.

    Args:
        kinds: asked for.
        strength: asked for.
        known: the world's kinds, each with the tasks that can be disturbed so.
        world: its name.
        names: what messages call a kind and the strength.

    Raises:
        WorldError: a kind that it does not have, one that is named twice, or a strength out of bounds.
    """
    for kind in kinds:
        if kind not in known:
            has = f"one of {', '.join(known)}" if known else "empty"
            raise WorldError(f"{names[0]} must be {has} in world {world}, got {kind!r}")
    if len(set(kinds)) < len(kinds):
        raise WorldError(f"{names[0]} must name each kind once, got {', '.join(kinds)}")
    if not 0 < strength <= MAX_STRENGTH:
        raise WorldError(f"{names[1]} must be above 0 and at most {MAX_STRENGTH:g}, got {strength:g}")

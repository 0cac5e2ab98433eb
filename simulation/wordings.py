"""How a request is expressed: many phrasings for each task, some held out of training to test language."""

from __future__ import annotations

import numpy as np

from .errors import SimulationError
from .tasks import Task

WORDING_SETS = ("train", "held_out", "all")

# {object} is a name such as "red cube"; {direction} one of the phrases below.
TRAIN = {
    "reach": (
        "reach for the {object}",
        "reach the {object}",
        "move to the {object}",
        "move the gripper to the {object}",
        "move the hand above the {object}",
        "go to the {object}",
        "go above the {object}",
        "hover over the {object}",
        "bring the hand to the {object}",
        "point at the {object}",
        "hold the open hand over the {object}",
        "approach the {object}",
    ),
    "push": (
        "push the {object} {direction}",
        "slide the {object} {direction}",
        "move the {object} {direction}",
        "shove the {object} {direction}",
        "nudge the {object} {direction}",
        "push the {object} {direction} on the table",
        "slide the {object} {direction} along the table",
        "give the {object} a push {direction}",
        "use the closed hand to push the {object} {direction}",
        "make the {object} move {direction}",
        "shift the {object} {direction}",
        "press the {object} {direction}",
    ),
    "pick": (
        "pick up the {object}",
        "pick the {object}",
        "lift the {object}",
        "lift up the {object}",
        "grasp the {object} and lift it",
        "grab the {object}",
        "grab the {object} and raise it",
        "take the {object}",
        "raise the {object} from the table",
        "pick the {object} up from the table",
        "take hold of the {object} and lift it up",
        "hold the {object} in the air",
    ),
    "place": (
        "place the {object} on the plate",
        "put the {object} on the plate",
        "put the {object} onto the plate",
        "pick up the {object} and place it on the plate",
        "pick the {object} and put it on the plate",
        "move the {object} to the plate",
        "move the {object} onto the plate",
        "set the {object} down on the plate",
        "lift the {object} and set it on the plate",
        "take the {object} to the plate",
        "bring the {object} to the plate",
        "lay the {object} on the plate",
    ),
}
HELD_OUT = {
    "reach": ("move above the {object}", "bring the gripper over the {object}", "go over to the {object}"),
    "push": ("push {direction} the {object}", "slide the {object} a bit {direction}", "shove {direction} the {object}"),
    "pick": ("lift the {object} from the table", "take the {object} and lift it", "grasp the {object} and hold it up"),
    "place": (
        "take the {object} and put it on the plate",
        "lift the {object} onto the plate",
        "set the {object} on the plate",
    ),
}
DIRECTION_PHRASES = {
    "left": ("to the left", "left", "leftwards"),
    "right": ("to the right", "right", "rightwards"),
    "away": ("away", "away from the camera", "to the back"),
    "closer": ("closer", "closer to the camera", "to the front"),
}


def templates(task: str, wordings: str) -> tuple[str, ...]:
    """Return the phrasings of a task: those for training, the held-out ones, or all.

    Raises:
        SimulationError: an unknown set.
    """
    if wordings not in WORDING_SETS:
        raise SimulationError(f"wordings must be one of {', '.join(WORDING_SETS)}, got {wordings!r}")
    train = TRAIN[task] if wordings in ("train", "all") else ()
    return train + (HELD_OUT[task] if wordings in ("held_out", "all") else ())


def instruction(task: Task, rng: np.random.Generator, wordings: str = "train") -> str:
    """Express the request in one of its phrasings, in lower case."""
    choices = templates(task.name, wordings)
    template = choices[int(rng.integers(len(choices)))]
    direction = ""
    if task.direction is not None:
        phrases = DIRECTION_PHRASES[task.direction]
        direction = phrases[int(rng.integers(len(phrases)))]
    return template.format(object=task.target, direction=direction)

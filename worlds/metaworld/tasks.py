"""The eleven tasks of AVDC's table, and their instructions."""

import numpy as np

TASKS = (
    "door-open",
    "door-close",
    "basketball",
    "shelf-place",
    "button-press",
    "button-press-topdown",
    "faucet-close",
    "faucet-open",
    "handle-press",
    "hammer",
    "assembly",
)
NEED_EYES = ("basketball", "shelf-place", "hammer", "assembly", "button-press", "button-press-topdown")
"""Tasks in which a plan made for another scene mostly fails, so that looking matters."""

_PHRASINGS = {
    "door-open": ("open the door", "pull the door open", "swing the door open by its handle"),
    "door-close": ("close the door", "push the door shut", "shut the open door"),
    "basketball": ("put the ball in the hoop", "drop the basketball into the hoop", "throw the ball into the basket"),
    "shelf-place": ("put the cube on the shelf", "place the block on the shelf", "lift the cube onto the shelf"),
    "button-press": ("press the button", "push the button on the wall in", "push the red button from the front"),
    "button-press-topdown": (
        "press the button from above",
        "push the button down from the top",
        "push the red button on top down",
    ),
    "faucet-close": ("close the faucet", "turn the faucet off", "turn the tap to the right"),
    "faucet-open": ("open the faucet", "turn the faucet on", "turn the tap to the left"),
    "handle-press": ("press the handle down", "push the handle down", "push the lever down to the bottom"),
    "hammer": ("hit the nail with the hammer", "hammer the nail in", "drive the screw in with the hammer"),
    "assembly": ("put the ring on the peg", "place the wrench over the peg", "assemble the ring and the peg"),
}
_OBJECTS = {
    "door-open": "a door",
    "door-close": "a door",
    "basketball": "a ball and a hoop",
    "shelf-place": "a cube and a shelf",
    "button-press": "a button on a wall",
    "button-press-topdown": "a button on top of a box",
    "faucet-close": "a faucet",
    "faucet-open": "a faucet",
    "handle-press": "a handle on a box",
    "hammer": "a hammer and a nail",
    "assembly": "a ring and a peg",
}


def instruction(task: str, rng: np.random.Generator | None = None) -> str:
    """A task in words: the benchmark's sentence, or with a random source one of its phrasings."""
    phrasings = _PHRASINGS[task]
    return phrasings[0] if rng is None else phrasings[int(rng.integers(len(phrasings)))]


def caption(task: str) -> str:
    """What a scene of a task shows, without the task itself."""
    return f"a red robot arm at a brown table with {_OBJECTS[task]}"


def all_texts() -> list[str]:
    """Every instruction and caption of this world, for its vocabulary."""
    return [text for task in TASKS for text in (*_PHRASINGS[task], caption(task))]

"""Where the Kinova Jaco's files are: in the installed dm_control package (its meshes are BSD-3-Clause, Kinova)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from .errors import SimulationError


def jaco_folder() -> Path:
    """Return the folder of ``jaco_arm.xml`` and ``jaco_hand.xml``; dm_control itself is never imported.

    Raises:
        SimulationError: dm_control is not installed, or it does not hold the files.
    """
    spec = importlib.util.find_spec("dm_control")
    if spec is None or spec.origin is None:
        raise SimulationError(
            "the simulation needs the Jaco model files of dm_control: pip install --no-deps dm_control==1.0.50"
        )
    folder = Path(spec.origin).parent / "third_party" / "kinova"
    for name in ("jaco_arm.xml", "jaco_hand.xml", "meshes_decimated"):
        if not (folder / name).exists():
            raise SimulationError(f"the installed dm_control has no third_party/kinova/{name}; use dm_control==1.0.50")
    return folder

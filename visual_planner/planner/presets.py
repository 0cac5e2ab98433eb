"""Records for published planner weights that carry none."""

from collections.abc import Mapping
from types import MappingProxyType

from .spec import PlannerSpec


def _released(cell_height: int, cell_width: int, mode: str, overlay: str, grid: str = "3x3") -> PlannerSpec:
    """Record of published weights: one mode each, whole condition grid, cloned ids, condition tokens counted."""
    # The one sentence that the trajectory weights were trained with; they answer to no other.
    sentence = (
        f"A {grid} grid image to inpaint the blank black cells: only the top-left cell shows the real scene with "
        "arrows indicating the start and end of the trajectory."
    )
    return PlannerSpec(
        cell_height=cell_height, cell_width=cell_width, modes=(mode,), overlay=overlay, trajectory_prompt=sentence
    )


PRESETS: Mapping[str, PlannerSpec] = MappingProxyType(
    {
        "bridge_text": _released(240, 320, "text", "arrows_bridge"),
        "bridge_trajectory": _released(240, 320, "trajectory", "arrows_bridge"),
        "rt1_text": _released(256, 320, "text", "arrows_rt1", "3×3"),
        "rt1_trajectory": _released(256, 320, "trajectory", "arrows_rt1", "3×3"),
        "jaco_text": _released(224, 224, "text", "arrows_bridge", "3×3"),
        "jaco_trajectory": _released(224, 224, "trajectory", "arrows_bridge", "3×3"),
    }
)
"""Records for the weights published with arXiv 2512.00532, which carry none. Text weights were trained on clean first
frames, trajectory weights on first frames with arrows. How Jaco's arrows looked is not
published: Bridge's are assumed."""

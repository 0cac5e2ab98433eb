"""What the simulation takes from `visual_planner`.

This is the only file of the room that names it: inside ComfyUI both are parts of the plugin, whose name ComfyUI makes
from its path, and everywhere else both are packages of their own. Either way the classes are those that the rest has.
"""

if "." in __package__:
    from ..visual_planner.errors import PlannerError, brief, plain
    from ..visual_planner.json_text import json_value, numbers
else:
    from visual_planner.errors import PlannerError, brief, plain
    from visual_planner.json_text import json_value, numbers

__all__ = ["PlannerError", "brief", "json_value", "numbers", "plain"]

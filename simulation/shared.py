"""What the simulation imports from the project's other top-level packages.

Apart from the command line, this is the only file of the package that names them: inside ComfyUI all are parts of the
plugin, whose name ComfyUI makes from its path, and everywhere else they are separate packages. Either way the classes
are the same as in the rest of the project.
"""

if "." in __package__:
    from ..runtime import writing
    from ..visual_planner.errors import PlannerError, brief, plain
    from ..visual_planner.execution.keyframe_choice import GRIPPER_LENGTH_M, RULES, choose_by_shape
    from ..visual_planner.json_text import json_value, numbers
else:
    from runtime import writing
    from visual_planner.errors import PlannerError, brief, plain
    from visual_planner.execution.keyframe_choice import GRIPPER_LENGTH_M, RULES, choose_by_shape
    from visual_planner.json_text import json_value, numbers

__all__ = [
    "GRIPPER_LENGTH_M", "RULES", "PlannerError", "brief", "choose_by_shape", "json_value", "numbers", "plain",
    "writing",
]  # fmt: skip

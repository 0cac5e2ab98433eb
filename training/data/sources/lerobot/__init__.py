"""LeRobot data sets v3.0 and v2.x: a folder, or an id on the Hugging Face hub.

Paths always follow the templates in meta/info.json. v3 keeps many episodes in one file and records in meta/episodes
where each begins; v2 has one file per episode. Pictures are videos, or encoded pictures in the tables.
"""

from .source import LeRobotSource

__all__ = ["LeRobotSource"]

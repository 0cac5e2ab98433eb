"""The ComfyUI nodes: thin V3 nodes over `visual_planner`, and the few modules that speak to ComfyUI's FLUX model."""

from comfy_api.latest import ComfyExtension, io

from .actions import VisualPlannerExecute, VisualPlannerPlanToActions, VisualPlannerScene
from .check import VisualPlannerCheck
from .condition import VisualPlannerCondition
from .extend import VisualPlannerExtend, VisualPlannerJoin
from .grids import (
    VisualPlannerAssembleGrid,
    VisualPlannerGridLayout,
    VisualPlannerMaskFirstFrame,
    VisualPlannerSliceGrid,
)
from .keep import VisualPlannerKeepFrames
from .last_handler import guarded
from .loaders import VisualPlannerLoraLoader, VisualPlannerTinyLoader
from .looking import VisualPlannerLook
from .lora_look import VisualPlannerLookIntoLora
from .prompt import VisualPlannerPrompt
from .rank import VisualPlannerRank
from .tracks import VisualPlannerExportTrajectory, VisualPlannerImportTrajectory, VisualPlannerTrackPoints
from .training import VisualPlannerTrain, VisualPlannerTrainingData
from .trajectories import VisualPlannerTrajectory, VisualPlannerTrajectoryOverlay

# In the order in which a plan passes through a graph. Ids are permanent: saved workflows name them.
NODES: tuple[type[io.ComfyNode], ...] = (
    VisualPlannerTinyLoader,
    VisualPlannerLoraLoader,
    VisualPlannerLookIntoLora,
    VisualPlannerTrajectory,
    VisualPlannerTrajectoryOverlay,
    VisualPlannerImportTrajectory,
    VisualPlannerExportTrajectory,
    VisualPlannerTrackPoints,
    VisualPlannerPrompt,
    VisualPlannerCondition,
    VisualPlannerKeepFrames,
    VisualPlannerSliceGrid,
    VisualPlannerCheck,
    VisualPlannerLook,
    VisualPlannerExtend,
    VisualPlannerJoin,
    VisualPlannerGridLayout,
    VisualPlannerAssembleGrid,
    VisualPlannerMaskFirstFrame,
    VisualPlannerRank,
    VisualPlannerScene,
    VisualPlannerPlanToActions,
    VisualPlannerExecute,
    VisualPlannerTrainingData,
    VisualPlannerTrain,
)
for _node in NODES:
    guarded(_node)


class VisualPlannerExtension(ComfyExtension):
    """Registers the nodes with ComfyUI."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The node classes."""
        return list(NODES)


async def comfy_entrypoint() -> VisualPlannerExtension:
    """ComfyUI's entry point."""
    return VisualPlannerExtension()

"""How good a plan looks before it is executed: the one judgement of the nodes and of the closed loop."""

import numpy as np
import torch

from ..checks.diagnostics import Report, diagnose
from .ranking import Score, score_plan
from .readout import Reading


def judge(
    frames: "torch.Tensor | np.ndarray",
    reading: Reading,
    first: "torch.Tensor | np.ndarray | None" = None,
    places_px: np.ndarray | None = None,
) -> tuple[Report, Score]:
    """Diagnostics and score of one plan by itself.

    Args:
        frames: (F, h, w, 3), in time order.
        reading: reading of the frames.
        first: the given first frame, (1, h, w, 3) or (h, w, 3); None: drift is not measured.
        places_px: (F, paths, 2) requested places [px of these frames], the end effector's path first; None: no path.

    Raises:
        PlannerError: a path of another length than the plan.
    """
    height, width = frames.shape[1:3]
    report = diagnose(frames, first, places_px)
    return report, score_plan(reading, report, None if places_px is None else places_px[:, 0] / (width, height))

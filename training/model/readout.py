"""The read-out on disk: a folder with weights and a model card."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from visual_planner.errors import PlannerError
from visual_planner.execution.readout import ReadoutNet, load_net

from ..errors import TrainingError

WEIGHTS = "readout.safetensors"


def open_readout(folder: Path) -> ReadoutNet:
    """The read-out of a folder like models/readout.

    Raises:
        TrainingError: there is none, or it is broken.
    """
    file = folder / WEIGHTS
    if not file.is_file():
        raise TrainingError(f"read-out {file} does not exist: train one with python -m training readout")
    try:
        with safe_open(file, "pt") as opened:
            return load_net({name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata())  # noqa: SIM118
    except SafetensorError as error:
        raise TrainingError(f"read-out {file} is not a safetensors file: {error}") from error
    except PlannerError as error:
        raise TrainingError(f"read-out {file}: {error}") from error

"""Checkpoints of a run: weights, averaged weights, optimizer state and position, written whole or not at all."""

import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from .errors import TrainingError
from .files import read_json, write_json

_FOLDER = "checkpoints"


def flatten_optimizers(optimizers: list) -> dict[str, torch.Tensor]:
    """State tensors of the optimizers, named by optimizer, parameter number and key."""
    tensors = {}
    for number, optimizer in enumerate(optimizers):
        for parameter, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"{number}.{parameter}.{key}"] = torch.as_tensor(value)
    return tensors


def restore_optimizers(optimizers: list, tensors: dict[str, torch.Tensor]) -> None:
    """The inverse of `flatten_optimizers`; learning rates stay those of the running configuration."""
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict] = {}
        for name, value in tensors.items():
            owner, parameter, key = name.split(".", 2)
            if int(owner) == number:
                state.setdefault(int(parameter), {})[key] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def save_checkpoint(run: Path, step: int, parts: dict[str, dict[str, torch.Tensor]], record: dict, keep: int) -> Path:
    """Write checkpoint `step` and drop the oldest beyond `keep`.

    Args:
        run: folder of the run.
        step: steps done.
        parts: tensors of each file, by the file's name without ending.
        record: what else must be known to go on, as JSON.
        keep: number of checkpoints to leave.
    """
    folder = run / _FOLDER
    final, temporary = folder / f"{step:08d}", folder / f".{step:08d}.part"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name, tensors in parts.items():
            save_file(
                {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()},
                temporary / f"{name}.safetensors",
            )
        write_json(temporary / "state.json", {"step": step, **record})
        shutil.rmtree(final, ignore_errors=True)
        os.replace(temporary, final)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise TrainingError(f"cannot write checkpoint {final}: {error.strerror or error}") from error
    for old in list_checkpoints(run)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def list_checkpoints(run: Path) -> list[Path]:
    """Finished checkpoints of a run, oldest first; left-overs of a killed write are removed."""
    folder = run / _FOLDER
    for unfinished in folder.glob(".*.part"):
        shutil.rmtree(unfinished, ignore_errors=True)
    return sorted(path for path in folder.glob("[0-9]*") if (path / "state.json").is_file())


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict]:
    """Parts and record of a checkpoint.

    Raises:
        TrainingError: a file is missing or broken.
    """
    record = read_json(path / "state.json", "checkpoint record")
    parts = {}
    for file in sorted(path.glob("*.safetensors")):
        try:
            parts[file.stem] = load_file(file)
        except Exception as error:  # safetensors raises several kinds for a truncated or foreign file
            raise TrainingError(f"checkpoint file {file} cannot be read: {error}") from error
    return parts, record


def latest_checkpoint(run: Path) -> Path | None:
    """The newest finished checkpoint of a run, None if there is none."""
    found = list_checkpoints(run)
    return found[-1] if found else None

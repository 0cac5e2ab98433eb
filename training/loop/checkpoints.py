"""Checkpoints of a run: weights, EMA weights, optimizer state and position, written whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from runtime.writing import writing
from visual_planner.errors import plain

from ..data.sources.records import Finite, Index, Record, Text, checked
from ..errors import TrainingError, WritingError
from ..files import read_json
from .parallel import like, whole

_FOLDER = "checkpoints"
_GROUP_STATE = ("d", "d_max", "d_hat", "d_numerator", "d_denom", "d_coef_sum", "k")
"Values that Prodigy keeps next to the settings of a parameter group and changes at every step."


class _Run(Record):
    """A run's own record; see `record`."""

    kind: Text
    spec: dict | None = None
    settings: dict
    inputs: dict[Text, Text]
    changes: list = Field(default_factory=list)


class _State(Record):
    """The part of a checkpoint's state.json that is read again."""

    step: Index
    seconds: Annotated[Finite, Field(ge=0)] = 0.0
    losses: list[Finite] = Field(default_factory=list)
    optimizers: list[list[dict[Text, Finite]]] = Field(default_factory=list)
    run: _Run | None = None
    scaler: dict[Text, Finite] | None = None


def flatten_optimizers(optimizers: list) -> tuple[dict[str, torch.Tensor], list[list[dict]]]:
    """State of the optimizers beyond their settings.

    Returns:
        State tensors by "<optimizer>.<parameter number>.<key>" (nested dictionaries: "<key>.<key in it>"; plain
        numbers: "#<key>"), and for each optimizer and group the numbers that it changes as it runs.
    """
    tensors, numbers = {}, []
    for number, optimizer in enumerate(optimizers):
        for parameter, state in optimizer.state_dict()["state"].items():
            for path, value in _leaves(state):
                tensors[f"{number}.{parameter}.{path}"] = whole(torch.as_tensor(value))
        numbers.append([{key: group[key] for key in _GROUP_STATE if key in group} for group in optimizer.param_groups])
    return tensors, numbers


def _leaves(state: dict) -> Iterator[tuple[str, object]]:
    for key, value in state.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{path}", leaf) for path, leaf in _leaves(value))
        else:
            yield key if isinstance(value, torch.Tensor) else f"#{key}", value


def restore_optimizers(optimizers: list, tensors: dict[str, torch.Tensor], numbers: list[list[dict]] = ()) -> None:
    """The inverse of `flatten_optimizers`; learning rates stay those of the running configuration."""
    for number, optimizer in enumerate(optimizers):
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        state: dict[int, dict] = {}
        for name, value in tensors.items():
            owner, parameter, *parents, key = name.split(".")
            if int(owner) != number:
                continue
            place = state.setdefault(int(parameter), {})
            for parent in parents:
                place = place.setdefault(parent, {})
            plain = key.startswith("#")
            place[key.removeprefix("#")] = value.item() if plain else like(value, parameters[int(parameter)])
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        if numbers:
            for group, values in zip(optimizer.param_groups, numbers[number], strict=True):
                group.update({key: value for key, value in values.items() if key in _GROUP_STATE})


def save_checkpoint(run: Path, step: int, parts: dict[str, dict[str, torch.Tensor]], record: dict, keep: int) -> Path:
    """Write checkpoint `step` and drop the oldest beyond `keep`.

    Args:
        run: folder of the run.
        step: steps done.
        parts: tensors of each file, by the file's name without suffix.
        record: what else is needed to resume, as JSON.
        keep: number of checkpoints to keep.

    Raises:
        WritingError: the disk is full or the folder cannot be written; the older checkpoints are kept.
    """
    folder = run / _FOLDER
    final, temporary = folder / f"{step:08d}", folder / f".{step:08d}.part"
    with writing(final, WritingError, (OSError, SafetensorError), "checkpoint"):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            for name, tensors in parts.items():
                file = temporary / f"{name}.safetensors"
                save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, file)
                _to_disk(file)
            date = datetime.now(UTC).replace(microsecond=0).isoformat()
            text = json.dumps({"step": step, "date": date, **record}, indent=2) + "\n"
            (temporary / "state.json").write_text(text, encoding="utf-8")
            _to_disk(temporary / "state.json")
            _give_name(temporary, final)
            _to_disk(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    for old in list_checkpoints(run)[:-keep]:
        with writing(old, WritingError, what="the place of the old checkpoint"):
            _remove(old)
    return final


def _give_name(temporary: Path, final: Path) -> None:
    """Rename; a folder that already has the name is kept if that fails."""
    if not final.exists():
        os.replace(temporary, final)
        return
    gone = _set_aside(final)
    try:
        os.replace(temporary, final)
    except OSError:
        os.replace(gone, final)
        raise
    shutil.rmtree(gone, ignore_errors=True)


def _to_disk(path: Path) -> None:
    """Wait until a file or folder is on disk: otherwise a rename may survive a power cut that its data does not."""
    windows = os.name == "nt"
    if windows and path.is_dir():
        return  # folders cannot be opened there, and renames are journalled
    handle = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(checkpoint: Path) -> None:
    """Delete a checkpoint so that a kill half-way leaves nothing that looks like one."""
    shutil.rmtree(_set_aside(checkpoint), ignore_errors=True)


def _set_aside(checkpoint: Path) -> Path:
    gone = checkpoint.with_name(f".{checkpoint.name}.old.part")
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(checkpoint, gone)
    return gone


def clean_up(run: Path) -> None:
    """Remove what a killed process left half written in a run's folder."""
    for folder in (run, run / _FOLDER):
        for unfinished in folder.glob(".*.part"):
            if unfinished.is_dir():
                shutil.rmtree(unfinished, ignore_errors=True)
            else:
                unfinished.unlink(missing_ok=True)


def list_checkpoints(run: Path) -> list[Path]:
    """Finished checkpoints of a run, oldest first."""
    return sorted(path for path in (run / _FOLDER).glob("[0-9]*") if (path / "state.json").is_file())


def load_checkpoint(path: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict]:
    """Parts and record of a checkpoint.

    Raises:
        TrainingError: a file is missing or broken.
    """
    record = read_json(path / "state.json", "checkpoint record")
    checked(_State, record, f"checkpoint record {path / 'state.json'}")
    parts = {}
    for file in sorted(path.glob("[!.]*.safetensors")):
        try:
            parts[file.stem] = load_file(file)
        except (OSError, SafetensorError) as error:
            raise TrainingError(f"checkpoint file {file} cannot be read: {error}") from error
    absent = {"weights", "optimizer"} - parts.keys()
    if absent:
        raise TrainingError(f"checkpoint {path} lacks {', '.join(sorted(absent))}.safetensors: remove that folder")
    for name in ("weights", "averaged"):
        bad = [key for key, tensor in parts.get(name, {}).items() if not torch.isfinite(tensor).all()]
        if bad:
            raise TrainingError(
                f"checkpoint {path} has {len(bad)} {name} that are not finite (first {plain(bad[0])}): remove it"
            )
    return parts, record


def latest_checkpoint(run: Path) -> Path | None:
    """The newest finished checkpoint of a run, None if there is none."""
    found = list_checkpoints(run)
    return found[-1] if found else None

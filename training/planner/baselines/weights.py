"""Weights of a baseline on disk: one safetensors file with a record of what it is and how it was trained."""

from pathlib import Path
from typing import Annotated, TypeVar

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from torch import nn

from visual_planner.errors import brief
from visual_planner.planner.spec import PlannerSpec

from ...cache.read import encoder_digests
from ...data.pairs_folder import spec_from
from ...data.sources.records import Count, Finite, Index, Record, Text, checked
from ...errors import TrainingError
from ...files import json_object, read_json, write_tensors
from ...loop.checkpoints import latest_checkpoint

KEY = "visual_planner.baseline"
"""Key of the record in a safetensors header."""
VIDEO, CLONING = "video_baseline", "cloning_baseline"
"""The kinds of baseline, named after the commands that train them."""
Bounded = Annotated[int, Field(ge=1, le=8192)]
"""A size in a record: bounded, since a network is built from it and the file may come from anyone."""


class BaselineRecord(Record):
    """The record in every baseline's file.

    Args:
        kind: one of the kinds of baseline.
        spec: PlannerSpec of its plans: frames, cell size, prompts, noise schedule.
        encoders: SHA-256 of each weight file of the encoders that it was trained with.
        text_width: width of the text embeddings.
        pooled_width: width of the pooled text; 0: there is none.
        steps: steps of its training.
        hours: hours of its training, as `run_hours` counts them.
        parameters: number of trained values.
        held_out: figures on data that it was not trained on.
    """

    kind: Text
    spec: dict
    encoders: dict[Text, Text]
    text_width: Bounded
    pooled_width: Annotated[int, Field(ge=0, le=8192)]
    steps: Index
    hours: Annotated[Finite, Field(ge=0)]
    parameters: Count
    held_out: dict[Text, Finite]

    @property
    def planner_spec(self) -> PlannerSpec:
        """The spec as a PlannerSpec."""
        return spec_from(self.spec)

    def told(self) -> dict:
        """The training's description for a study's result."""
        return {name: getattr(self, name) for name in ("steps", "hours", "parameters", "held_out")}


class _Effort(Record):
    """The training effort in a checkpoint's state.json."""

    step: Index
    seconds: Annotated[Finite, Field(ge=0)]


Kind = TypeVar("Kind", bound=BaselineRecord)


def write_baseline(file: Path, net: nn.Module, record: BaselineRecord) -> None:
    """Write a network with its record, whole or not at all."""
    write_tensors(file, net.state_dict(), {"format": "pt", KEY: record.model_dump_json()})


def require_baseline(file: Path, kind: str) -> None:
    """Raise TrainingError if a baseline has not been trained yet."""
    if not file.is_file():
        raise TrainingError(f"{kind} {file} does not exist: train it with python -m training {kind}")


def read_baseline(file: Path, kind: str, model: type[Kind]) -> tuple[dict[str, torch.Tensor], Kind]:
    """Tensors and record of a baseline's file.

    Raises:
        TrainingError: it is missing, is not safetensors, or belongs to something else.
    """
    require_baseline(file, kind)
    try:
        with safe_open(file, "pt") as opened:
            text = (opened.metadata() or {}).get(KEY)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{kind} {file} cannot be read as safetensors: {error}") from error
    if text is None:
        raise TrainingError(f"{kind} {file} must have a record {KEY!r} in its header, got none")
    what = f"record of {kind} {file}"
    values = json_object(text, what)
    if values.get("kind") != kind:
        raise TrainingError(f"{kind} {file} must be of that kind, got {brief(values.get('kind'))}")
    return tensors, checked(model, values, what)


def filled(net: nn.Module, tensors: dict[str, torch.Tensor], file: Path) -> nn.Module:
    """The network with a file's weights, for use.

    Raises:
        TrainingError: they do not match the record.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wanted != given:
        odd = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
        raise TrainingError(f"weights {file} do not fit their record: {len(odd)} tensors differ, first {brief(odd[0])}")
    net.load_state_dict(tensors)
    return net.eval().requires_grad_(False)


def check_belongs(record: BaselineRecord, file: Path, spec: PlannerSpec, folder: Path) -> None:
    """Raise TrainingError if a baseline cannot be compared with the planner of a folder.

    Both must plan the same number of frames of the same size, and use the same encoders.
    """
    own = record.planner_spec
    for name, mine, other in (
        ("frames", own.layout.frames, spec.layout.frames),
        ("cell_height", own.cell_height, spec.cell_height),
        ("cell_width", own.cell_width, spec.cell_width),
        ("family", own.family, spec.family),
    ):
        if mine != other:
            raise TrainingError(f"{name} of {record.kind} {file} must be the planner's, {other}, got {mine}")
    digests = encoder_digests(folder, spec)
    if wrong := [name for name, digest in record.encoders.items() if digests.get(name) != digest]:
        raise TrainingError(
            f"{record.kind} {file} was trained with a {wrong[0]} that differs from that of {folder}: train it again"
        )


def effort_of_run(run: Path) -> dict:
    """Steps and hours of training of a run, from its newest checkpoint.

    Raises:
        TrainingError: it has none, or a broken one.
    """
    checkpoint = latest_checkpoint(run)
    if checkpoint is None:
        raise TrainingError(f"run {run} has no checkpoint, from which its hours of training could be read")
    what = f"checkpoint record {checkpoint / 'state.json'}"
    effort = checked(_Effort, read_json(checkpoint / "state.json", "checkpoint record"), what)
    return {"steps": effort.step, "hours": effort.seconds / 3600}

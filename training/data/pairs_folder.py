"""A folder of pairs: its format, and reading it."""

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from visual_planner.errors import brief
from visual_planner.grid.cells import cell_of, first_cell
from visual_planner.planner.spec import PlannerSpec

from ..errors import TrainingError
from ..files import read_json, read_json_lines
from .sources.records import Index, Record, Text, checked

FORMAT = "visual_planner.pairs"
MANIFEST = "manifest.json"
"""Sizes and checksums of the pictures of a folder of pairs."""
END_EFFECTOR = "end_effector"
"""Key of a pair that holds the end effector's place in each frame: x and y in fractions of the cell's sides."""
Places = list[Annotated[list[float], Field(min_length=2, max_length=2)]]


class PairsInfo(Record):
    """The part of a pairs folder's dataset.json that is read again."""

    spec: dict
    first_frames: dict[Text, Text] = Field(default_factory=dict)
    scenes: dict[Text, Text] = Field(default_factory=dict)


class _Pair(Record):
    """A line of pairs.jsonl."""

    id: Text
    episode: Text
    mode: Text
    source: Text
    target: Text
    text: Text
    split: Text
    rank: Index = 0
    start: Index = 0
    end_effector: Places | None = None


class _Manifest(Record):
    """Size [bytes] and SHA-256 of each picture."""

    files: dict[Text, Annotated[list[Index | Text], Field(min_length=2, max_length=2)]]


def read_info(folder: Path) -> PairsInfo:
    """dataset.json of a folder of pairs.

    Raises:
        TrainingError: the folder is not one of pairs.
    """
    file = folder / "dataset.json"
    info = read_json(file, "folder of pairs")
    if info.get("format") != FORMAT:
        raise TrainingError(f"{file}: format must be {FORMAT!r}, got {brief(info.get('format'))}")
    return checked(PairsInfo, info, str(file))


def read_manifest(folder: Path) -> dict[str, list]:
    """Size [bytes] and SHA-256 by picture; empty for folders that others made."""
    file = folder / MANIFEST
    return checked(_Manifest, read_json(file, "manifest"), str(file)).files if file.is_file() else {}


def read_pairs(folder: Path, episodes: int | None = None) -> tuple[PlannerSpec, list[dict]]:
    """Spec and lines of a folder of pairs.

    Args:
        folder: where it is.
        episodes: how many training episodes to keep, in the order of the nested subsets; validation stays whole.

    Raises:
        TrainingError: the folder is not one of pairs, a line lacks a key, or there are fewer episodes.
    """
    info = read_info(folder)
    file = folder / "pairs.jsonl"
    pairs = []
    for number, pair in read_json_lines(file, "pairs"):
        checked(_Pair, pair, f"pairs {file} line {number}")
        pairs.append(pair)
    if episodes is not None:
        known = {pair["episode"] for pair in pairs if "rank" in pair}
        if episodes > len(known):
            raise TrainingError(
                f"cache.episodes must be at most the {len(known)} training episodes of {folder}, got {episodes}"
            )
        pairs = [pair for pair in pairs if pair["split"] != "train" or pair.get("rank", 0) < episodes]
    return spec_from(info.spec), pairs


def condition_picture(picture: np.ndarray, spec: PlannerSpec) -> np.ndarray | None:
    """A picture (H, W, 3) as the condition that the spec asks for; None where it has another size.

    Where the condition is a cell, a whole grid is accepted too (ready grids, and folders of earlier versions), of
    which the first frame's cell is used, and the last frame's if the planner knows goals.
    """
    if picture.shape[:2] == spec.condition_size:
        return picture
    if spec.condition_is_cell and picture.shape[:2] == spec.grid_size:
        cells = [first_frame_of(picture, spec), *([goal_of(picture, spec)] if spec.has_goal else [])]
        return np.concatenate(cells, axis=1)
    return None


def first_frame_of(condition: np.ndarray, spec: PlannerSpec) -> np.ndarray:
    """First frame (h, w, 3) of a condition picture: a cell, two with a goal, or a whole grid."""
    if condition.shape[:2] != spec.grid_size:
        return np.ascontiguousarray(condition[:, : spec.cell_width])
    return np.ascontiguousarray(first_cell(torch.from_numpy(condition)[None], spec.layout)[0].numpy())


def goal_of(condition: np.ndarray, spec: PlannerSpec) -> np.ndarray:
    """Goal (h, w, 3) in the condition picture of a planner that knows goals; black where the plan has none."""
    if condition.shape[:2] != spec.grid_size:
        return np.ascontiguousarray(condition[:, spec.cell_width :])
    last = cell_of(torch.from_numpy(condition)[None], spec.layout, spec.layout.frames - 1)
    return np.ascontiguousarray(last[0].numpy())


def spec_from(record: dict) -> PlannerSpec:
    """PlannerSpec of a JSON record."""
    return PlannerSpec.from_json(json.dumps(record))

"""A folder of pairs: its format, and reading it."""

import json
from pathlib import Path

import numpy as np
import torch

from visual_planner.grid.cells import first_cell
from visual_planner.planner.spec import PlannerSpec

from ..errors import TrainingError
from ..files import read_json, read_json_lines

FORMAT = "visual_planner.pairs"
MANIFEST = "manifest.json"
"""Sizes and checksums of the pictures of a folder of pairs."""
_KEYS = ("id", "episode", "mode", "source", "target", "text", "split")


def read_pairs(folder: Path, episodes: int | None = None) -> tuple[PlannerSpec, list[dict]]:
    """Spec and lines of a folder of pairs.

    Args:
        folder: where it is.
        episodes: of training, only the first so many in the order of the nested subsets; validation stays whole.

    Raises:
        TrainingError: it is none, or a line lacks a key, or there are fewer episodes.
    """
    info = read_json(folder / "dataset.json", "folder of pairs")
    if info.get("format") != FORMAT:
        raise TrainingError(f"{folder / 'dataset.json'}: format must be {FORMAT!r}, got {info.get('format')!r}")
    pairs = []
    for number, pair in read_json_lines(folder / "pairs.jsonl", "pairs"):
        lacking = [key for key in _KEYS if not isinstance(pair.get(key), str)]
        if lacking:
            raise TrainingError(f"pairs {folder / 'pairs.jsonl'} line {number} lacks {', '.join(lacking)}")
        pairs.append(pair)
    if episodes is not None:
        known = {pair["episode"] for pair in pairs if "rank" in pair}
        if episodes > len(known):
            raise TrainingError(
                f"cache.episodes must be at most the {len(known)} training episodes of {folder}, got {episodes}"
            )
        pairs = [pair for pair in pairs if pair["split"] != "train" or pair["rank"] < episodes]
    return spec_from(info["spec"]), pairs


def condition_picture(picture: np.ndarray, spec: PlannerSpec) -> np.ndarray | None:
    """A picture (H, W, 3) as the condition that the spec asks for; None where it has another size.

    Where the condition is a cell, a whole grid is accepted too (ready grids, and folders of earlier versions), of
    which the first frame's cell counts.
    """
    if picture.shape[:2] == spec.condition_size:
        return picture
    if spec.condition_is_cell and picture.shape[:2] == spec.grid_size:
        return np.ascontiguousarray(first_cell(torch.from_numpy(picture)[None], spec.layout)[0].numpy())
    return None


def first_frame_of(condition: np.ndarray, spec: PlannerSpec) -> np.ndarray:
    """First frame (h, w, 3) of a condition picture, a cell or a whole grid."""
    if condition.shape[:2] == (spec.cell_height, spec.cell_width):
        return condition
    return np.ascontiguousarray(first_cell(torch.from_numpy(condition)[None], spec.layout)[0].numpy())


def spec_from(record: dict) -> PlannerSpec:
    """PlannerSpec of a JSON record."""
    return PlannerSpec.from_json(json.dumps(record))

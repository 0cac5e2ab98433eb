"""Find everything that is wrong with a folder of pairs before a model is loaded."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from runtime.names import is_file_name
from visual_planner.errors import brief, plain
from visual_planner.grid.cells import cell_of
from visual_planner.planner.prompts import parts_of
from visual_planner.planner.spec import PlannerSpec

from ..errors import TrainingError
from .pairs_folder import first_frame_of, goal_of, read_info, read_manifest, read_pairs
from .sources.names import inside
from .sources.pictures import picture_size, read_picture
from .splits import find_leaks


def check_pairs(data: Path) -> list[str]:
    """Problems of a folder of pairs, each with its file; an empty list if there are none.

    Looks at every line and every picture: missing or broken files, sizes, checksums, captions, modes, conditions that
    do not belong to their targets, overlays that are absent or stray, duplicate ids and pictures, and leaks between
    training and validation.

    Raises:
        TrainingError: it is not a folder of pairs at all.
    """
    spec, pairs = read_pairs(data)
    problems = [*line_problems(data, spec, pairs), *_leaks(data, pairs)]
    manifest = read_manifest(data)
    targets: dict[str, str] = {}
    for pair in tqdm(pairs, desc="pairs"):
        problems += _pair_problems(data, spec, pair, manifest, targets)
    return [plain(problem, 600) for problem in problems]  # file names come from the lines, unescaped


def line_problems(data: Path, spec: PlannerSpec, pairs: list[dict]) -> Iterator[str]:
    """Problems that the lines alone show."""
    file = data / "pairs.jsonl"
    if not pairs:
        yield f"{file} contains no pair"
    for name, count in Counter(pair["id"] for pair in pairs).items():
        if count > 1:
            yield f"{file}: id {brief(name)} occurs {count} times"
    for pair in pairs:
        if not is_file_name(pair["id"]):
            yield f"{file}: id of a pair must be a plain file name, got {brief(pair['id'])}"
        if not pair["text"].strip():
            yield f"{file}: pair {brief(pair['id'])} has an empty caption"
        if pair["mode"] not in spec.modes:
            known = ", ".join(spec.modes)
            yield f"{file}: pair {brief(pair['id'])} has mode {brief(pair['mode'])}, the spec has {known}"
        for key in ("source", "target"):
            try:
                inside(data, pair[key], f"{key} of pair {brief(pair['id'])}")
            except TrainingError as error:
                yield str(error)


def _leaks(data: Path, pairs: list[dict]) -> list[str]:
    info = read_info(data)
    return [f"{data / 'pairs.jsonl'}: {leak}" for leak in find_leaks(pairs, info.first_frames, info.scenes)]


def picture_sizes(kind: str, spec: PlannerSpec) -> tuple[tuple[int, int], ...]:
    """Sizes (H, W) that a "source" or "target" picture may have, the usual one first."""
    if kind == "target" or not spec.condition_is_cell:
        return (spec.grid_size,)
    return spec.condition_size, spec.grid_size  # a whole grid: ready grids, and folders of earlier versions


def picture_file(data: Path, name: str) -> Path | None:
    """File of a pair's picture in their folder, None for a name that `line_problems` tells of."""
    try:
        inside(data, name, "picture")
    except TrainingError:
        return None
    return data / name


def header_problems(file: Path, spec: PlannerSpec, sizes: tuple[tuple[int, int], ...]) -> list[str]:
    """Problems that a picture's header shows, without decoding it; `sizes` (H, W) are those that it may have."""
    try:
        size = picture_size(file, f"image {file}")
    except TrainingError as error:
        return [str(error)]
    return [] if size in sizes else [f"image {file} must be {sizes[0]} (height, width), got {size}"]


def _pair_problems(data: Path, spec: PlannerSpec, pair: dict, manifest: dict, targets: dict[str, str]) -> Iterator[str]:
    pictures = {}
    for key in ("source", "target"):
        file = picture_file(data, pair[key])
        if file is None:
            return
        content = file.read_bytes()
        if pair[key] in manifest and hashlib.sha256(content).hexdigest() != manifest[pair[key]][1]:
            yield f"image {file} has changed since it was prepared (checksum)"
        try:
            pictures[key] = read_picture(content, f"picture {file}")
        except TrainingError as error:
            yield str(error)
            return
        sizes = picture_sizes(key, spec)
        if pictures[key].shape[:2] not in sizes:
            yield f"image {file} must be {sizes[0]} (height, width), got {pictures[key].shape[:2]}"
            return
    yield from _content_problems(data, spec, pair, pictures["source"], pictures["target"])
    digest = hashlib.sha256(pictures["target"].tobytes()).hexdigest()
    other = targets.setdefault(digest, pair["target"])
    if other != pair["target"]:
        yield f"image {data / pair['target']} is identical to {data / other}"


def _content_problems(
    data: Path, spec: PlannerSpec, pair: dict, condition: np.ndarray, target: np.ndarray
) -> Iterator[str]:
    """Whether condition and target belong together and the overlay matches the mode."""
    if pair["mode"] not in spec.modes:
        return  # its line says so already
    file, parts = data / pair["source"], parts_of(pair["mode"])
    cell, first = first_frame_of(condition, spec), first_frame_of(target, spec)
    if condition.shape[:2] == spec.grid_size and spec.layout.frames > 1:
        rest = condition.copy()
        top, left, bottom, right = spec.layout.cell_box(0, spec.cell_height, spec.cell_width)
        rest[top:bottom, left:right] = 0
        if parts.goal:
            top, left, bottom, right = spec.layout.cell_box(spec.layout.frames - 1, spec.cell_height, spec.cell_width)
            rest[top:bottom, left:right] = 0
        # pictures made by others may have been compressed as JPEG
        if (rest > 16).mean() > 0.01:
            yield f"image {file}: all cells but the first frame's{' and the goal' * parts.goal} must be black"
    if spec.has_goal:
        yield from _goal_problems(data, spec, pair, goal_of(condition, spec), target)
    changed = np.abs(cell.astype(np.int16) - first).max(axis=2) > 48
    share = float(changed.mean())
    if not parts.path and share > 0.002:
        yield (
            f"image {file}: mode {pair['mode']} must show the first frame of {pair['target']}, but {share:.1%} of it "
            "differ"
        )
    if parts.path and not changed.any():
        yield f"image {file}: mode {pair['mode']} must show a path on the first frame, got none"
    if share > 0.5:
        yield f"image {file}: its first frame is not that of {data / pair['target']} ({share:.0%} differ)"
    height, width = spec.cell_height, spec.cell_width
    cells = target.reshape(spec.rows, height, spec.cols, width, 3).swapaxes(1, 2).reshape(-1, height, width, 3)
    if len(cells) > 1 and all(np.array_equal(part, cells[0]) for part in cells):
        yield f"image {data / pair['target']}: all its frames are identical, nothing moves"


def _goal_problems(data: Path, spec: PlannerSpec, pair: dict, goal: np.ndarray, target: np.ndarray) -> Iterator[str]:
    """Whether the goal is the last frame in modes with a goal, and black in the others."""
    file = data / pair["source"]
    last = cell_of(torch.from_numpy(target)[None], spec.layout, spec.layout.frames - 1)[0].numpy()
    share = float((np.abs(goal.astype(np.int16) - last).max(axis=2) > 48).mean())
    if not parts_of(pair["mode"]).goal:
        if (goal > 16).mean() > 0.01:
            yield f"image {file}: mode {pair['mode']} has no goal, so the goal's cell must be black"
    elif share > 0.002:
        yield f"image {file}: its goal must be the last frame of {pair['target']}, but {share:.1%} of it differ"

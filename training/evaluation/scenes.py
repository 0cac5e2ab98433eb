"""Scenes to be planned: unseen episodes, or the pairs that `prepare` kept out of training."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from visual_planner.grid.cells import slice_grid
from visual_planner.planner.prompts import parts_of
from visual_planner.planner.spec import PlannerSpec

from ..data.episodes import Episode, EpisodeSet
from ..data.overlays import shown_picture
from ..data.overlays.recorded import episode_trajectory
from ..data.pairs_folder import FORMAT as PAIRS_FORMAT
from ..data.pairs_folder import first_frame_of, goal_of, read_pairs
from ..data.sources.names import inside
from ..data.sources.pictures import read_picture
from ..errors import TrainingError
from ..files import read_json


@dataclass(frozen=True)
class Scene:
    """One scene: what really happened there, and the planner's input for it.

    Args:
        id: name, unique in its data set.
        truth: (F, h, w, 3) uint8.
        asked: picture for the planner (h, w, 3) or (h, 2w, 3) uint8 (see `shown_picture`) and prompt, by mode.
        record: the simulator's record; None if there are only pictures.
    """

    id: str
    truth: np.ndarray
    asked: dict[str, tuple[np.ndarray, str]]
    record: dict | None = None


def open_scenes(source: Path, count: int, spec: PlannerSpec) -> list[Callable[[], Scene]]:
    """Functions that read the scenes, in order.

    Args:
        source: folder of an episode data set, or of pairs (their validation split).
        count: how many scenes at most.
        spec: layout, cell size, overlay and prompts.

    Raises:
        TrainingError: the folder is neither, or holds no scene; on reading: frames differ in size from the spec's
            cells.
    """
    source = Path(source)
    if read_json(source / "dataset.json", "data set").get("format") == PAIRS_FORMAT:
        of_pairs = _groups(source, spec)
        return [
            lambda group=group: _checked(_scene_of_pairs(source, group, spec), source, spec)
            for group in of_pairs[:count]
        ]
    episodes = EpisodeSet.open(source).episodes[:count]
    return [lambda episode=episode: _checked(scene_of_episode(episode, spec), source, spec) for episode in episodes]


def _checked(scene: Scene, source: Path, spec: PlannerSpec) -> Scene:
    expected = (spec.layout.frames, spec.cell_height, spec.cell_width, 3)
    if scene.truth.shape != expected:
        raise TrainingError(
            f"scene {scene.id} of {source} must have the shape that the spec requires, "
            f"{expected}, got {scene.truth.shape}"
        )
    return scene


def scene_of_episode(episode: Episode, spec: PlannerSpec) -> Scene:
    """Scene of a simulated episode."""
    truth = episode.load_frames()
    asked = {}
    record = episode.record
    path = episode_trajectory(np.array(record["path_px"], float), truth.shape[1:3]) if spec.has_path else None
    for mode in spec.modes:
        picture = shown_picture(mode, truth[0], path, truth[-1], spec)
        asked[mode] = picture, spec.prompt(mode, record["instruction"])
    return Scene(episode.id, truth, asked, record)


def _groups(source: Path, spec: PlannerSpec) -> list[list[dict]]:
    """Unseen pairs by episode and start."""
    made_for, lines = read_pairs(source)
    if (made_for.grid_size, made_for.layout) != (spec.grid_size, spec.layout):
        raise TrainingError(
            f"pairs {source} must be grids of the LoRA's size {spec.grid_size}, got {made_for.grid_size}"
        )
    groups: dict[tuple[str, str], list[dict]] = {}
    for line in lines:
        if line["split"] == "validation":
            groups.setdefault((line["episode"], line["target"]), []).append(line)
    if not groups:
        raise TrainingError(f"pairs {source} hold out no episode: set prepare.validation_episodes")
    return list(groups.values())


def _scene_of_pairs(source: Path, group: list[dict], spec: PlannerSpec) -> Scene:
    def picture(name: str) -> np.ndarray:
        return read_picture(inside(source, name, f"picture of {source}"), f"picture {source / name}")

    grid = torch.from_numpy(picture(group[0]["target"]))[None]
    asked = {}
    for pair in group:
        given = picture(pair["source"])
        cells = [first_frame_of(given, spec), *([goal_of(given, spec)] if parts_of(pair["mode"]).goal else [])]
        asked[pair["mode"]] = np.concatenate(cells, axis=1), pair["text"]
    name, start = group[0]["episode"], group[0].get("start")
    return Scene(name if start is None else f"{name}+{start}", slice_grid(grid, spec.layout).numpy(), asked)

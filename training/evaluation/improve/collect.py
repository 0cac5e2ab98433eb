"""Execute plans of fresh scenes; write successful ones, and demonstrations where none succeeded, as data sets."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from visual_planner.execution.keyframes import keyframes
from visual_planner.execution.readout import ReadoutNet
from worlds.errors import UnreachableError
from worlds.protocol import World

from ...files import new_folder, write_json
from ...model.pipeline import PlannerPipeline
from ..closed_loop.planning import make_plans
from ..closed_loop.requests import Asked
from ..closed_loop.trial import carry_out, read_plan

EXECUTED, FAILED = "executed", "failed"
"""Names of the data sets: plans that succeeded, as executed; demonstrations of requests for which no plan did."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of one request.

    Args:
        asked: the request.
        mode: mode of its plans.
        plans: how many were executed.
        frames: pictures (F, h, w, 3) uint8 of the attempt that succeeded; None: none did.
        keyframes: actual end effector places [m] and planned gripper states (F, 4); None as `frames`.
    """

    asked: Asked
    mode: str
    plans: int
    frames: np.ndarray | None = None
    keyframes: np.ndarray | None = None


def try_plans(
    planner: PlannerPipeline,
    asked: list[Asked],
    mode: str,
    world: World,
    net: ReadoutNet,
    plans: int,
    batch_size: int = 16,
) -> list[Outcome]:
    """Plan each request until a plan succeeds, at most `plans` times; each further plan has the next seed.

    Args:
        planner: the planner with its LoRA.
        asked: the requests.
        mode: text, trajectory or both.
        world: world in which they are executed.
        net: the read-out.
        plans: most plans per request, at least 1.
        batch_size: plans that are sampled at once.
    """
    outcomes: list[Outcome] = [Outcome(item, mode, 0) for item in asked]
    for number in range(plans):
        waiting = [place for place, outcome in enumerate(outcomes) if outcome.frames is None]
        if not waiting:
            break
        now = [replace(asked[place], seed=asked[place].seed + number) for place in waiting]
        made = make_plans(planner, now, mode, batch_size=batch_size)
        for place, group in zip(waiting, made, strict=True):
            keys = keyframes(read_plan(group[0], asked[place], net))
            outcomes[place] = _executed(keys, asked[place], mode, number + 1, world)
    return outcomes


def _executed(keys: np.ndarray, asked: Asked, mode: str, plans: int, world: World) -> Outcome:
    rollout = world.start(asked.request, len(keys), asked.spacing)
    try:
        done = rollout.carry_out(keys)
    except UnreachableError:
        return Outcome(asked, mode, plans)
    if not rollout.success:
        return Outcome(asked, mode, plans)
    return Outcome(asked, mode, plans, done.frames, np.column_stack([done.tool_m, keys[:, 3]]))


def write_outcomes(folder: Path, outcomes: list[Outcome], world: World, demonstrate: bool) -> dict[str, int]:
    """Write the data sets of outcomes, each in a folder of its name; one without an episode is not written.

    Args:
        folder: where the folders `EXECUTED` and `FAILED` are made.
        outcomes: outcomes of all requests.
        world: the world in which they were executed.
        demonstrate: also write the world's own demonstrations where no plan succeeded.

    Returns:
        Number of episodes of each data set.
    """
    done = [
        (outcome.asked, outcome.frames, outcome.keyframes, _seen_path(outcome.keyframes, outcome.asked), outcome.mode)
        for outcome in outcomes
        if outcome.frames is not None
    ]
    failed = [
        (item, item.truth, item.keyframes, _drawn_path(item), outcome.mode)
        for outcome in outcomes
        if demonstrate and outcome.frames is None and carry_out((item := outcome.asked).keyframes, item, world)
    ]
    for name, episodes in ((EXECUTED, done), (FAILED, failed)):
        if episodes and not (folder / name).exists():
            _write(folder / name, episodes, world)
    return {EXECUTED: len(done), FAILED: len(failed)}


def _seen_path(keys: np.ndarray, asked: Asked) -> list[list[float]]:
    """Where the end effector was seen (x, y [px] and time) at keyframes (F, 4)."""
    height, width = asked.first.shape[:2]
    places = np.clip(asked.view.see(keys[:, :3])[:, :2], 0, 1 - 1e-6) * (width, height)
    return np.column_stack([places.round(2), np.linspace(0.0, 1.0, len(keys)).round(5)]).tolist()


def _drawn_path(asked: Asked) -> list[list[float]]:
    return [[point.x, point.y, point.t] for point in asked.trajectory.paths[0].points]


def _write(folder: Path, episodes: list[tuple], world: World) -> None:
    """Write an episode data set in the form that `prepare` reads."""
    with new_folder(folder) as part:
        (part / "frames").mkdir()
        with (part / "episodes.jsonl").open("w", encoding="utf-8") as file:
            for number, episode in enumerate(tqdm(episodes, desc=folder.name, leave=False, disable=None)):
                file.write(json.dumps(_save(part / "frames", f"{number:06d}", *episode)) + "\n")
        asked, frames = episodes[0][:2]
        info = {
            "format": "visual_planner.episodes", "version": 1, "world": world.name, "kind": "demonstrations",
            "keyframes": asked.spacing or world.keyframes, "frames": len(frames),
            "height": world.size, "width": world.size, "episodes": len(episodes),
        }  # fmt: skip
        write_json(part / "dataset.json", info)


def _save(folder: Path, name: str, asked: Asked, frames: np.ndarray, keys: np.ndarray, path: list, mode: str) -> dict:
    """Write an episode's strip of frames; returns its record."""
    Image.fromarray(np.concatenate(list(frames), axis=1)).save(folder / f"{name}.png")
    return {
        "id": name, "seed": asked.request.seed, "task": asked.task, "mode": mode, "camera": asked.request.camera,
        "instruction": asked.instruction, "caption": asked.request.caption, "path_px": path, "success": True,
        "end_effector_m": keys[:, :3].round(4).tolist(), "gripper": keys[:, 3].round(3).tolist(),
    }  # fmt: skip


def in_turn(runs: list[tuple[int, str, str]], modes: tuple[str, ...]) -> Iterator[tuple[tuple[int, str, str], str]]:
    """Each run (seed, task, camera) with a mode; every task and camera gets the modes in turn."""
    seen: dict[tuple[str, str], int] = {}
    for run in runs:
        number = seen.get(run[1:], 0)
        seen[run[1:]] = number + 1
        yield run, modes[number % len(modes)]

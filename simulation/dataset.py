"""Write a data set of episodes with several processes: all of it or nothing.

Everything is written into a hidden folder beside the target and renamed at the end, so an interrupted run leaves
nothing. An episode depends only on the seed and its number, never on the processes.
"""

from __future__ import annotations

import json
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from .camera import FRONT, MAX_JITTER_M, MAX_TURN_DEG
from .engine import mujoco
from .episode import Episode, demonstrate
from .errors import SimulationError
from .files import new_folder
from .model import CONTROL_HZ
from .motion import FRAMES
from .play import play
from .scene import rng_for
from .shared import RULES, brief
from .tasks import TASKS
from .toolpath import PLAN_STEPS
from .wordings import WORDING_SETS
from .workers import in_processes
from .world import World

FORMAT = "visual_planner.episodes"
VERSION = 1
POLICIES = {"demonstration": "demonstrations", "play": "play"}
MAX_ATTEMPTS = 25
MAX_FRAMES = 64
LATEST = 0.75
"Largest fraction of the motion that is over when an episode begins in the middle of its task."


@dataclass(frozen=True)
class DatasetOptions:
    """What to write.

    Attributes:
        episodes: how many episodes.
        seed: the data set's seed.
        size: height and width of a frame [px].
        policy: "demonstration" or "play".
        tasks: tasks to draw from (demonstrations).
        wordings: "train", "held_out" or "all" (demonstrations).
        camera_jitter_m: spread of the camera's position [m].
        camera_turn_deg: angle by which the camera is moved around the table before the jitter [degrees].
        frames: pictures of an episode, evenly in time (demonstrations).
        later_share: fraction of the episodes that begin in the middle of the task (demonstrations).
        keyframes: "time": evenly spaced; "shape": where the tool's path bends (demonstrations).
    """

    episodes: int
    seed: int = 0
    size: int = 64
    policy: str = "demonstration"
    tasks: tuple[str, ...] = TASKS
    wordings: str = "train"
    camera_jitter_m: float = 0.0
    camera_turn_deg: float = 0.0
    frames: int = FRAMES
    later_share: float = 0.0
    keyframes: str = "time"

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise SimulationError(f"episodes must be at least 1, got {self.episodes}")
        if self.seed < 0:
            raise SimulationError(f"seed must not be negative, got {self.seed}")
        if not 16 <= self.size <= 512:
            raise SimulationError(f"size must be 16 to 512 px, got {self.size}")
        if self.policy not in POLICIES:
            raise SimulationError(f"policy must be one of {', '.join(POLICIES)}, got {brief(self.policy)}")
        if not self.tasks or set(self.tasks) - set(TASKS):
            raise SimulationError(f"tasks must be some of {', '.join(TASKS)}, got {brief(','.join(self.tasks))}")
        if self.wordings not in WORDING_SETS:
            raise SimulationError(f"`wordings` must be one of {', '.join(WORDING_SETS)}, got {brief(self.wordings)}")
        if not 0 <= self.camera_jitter_m <= MAX_JITTER_M:
            raise SimulationError(f"camera_jitter must be 0 to {MAX_JITTER_M} m, got {self.camera_jitter_m}")
        if not abs(self.camera_turn_deg) <= MAX_TURN_DEG:
            raise SimulationError(
                f"camera_turn must be -{MAX_TURN_DEG} to {MAX_TURN_DEG} degrees, got {self.camera_turn_deg}"
            )
        if not 2 <= self.frames <= MAX_FRAMES:
            raise SimulationError(f"frames must be 2 to {MAX_FRAMES}, got {self.frames}")
        if self.keyframes not in RULES:
            raise SimulationError(f"keyframes must be {' or '.join(RULES)}, got {brief(self.keyframes)}")
        if self.policy == "play" and self.keyframes != "time":
            raise SimulationError(f"keyframes must be time for play, got {self.keyframes}")
        if not 0 <= self.later_share <= 1:
            raise SimulationError(f"later_share must be 0 to 1, got {self.later_share}")
        if self.policy == "play" and self.later_share:
            raise SimulationError(
                f"later_share must be 0 for play, which has no task to start in the middle of, got {self.later_share}"
            )
        if self.policy == "play" and self.frames != FRAMES:
            raise SimulationError(
                f"frames must be {FRAMES} for play, got {self.frames}: only demonstrations may have others"
            )


def episode_seed(seed: int, number: int, attempt: int = 0) -> int:
    """Return the seed (48 bits, exact in JSON) of the episode ``number`` of a data set."""
    high, low = np.random.SeedSequence([seed, number, attempt]).generate_state(2)
    return (int(high) & 0xFFFF) << 32 | int(low)


def make_episode(world: World, options: DatasetOptions, number: int) -> tuple[Episode, list[str]]:
    """Make the episode ``number``; a demonstration that fails is tried again with another seed.

    Returns:
        The episode, and the tasks of the attempts that failed before it.
    """
    failed: list[str] = []
    camera = FRONT.turned(options.camera_turn_deg)
    for attempt in range(MAX_ATTEMPTS):
        seed = episode_seed(options.seed, number, attempt)
        if options.policy == "play":
            return play(world, seed, options.camera_jitter_m, camera), failed
        episode = demonstrate(
            world, seed, options.tasks, options.wordings, options.camera_jitter_m, options.frames,
            draw_beginning(seed, options.later_share), camera, options.keyframes,
        )  # fmt: skip
        if episode.success:
            return episode, failed
        failed.append(episode.task.name)
    raise SimulationError(f"episode {number} failed {MAX_ATTEMPTS} times ({', '.join(failed[:4])}, ...)")


def draw_beginning(seed: int, later_share: float) -> float:
    """Draw the fraction of the motion that is over at an episode's first frame: 0, or anything up to `LATEST`."""
    later, begins = rng_for(seed, "beginning").uniform(size=2)
    return LATEST * begins if later < later_share else 0.0


_worker: dict = {}


def _start_worker(options: DatasetOptions, folder: Path) -> None:
    _worker.update(world=World(options.size), options=options, folder=folder)


def _work(number: int) -> tuple[dict, list[str]]:
    episode, failed = make_episode(_worker["world"], _worker["options"], number)
    name = f"{number:06d}"
    Image.fromarray(episode.strip()).save(_worker["folder"] / "frames" / f"{name}.png")
    return episode.record(name), failed


def _records(options: DatasetOptions, folder: Path, processes: int):
    """Yield the records in order of their number."""
    if processes == 1:
        with World(options.size) as world:
            _worker.update(world=world, options=options, folder=folder)
            yield from map(_work, range(options.episodes))
        return
    try:
        yield from in_processes(
            _work, range(options.episodes), processes, _start_worker, (options, folder), chunksize=4
        )
    except BrokenProcessPool as error:
        raise SimulationError("a worker process of the data set writer died (killed, or out of memory)") from error


def write_dataset(folder, options: DatasetOptions, processes: int = 1, progress: bool = True) -> dict:
    """Write a data set and return its ``dataset.json``.

    Args:
        folder: the new data set's folder; it must not exist, or be empty.
        options: what to write.
        processes: number of worker processes.
        progress: show a progress bar.

    Raises:
        SimulationError: bad options, a folder that is in the way or cannot be written, no OpenGL.
    """
    folder = Path(folder)
    if processes < 1:
        raise SimulationError(f"processes must be at least 1, got {processes}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SimulationError(f"{folder} exists already; choose a new folder, or delete it first")
    World(options.size).close()  # if there is no OpenGL, fail here once and not in every process
    with new_folder(folder) as part:
        (part / "frames").mkdir()
        return _write(part, options, processes, progress)


def _write(part: Path, options: DatasetOptions, processes: int, progress: bool) -> dict:
    failures = dict.fromkeys(TASKS, 0)
    tasks = dict.fromkeys(TASKS, 0)
    records = _records(options, part, processes)
    with (part / "episodes.jsonl").open("w", encoding="utf-8") as file:
        for record, failed in tqdm(records, total=options.episodes, unit="episode", disable=not progress):
            file.write(json.dumps(record) + "\n")
            for task in failed:
                failures[task] += 1
            if record["task"]:
                tasks[record["task"]] += 1
    summary = {
        "format": FORMAT,
        "version": VERSION,
        "height": options.size,
        "width": options.size,
        "seconds_per_frame": PLAN_STEPS / CONTROL_HZ / (options.frames - 1) if options.keyframes == "time" else None,
        "kind": POLICIES[options.policy],
        **asdict(options),
        "episodes_of_task": tasks,
        "failures_of_task": failures,
        "mujoco": mujoco.__version__,
    }
    (part / "dataset.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary

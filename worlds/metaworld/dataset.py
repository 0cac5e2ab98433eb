"""Write a data set of Meta-World episodes in the format of `simulation`: all of it or nothing.

An episode is one run seen by one camera: nine frames chosen by the shape of the hand's path, their states, the path in
pixels. It depends only on the seed and its number, never on the processes that made it.
"""

import atexit
import json
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from runtime.writing import new_folder
from simulation.workers import in_processes

from ..errors import WorldError
from .camera import CAMERAS, Pictures, project
from .engine import load
from .motion import Motion, demonstrate, play, recover, show
from .scene import EVALUATION_SEEDS, Scenes
from .tasks import TASKS, caption, instruction

FORMAT, VERSION = "visual_planner.episodes", 1
POLICIES = ("demonstration", "play", "recovery")
"""The script; random motion of the arm; the script, from where a wrong plan has failed."""
PATH_POINTS = 33
LATEST = 0.75
"""Largest fraction of a motion that is over when an episode begins in the middle of its task."""
MAX_ATTEMPTS, MAX_RECOVERIES = 25, 100
"""Number of scenes that are tried for a run. After a wrong plan the script often has nothing left to grasp; a run
without any recovery is left out.
"""


@dataclass(frozen=True)
class Options:
    """Contents of a data set.

    Attributes:
        runs: runs of each task; every run is seen by every camera.
        seed: number of the first run's seed; the runs of a task have the seeds that follow.
        policy: one of `POLICIES`.
        tasks: which tasks.
        cameras: which cameras.
        frames: frames of an episode.
        size: side of a frame [px].
        later_starts: episodes per run and camera that begin at a random later moment, besides the one from the start.
        phrasings: draw each instruction's wording, or use the benchmark's sentence.
        shadows: AVDC's look.

    Raises:
        WorldError: an impossible value, or training seeds among those reserved for evaluation.
    """

    runs: int
    seed: int
    policy: str = "demonstration"
    tasks: tuple[str, ...] = TASKS
    cameras: tuple[str, ...] = CAMERAS
    frames: int = 9
    size: int = 64
    later_starts: int = 0
    phrasings: bool = True
    shadows: bool = False

    def __post_init__(self) -> None:
        if self.runs < 1 or self.frames < 2 or self.later_starts < 0:
            raise WorldError("runs must be 1 or more, frames 2 or more, later_starts 0 or more")
        if self.policy not in POLICIES:
            raise WorldError(f"policy must be one of {', '.join(POLICIES)}, got {self.policy!r}")
        for name, known in (("tasks", TASKS), ("cameras", CAMERAS)):
            if not getattr(self, name) or not set(getattr(self, name)) <= set(known):
                raise WorldError(f"{name} must be some of {', '.join(known)}, got {', '.join(getattr(self, name))}")

    @property
    def for_evaluation(self) -> bool:
        """Whether its scenes are among those that nothing is trained on."""
        return self.seed in EVALUATION_SEEDS


def write_dataset(folder: str | Path, options: Options, processes: int = 1, progress: bool = True) -> dict:
    """Write a data set and return its `dataset.json`.

    Args:
        folder: the new folder; it must not exist, or be empty.
        options: what to write.
        processes: number of worker processes.
        progress: show a progress bar.

    Raises:
        WorldError: the folder is in the way or cannot be written, or a process died.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise WorldError(f"{folder} exists already; choose a new folder, or delete it first")
    with new_folder(folder, WorldError) as part:
        (part / "frames").mkdir()
        return _write(part, options, processes, progress)


def _write(part: Path, options: Options, processes: int, progress: bool) -> dict:
    jobs = [(task, number) for number in range(options.runs) for task in options.tasks]
    counts, failed = dict.fromkeys(options.tasks, 0), dict.fromkeys(options.tasks, 0)
    with (part / "episodes.jsonl").open("w", encoding="utf-8") as file:
        for task, failures, records in tqdm(
            _each(jobs, options, part, processes), total=len(jobs), unit="run", disable=not progress
        ):
            failed[task] += failures
            counts[task] += len(records)
            file.writelines(json.dumps(record) + "\n" for record in records)
    if without := [task for task, count in counts.items() if not count]:
        raise WorldError(f"no {options.policy} of {', '.join(without)} succeeded from seed {options.seed} on")
    summary = {
        "format": FORMAT,
        "version": VERSION,
        "world": "metaworld",
        "height": options.size,
        "width": options.size,
        "kind": "play" if options.policy == "play" else "demonstrations",
        "keyframes": "time" if options.policy == "play" else "shape",
        **asdict(options),
        "episodes": sum(counts.values()),
        "episodes_of_task": counts,
        "failures_of_task": failed,
        "mujoco": load().mujoco.__version__,
    }
    (part / "dataset.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


_worker: dict = {}


def _start(options: Options, part: Path) -> None:
    _worker.update(scenes=Scenes(), options=options, part=part, pictures={})


def _end() -> None:
    for pictures in _worker.pop("pictures", {}).values():
        pictures.close()
    _worker.clear()


def _each(jobs: list, options: Options, part: Path, processes: int) -> Iterator[tuple]:
    if processes == 1:
        _start(options, part)
        try:
            yield from map(_work, jobs)
        finally:
            _end()
        return
    try:
        yield from in_processes(_work, jobs, processes, _start, (options, part), chunksize=2)
    except BrokenProcessPool as error:
        raise WorldError("a process of the data set writer died (killed, or out of memory)") from error


def _work(job: tuple[str, int]) -> tuple[str, int, list[dict]]:
    """Make one run's episodes and write their strips; returns task, failed attempts and records."""
    task, number = job
    scenes, options, part = _worker["scenes"], _worker["options"], _worker["part"]
    recovery = options.policy == "recovery"
    attempts = MAX_RECOVERIES if recovery else MAX_ATTEMPTS
    for attempt in range(attempts):
        # A scene that the script cannot solve is replaced by one whose seed no other run has.
        seed = options.seed + number + attempt * options.runs
        rng = np.random.default_rng((seed, TASKS.index(task)))
        if options.policy == "play":
            motion = play(scenes, task, seed, rng)
            break
        motion = recover(scenes, task, seed, rng) if recovery else demonstrate(scenes, task, seed)
        if motion is not None and motion.success is not None:
            break
    else:
        if recovery:
            return task, attempts, []
        raise WorldError(f"no demonstration of {task} succeeded in {attempts} scenes from seed {options.seed}")
    env, _ = scenes.reset(task, seed)
    if task not in _worker["pictures"]:
        _worker["pictures"][task] = Pictures(env, options.size, options.shadows)
        if len(_worker["pictures"]) == 1:
            # In a worker process. Since its first renderer was made, MuJoCo ends EGL at exit; what is registered later
            # runs earlier, and closing a renderer after EGL's end prints a page of errors.
            atexit.register(_end)
    pictures, records = _worker["pictures"][task], []
    for camera in options.cameras:
        last = len(motion) - 1
        starts = [0, *(int(rng.integers(1, max(2, int(LATEST * last)))) for _ in range(options.later_starts))]
        for begins in starts:
            if options.policy == "play":
                chosen = np.linspace(begins, last, options.frames).round().astype(int)
            else:
                chosen = motion.choose(options.frames, begins)
            name = f"{task}_{seed}_{camera}" + "_recovery" * recovery + (f"_from{begins}" if begins else "")
            words = "" if options.policy == "play" else instruction(task, rng if options.phrasings else None)
            strip, record = _episode(env, pictures, motion, chosen, camera)
            Image.fromarray(strip).save(part / "frames" / f"{name}.png", compress_level=1)
            records.append(
                {"id": name, "seed": seed, "task": task, "instruction": words, "caption": caption(task), **record}
            )
    return task, attempt, records


def _episode(env, pictures: Pictures, motion: Motion, chosen: np.ndarray, camera: str) -> tuple[np.ndarray, dict]:
    """Strip (H, F W, 3) of the chosen moments, and their record."""
    frames = []
    for number in chosen:
        show(env, motion.states[number])
        frames.append(pictures.take(camera))
    view = pictures.view(camera)
    dense = np.linspace(chosen[0], chosen[-1], PATH_POINTS)
    moments = np.arange(len(motion))
    path = np.stack([np.interp(dense, moments, column) for column in motion.hand_m.T], axis=1)
    numbers, cells = np.unique(chosen, return_index=True)
    times = np.interp(dense, numbers, cells / (len(chosen) - 1))  # in the plan's time
    pixels = project(view, path, pictures.size)
    record = {
        "end_effector_px": project(view, motion.hand_m[chosen], pictures.size).round(2).tolist(),
        "end_effector_m": motion.hand_m[chosen].round(4).tolist(),
        "gripper": motion.closed(chosen).astype(float).tolist(),
        "path_px": np.column_stack([pixels.round(2), times.round(5)]).tolist(),
        "camera": camera,
        "view": view,
        "moments": chosen.tolist(),
        "begins": round(float(chosen[0] / max(len(motion) - 1, 1)), 4),
        "success": motion.success is not None,
    }
    return np.concatenate(frames, axis=1), record

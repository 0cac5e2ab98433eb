"""One episode -> its condition grids, target grid and prompts, and the pictures of them on disk."""

import hashlib
import io
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from simulation.workers import in_processes
from visual_planner.errors import PlannerError, brief
from visual_planner.grid.cells import assemble_grid, first_cell
from visual_planner.grid.frame import fit_frame, to_bytes
from visual_planner.planner.condition_picture import condition_picture
from visual_planner.planner.prompts import SLOT, check_template, parts_of, text_templates
from visual_planner.planner.spec import PlannerSpec
from visual_planner.text import text_lines
from visual_planner.trajectory.trajectory import Trajectory

from ..errors import TrainingError
from ..files import file_name, read_text
from ..sections.data import PrepareSection
from .choice.episode import Choice, is_timed, later_starts, rest_of
from .overlays import OverlayMaker, with_path
from .pairs_folder import END_EFFECTOR
from .sources import Entry, Source


@dataclass(frozen=True)
class Job:
    """Everything needed to make the pairs of any episode, in any process.

    Args:
        source: the episodes.
        spec: the planner.
        section: the settings.
        overlay: source of the paths; None if there are none.
        templates: sentences of text mode to choose from; empty: the spec's own.
        folder: where pictures are written.
    """

    source: Source
    spec: PlannerSpec
    section: PrepareSection
    overlay: OverlayMaker | None
    templates: tuple[str, ...]
    folder: Path


def make_pair(
    frames: np.ndarray, trajectory: Trajectory | None, spec: PlannerSpec, goal: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Condition and target grid, (H, W, 3) uint8; the condition is a cell where the spec says so, else a whole grid.

    Args:
        frames: (F, h, w, 3) uint8 of the cell's size.
        trajectory: path to draw on the first frame; None leaves it clean.
        spec: the planner.
        goal: whether the last frame is shown to the planner, too.

    Raises:
        TrainingError: the frames have another size or number than the spec's cells.
    """
    expected = (spec.layout.frames, spec.cell_height, spec.cell_width, 3)
    if frames.shape != expected:
        raise TrainingError(f"frames must have the shape that the spec requires, {expected}, got {frames.shape}")
    first = torch.from_numpy(with_path(frames[0], trajectory, spec))[None]
    condition = condition_picture(first, torch.from_numpy(frames[-1:]) if goal else None, spec)[0].numpy()
    return condition, assemble_grid(torch.from_numpy(frames), spec.layout)[0].numpy()


def load_templates(name: str, spec: PlannerSpec) -> tuple[str, ...]:
    """Sentences of text mode for `prepare.prompts`: none for the spec's own, many, or those of a file, one per line.

    Raises:
        TrainingError: the file is missing or a line lacks its slot.
    """
    if name == "spec":
        return ()
    if name == "varied":
        return text_templates(spec.layout)
    file = Path(name)
    if not file.is_file():
        raise TrainingError(
            f"prepare.prompts must be spec, varied or a file of sentences with {SLOT}, got {brief(name)}"
        )
    lines = [line.strip() for line in text_lines(read_text(file, "prompt templates")) if line.strip()]
    return tuple(check_template(line, f"prompt template {file} line {n}") for n, line in enumerate(lines, 1))


def process(job: Job, entry: Entry) -> dict:
    """Make one episode's pairs and write their pictures.

    Returns:
        Its record: {"id", "pairs", "files", "statistics"}, or {"id", "problem"} or {"id", "dropped"} with a reason.

    Raises:
        OSError: the pictures cannot be written.
    """
    if entry.problem:
        return {"id": entry.id, "problem": entry.problem}
    try:
        if job.source.ready_grids:
            pictures, pairs, statistics = _ready(job, entry)
        elif entry.length < job.spec.layout.frames and job.section.short != "repeat":
            text = f"has {entry.length} frames, the grid has {job.spec.layout.frames} cells"
            if job.section.short == "drop":
                return {"id": entry.id, "dropped": text}
            raise TrainingError(f"episode {entry.id} ({entry.file}) {text} (set prepare.short to drop or repeat)")
        else:
            pictures, pairs, statistics = _from_frames(job, entry)
    except PlannerError as error:
        return {"id": entry.id, "problem": str(error)}
    files = {name: _write_picture(job.folder, name, picture) for name, picture in pictures.items()}
    return {"id": entry.id, "pairs": pairs, "files": files, "statistics": statistics}


def _from_frames(job: Job, entry: Entry) -> tuple[dict[str, np.ndarray], list[dict], dict]:
    choice = Choice(job.source, entry, job.section, job.spec.layout.frames)
    chosen = choice.frames()
    raw = job.source.frames(entry, chosen.tolist())
    frames = fit_cells(raw, job.spec)
    trajectory = _on_cell(job, _drawn(job, entry, chosen, raw.shape[1:3]))
    pictures, pairs = _grids(job, entry, frames, trajectory)
    later = 0
    for start in later_starts(job.section, entry, *choice.span(), job.spec.layout.frames):
        made = _later(job, entry, choice, start, chosen)
        if made is not None:
            pictures |= made[0]
            pairs += made[1]
            later += 1
    change = float(np.abs(frames[1:].astype(np.int16) - frames[0]).mean()) if len(frames) > 1 else 0.0
    statistics = {
        "length": entry.length,
        "later_starts": later,
        "size": list(raw.shape[1:3]),
        "frames": chosen.tolist(),
        "motion": round(change, 4),
        "first": _digest(frames[0].tobytes()),
        "shown": [_digest(frame.tobytes()) for frame in frames[1:] if frame.any() and np.ptp(frame)],
        "target": _digest(frames.tobytes()),
        "instruction": entry.instruction,
    }
    return pictures, pairs, statistics


def _later(
    job: Job, entry: Entry, choice: Choice, start: int, whole: np.ndarray
) -> tuple[dict[str, np.ndarray], list[dict]] | None:
    """Pictures and lines of the rest of an episode from a later frame on; None where nothing moves there.

    Modes with a path are left out if the path has no times, since the part that is still ahead is then unknown.
    """
    chosen = choice.frames(start)
    raw = job.source.frames(entry, chosen.tolist())
    frames = fit_cells(raw, job.spec)
    if (frames == frames[0]).all():
        return None
    drawn = _drawn(job, entry, chosen, raw.shape[1:3])
    if drawn is not None and job.overlay.of_whole:
        drawn = rest_of(drawn, whole, chosen, choice.clock)
    trajectory = _on_cell(job, drawn) if drawn is not None and is_timed(drawn) else None
    return _grids(job, entry, frames, trajectory, start)


def _grids(
    job: Job, entry: Entry, frames: np.ndarray, trajectory: Trajectory | None, start: int | None = None
) -> tuple[dict[str, np.ndarray], list[dict]]:
    """Pictures by name and lines, one per mode; without a trajectory only modes that need none.

    Args:
        job: the job.
        entry: the episode.
        frames: (F, h, w, 3) uint8 of the cell's size.
        trajectory: the path on the first of them.
        start: number of that frame, where it is not the episode's own start.
    """
    name = entry.id if start is None else f"{entry.id}+{start}"
    pictures, pairs, known = {}, [], _end_effector(trajectory, job.spec)
    for mode in job.spec.modes:
        parts = parts_of(mode)
        if parts.path and trajectory is None:
            continue
        prompt = _prompt(job, mode, entry)
        condition, target = make_pair(frames, trajectory if parts.path else None, job.spec, parts.goal)
        source = f"conditions/{name}_{'overlay' if parts.path else 'clean'}{'_goal' if parts.goal else ''}.png"
        pictures.setdefault(source, condition)
        pictures.setdefault(f"targets/{name}.png", target)
        line = _line(entry, mode, source, f"targets/{name}.png", prompt) | known
        pairs.append(line if start is None else {**line, "id": f"{name}_{mode}", "start": start})
    return pictures, pairs


def _end_effector(trajectory: Trajectory | None, spec: PlannerSpec) -> dict:
    """Where the end effector is in each frame, in fractions of the cell's sides; empty if unknown."""
    if trajectory is None or not is_timed(trajectory):
        return {}
    places = trajectory.resample(spec.layout.frames)[:, 0] / (spec.cell_width, spec.cell_height)
    return {END_EFFECTOR: places.round(4).tolist()}


def _ready(job: Job, entry: Entry) -> tuple[dict[str, np.ndarray], list[dict], dict]:
    spec = job.spec
    mode = entry.record.get("mode") or (spec.modes[0] if len(spec.modes) == 1 else None)
    if mode not in spec.modes:
        raise TrainingError(
            f"grid {entry.id} ({entry.file}): mode must be one of {', '.join(spec.modes)}, got {brief(mode)} (or set "
            "spec.modes to a single one)"
        )
    if not entry.instruction.strip():
        raise TrainingError(f"grid {entry.id} ({entry.file}) has an empty caption")
    condition, target = job.source.frames(entry, [0, 1])
    if target.shape[:2] != spec.grid_size:
        raise TrainingError(
            f"grid {entry.file} must have the size of the spec's grid (height, width), {spec.grid_size}, got "
            f"{target.shape[:2]}"
        )
    source, name = f"conditions/{entry.id}.png", f"targets/{entry.id}.png"
    # from the target: a path may be drawn on the condition
    cell = first_cell(torch.from_numpy(target)[None], spec.layout)[0].numpy()
    line = _line(entry, mode, source, name, entry.instruction.strip())
    line |= {"id": entry.id, "episode": str(entry.record.get("episode", entry.id))}
    statistics = {
        "length": spec.layout.frames,
        "size": list(spec.grid_size),
        "first": _digest(np.ascontiguousarray(cell).tobytes()),
        "target": _digest(target.tobytes()),
        "instruction": entry.instruction,
    }
    return {source: condition, name: target}, [line], statistics


def fit_cells(frames: np.ndarray, spec: PlannerSpec) -> np.ndarray:
    """Frames (F, H, W, 3) uint8 brought to the cell's size; those that have it stay as they are."""
    if frames.shape[1:3] == (spec.cell_height, spec.cell_width):
        return frames
    return to_bytes(fit_frame(frames, spec.cell_height, spec.cell_width, spec.fit))


def _drawn(job: Job, entry: Entry, chosen: np.ndarray, size: tuple[int, int]) -> Trajectory | None:
    """Path of an episode on its own frames, if there are paths."""
    return None if job.overlay is None else job.overlay(job.source, entry, chosen, size)


def _on_cell(job: Job, trajectory: Trajectory | None) -> Trajectory | None:
    """The trajectory in pixels of the cell, cut at its edge."""
    if trajectory is None:
        return None
    return trajectory.fitted(job.spec.cell_height, job.spec.cell_width, job.spec.fit).clipped("clamp")


def _prompt(job: Job, mode: str, entry: Entry) -> str:
    if parts_of(mode).text and not entry.instruction.strip():
        raise TrainingError(f"episode {entry.id} ({entry.file}) has an empty instruction, which mode {mode} needs")
    template = None
    if mode == "text" and job.templates:
        template = job.templates[int(_digest(f"{job.section.seed}:{entry.id}".encode()), 16) % len(job.templates)]
    return job.spec.prompt(mode, entry.instruction, template)


def _line(entry: Entry, mode: str, source: str, target: str, text: str) -> dict:
    name = f"{entry.id}_{mode}"
    return {"id": name, "episode": entry.id, "mode": mode, "source": source, "target": target, "text": text}


def _write_picture(folder: Path, name: str, picture: np.ndarray) -> list:
    """Write a PNG of a kind ("conditions/ID.png"); returns its size [bytes] and SHA-256."""
    kind, _, plain_name = name.partition("/")
    file = folder / kind / file_name(plain_name, f"name of a picture in {folder / kind}")
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", compress_level=1)
    data = stream.getvalue()
    file.write_bytes(data)
    return [len(data), _digest(data)]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def each(work: Callable[[Entry], dict], entries: Sequence[Entry], processes: int):
    """Records of the entries in order, made by several processes."""
    if processes == 1 or len(entries) < 2:
        yield from map(work, entries)
        return
    # neighbouring episodes share video files, which a process indexes once
    chunk = max(1, min(16, len(entries) // (4 * processes)))
    try:
        yield from in_processes(_in_worker, entries, processes, _start_worker, (work,), chunk)
    except BrokenProcessPool as error:
        raise TrainingError("a worker process of prepare died (killed, or out of memory)") from error


_work: dict[str, Callable] = {}


def _start_worker(work: Callable[[Entry], dict]) -> None:
    torch.set_num_threads(1)
    _work["work"] = work  # sent once: it holds all entries of the source


def _in_worker(entry: Entry) -> dict:
    return _work["work"](entry)

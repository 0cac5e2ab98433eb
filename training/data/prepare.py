"""Episodes -> pairs of condition and target grids with prompts, for each mode of the planner.

text: the first frame as it is, and the instruction; trajectory: the first frame with the end effector's path drawn
on it, and a fixed sentence; both: the drawn path and the instruction.

A run works in a hidden folder beside its result. If it is killed or stopped, the same command continues it.
"""

from dataclasses import asdict
from functools import partial
from pathlib import Path

from tqdm import tqdm

from runtime.writing import reason_of
from visual_planner.planner.spec import PlannerSpec

from ..errors import TrainingError, WritingError
from ..sections.config import Config
from ..sections.data import PrepareSection
from ..sections.sharding import ALL, Asked, divide
from .overlays import open_overlay
from .pairs import Job, each, load_templates, process
from .runs.progress import Progress, forget_empty, stamp_of
from .runs.result import Records, write_result
from .runs.shards import AFTERWARDS, PICTURES, make_shard, merge_shards
from .sources import Entry, Source, open_source
from .sources.base import in_one_line


def prepare(config: Config, asked: Asked = ALL) -> None:
    """Write the folder of pairs.

    It holds dataset.json (spec, settings, statistics), pairs.jsonl, conditions/, targets/, manifest.json (size and
    SHA-256 of each picture) and contact_sheet.jpg.

    Args:
        config: the configuration, of which the sections `spec` and `prepare` are used.
        asked: a shard of the episodes, or finished shards to merge.

    Raises:
        TrainingError: the source, an option, an episode or a shard cannot be used, or the folder cannot be written.
    """
    section: PrepareSection = config.section("prepare")
    out = Path(section.out)
    if out.exists():
        raise TrainingError(f"prepare.out {out} already exists: remove it or choose another folder")
    job, entries = _open(config, section)
    counts = divide(
        "prepare",
        asked,
        lambda own: make_shard(job, entries, own.part, _stamp(job, entries), _process_all),
        lambda count: merge_shards(job, entries, count),
        lambda own: _prepare_alone(job, entries),
    )
    if counts is not None:
        missing = len(entries) - counts[1]
        rest = f", {missing} left out (left_out in dataset.json says why)" if missing else ""
        print(f"{out}: {counts[0]} pairs of {counts[1]} episodes{rest}")


def _open(config: Config, section: PrepareSection) -> tuple[Job, tuple[Entry, ...]]:
    """Open source and overlay; returns the job and its episodes."""
    source = open_source(
        section.source, section.format, section.camera, section.instructions, section.folders, strict=False
    )
    for note in source.notes:
        print(f"{source.format}: {note}".encode("utf-8", "backslashreplace").decode())
    spec = _spec_for(config, source, section)
    entries = source.entries[: section.episodes]
    if section.validation_episodes >= len(entries):
        raise TrainingError(
            f"prepare.validation_episodes is {section.validation_episodes}, but {section.source} has only "
            f"{len(entries)} episodes"
        )
    overlay = open_overlay(section.overlay, source, section.overlay_data, section.states, spec.modes)
    if source.camera:
        print(f"{source.format}: {len(entries)} episodes, camera {source.camera} of {', '.join(source.cameras)}")
    part = section.out.parent / f".{section.out.name}.part"
    return Job(source, spec, section, overlay, load_templates(section.prompts, spec), part), entries


def _prepare_alone(job: Job, entries: tuple[Entry, ...]) -> tuple[int, int]:
    """Make all pairs in the hidden folder and rename it; returns numbers of pairs and episodes."""
    part, out = job.folder, job.section.out
    stamp = _stamp(job, entries)
    try:
        progress = Progress(part, stamp)
        try:
            counts = write_result(job, _process_all(job, entries, progress))
        finally:
            progress.close()
        progress.finish()
        part.rename(out)
    except (OSError, WritingError) as error:
        reason = reason_of(error, part)
        if not forget_empty(part):
            reason += f" (finished work is kept in {part.name}; the same command resumes there)"
        raise WritingError(f"{out} cannot be written: {reason}") from error
    return counts


def _spec_for(config: Config, source: Source, section: PrepareSection) -> PlannerSpec:
    """The spec; if the configuration names no modes and the source has no paths to draw, the only mode is text.

    The spacing of the frames is determined by the data.

    Raises:
        TrainingError: the configuration says otherwise.
    """
    if not source.ready_grids:
        spacing = "shape" if section.frames == "shape" or source.keyframes == "shape" else "time"
        if config.spec.get("keyframes", spacing) != spacing:
            raise TrainingError(f"spec.keyframes must be {spacing} for these frames, got {config.spec['keyframes']}")
        config = config.model_copy(update={"spec": {**config.spec, "keyframes": spacing}})
    spec = config.planner_spec()
    paths = section.overlay not in ("auto", "none") or source.has_paths
    if "modes" not in config.spec and (source.ready_grids or not paths):
        return config.model_copy(update={"spec": {**config.spec, "modes": ["text"]}}).planner_spec()
    return spec


def _stamp(job: Job, entries: tuple) -> str:
    """Digest of everything that the pictures and lines of a run depend on."""
    settings = job.section.model_dump(mode="json", exclude=set(AFTERWARDS))
    settings |= {"spec": asdict(job.spec), "camera": job.source.camera, "templates": job.templates}
    settings["entries"] = [[entry.id, entry.length, entry.instruction, entry.file] for entry in entries]
    data = job.section.overlay_data
    held = [] if data is None else [data] if data.is_file() else sorted(data.iterdir())
    return stamp_of(settings, [*dict.fromkeys(entry.file for entry in entries), *held])


def _process_all(job: Job, entries: tuple[Entry, ...], progress: Progress) -> Records:
    """Records of some episodes in order; those that an earlier run finished are not made again.

    Raises:
        TrainingError: episodes cannot be used and must not be skipped; the message lists all of them.
    """
    for name in PICTURES:
        (job.folder / name).mkdir(exist_ok=True)
    if progress.begun_anew:
        print("the data or the settings have changed since the interrupted run: starting over")
    elif progress.done:
        print(f"resuming: {len(progress.done)} of {len(entries)} episodes are finished")
    waiting = [entry for entry in entries if entry.id not in progress.done]
    problems = {}
    for record in tqdm(
        each(partial(process, job), waiting, job.section.processes), total=len(waiting), desc="episodes"
    ):
        if "problem" in record:
            problems[record["id"]] = record
        else:
            progress.add(record)
    if problems and job.section.broken == "error":
        text = in_one_line([record["problem"] for record in problems.values()])
        raise TrainingError(
            f"{len(problems)} of {len(entries)} episodes cannot be used: {text} (fix them and "
            "re-run; finished episodes are kept. Or set prepare.broken to skip)"
        )
    return partial(progress.records, [entry.id for entry in entries], problems)

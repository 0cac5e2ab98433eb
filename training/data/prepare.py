"""Episodes → pairs of condition and target grids with prompts, for each mode of the planner.

text: the first frame as it is, and the instruction; trajectory: the first frame with the end effector's path drawn
on it, and a fixed sentence; both: the drawn path and the instruction.

A run works in a hidden folder beside its result. Killed or stopped, it goes on there when the command is given again.
"""

import json
from collections import Counter, defaultdict
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from runtime.writing import reason_of
from visual_planner.planner.spec import PlannerSpec

from ..errors import TrainingError, WritingError
from ..files import write_json, write_text
from ..sections.config import Config
from ..sections.data import PrepareSection
from .contact_sheet import write_sheet
from .overlays import open_overlay
from .pairs import Job, each, load_templates, process
from .pairs_folder import FORMAT, MANIFEST
from .progress import Progress, forget_empty, stamp_of
from .sources import Source, open_source
from .sources.base import in_one_line
from .splits import find_leaks, ranks, scenes_of, split_episodes


def prepare(config: Config) -> None:
    """Write the folder of pairs.

    It holds dataset.json (spec, settings, statistics), pairs.jsonl, conditions/, targets/, manifest.json (size and
    SHA-256 of each picture) and contact_sheet.jpg.

    Raises:
        TrainingError: the source, an option or an episode cannot be used, or the folder cannot be written.
    """
    section: PrepareSection = config.section("prepare")
    out = Path(section.out)
    if out.exists():
        raise TrainingError(f"prepare.out {out} already exists: remove it or choose another folder")
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
    part = out.parent / f".{out.name}.part"
    job = Job(source, spec, section, overlay, load_templates(section.prompts, spec), part)
    if source.camera:
        print(f"{source.format}: {len(entries)} episodes, camera {source.camera} of {', '.join(source.cameras)}")
    stamp = _stamp(job, entries)
    try:
        progress = Progress(part, stamp)
        try:
            records = _process_all(job, entries, progress)
            pairs = _finish(job, records)
        finally:
            progress.close()
        progress.finish()
        part.rename(out)
    except (OSError, WritingError) as error:
        reason = reason_of(error, part)
        if not forget_empty(part):
            reason += f" (finished work is kept in {part.name}; the same command resumes there)"
        raise WritingError(f"{out} cannot be written: {reason}") from error
    print(f"{out}: {len(pairs)} pairs of {len({pair['episode'] for pair in pairs})} episodes")


def _spec_for(config: Config, source: Source, section: PrepareSection) -> PlannerSpec:
    """The spec; without modes in the configuration, text alone where the source has no paths to draw.

    How the frames are spaced is the data's to say.

    Raises:
        TrainingError: the configuration says otherwise.
    """
    if not source.ready_grids:
        spacing = "shape" if section.frames == "shape" or source.keyframes == "shape" else "time"
        if config.spec.get("keyframes", spacing) != spacing:
            raise TrainingError(f"spec.keyframes must be {spacing} for these frames, got {config.spec['keyframes']}")
        config = config.model_copy(update={"spec": {**config.spec, "keyframes": spacing}})
    spec = config.planner_spec()
    paths = section.overlay not in ("auto", "none") or all("path_px" in entry.record for entry in source.entries)
    if "modes" not in config.spec and (source.ready_grids or not paths):
        return config.model_copy(update={"spec": {**config.spec, "modes": ["text"]}}).planner_spec()
    return spec


def _stamp(job: Job, entries: tuple) -> str:
    """Digest of all that the pictures and lines of a run depend on."""
    settings = job.section.model_dump(
        mode="json", exclude={"out", "processes", "subsets", "split", "validation_episodes"}
    )
    settings |= {"spec": asdict(job.spec), "camera": job.source.camera, "templates": job.templates}
    settings["entries"] = [[entry.id, entry.length, entry.instruction, entry.file] for entry in entries]
    data = job.section.overlay_data
    held = [] if data is None else [data] if data.is_file() else sorted(data.iterdir())
    return stamp_of(settings, [*dict.fromkeys(entry.file for entry in entries), *held])


def _process_all(job: Job, entries: tuple, progress: Progress) -> list[dict]:
    """Records of all episodes in order; what was finished by an earlier run is not made again.

    Raises:
        TrainingError: episodes cannot be used and are not to be skipped; the message has all of them.
    """
    for name in ("conditions", "targets"):
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
    return [problems.get(entry.id) or progress.done[entry.id] for entry in entries]


def _finish(job: Job, records: list[dict]) -> list[dict]:
    """Split the pairs and write all files but the pictures; returns the lines."""
    section, folder = job.section, job.folder
    made = {record["id"]: record for record in records if "pairs" in record}
    if not made:
        raise TrainingError(f"no episode of {section.source} can be used: {_reasons(records)}")
    firsts = {pair["episode"]: r["statistics"]["first"] for r in made.values() for pair in r["pairs"]}
    scenes = _scenes(job, made, firsts)
    validation = split_episodes(scenes, section.validation_episodes, section.split, section.seed)
    rank = ranks([name for name in firsts if name not in validation], section.seed)
    if section.subsets and max(section.subsets) > len(rank):
        raise TrainingError(f"prepare.subsets asks for {max(section.subsets)} training episodes, there are {len(rank)}")
    pairs = []
    for pair in (pair for record in made.values() for pair in record["pairs"]):
        held_out = pair["episode"] in validation
        pairs.append({**pair, "split": "validation" if held_out else "train"})
        if not held_out:
            pairs[-1]["rank"] = rank[pair["episode"]]
    if leaks := find_leaks(pairs, firsts, scenes):
        raise TrainingError(f"the split leaks: {'; '.join(leaks[:5])}")
    write_text(folder / "pairs.jsonl", "".join(json.dumps(pair) + "\n" for pair in pairs))
    files = {name: value for record in made.values() for name, value in record["files"].items()}
    write_json(folder / MANIFEST, {"format": "visual_planner.manifest", "version": 1, "files": files})
    order = sorted(rank, key=rank.get)
    write_json(
        folder / "dataset.json",
        {
            "format": FORMAT,
            "version": 1,
            "spec": asdict(job.spec),
            "pairs": len(pairs),
            "source": {"format": job.source.format, "path": str(section.source), "camera": job.source.camera},
            **({"notes": list(job.source.notes)} if job.source.notes else {}),
            "settings": section.model_dump(mode="json"),
            "statistics": _statistics(records, pairs),
            "first_frames": firsts,
            **({"scenes": shared} if (shared := _more_than_first_frames(scenes, firsts)) else {}),
            "subsets": {str(size): order[:size] for size in sorted(section.subsets)},
            "left_out": {r["id"]: r.get("dropped") or r["problem"] for r in records if "pairs" not in r},
        },
    )
    write_sheet(folder, pairs, (job.spec.cell_height, job.spec.cell_width), folder / "contact_sheet.jpg")
    return pairs


def _scenes(job: Job, made: dict[str, dict], firsts: dict[str, str]) -> dict[str, str]:
    """Scene of each episode by its frames, and by what its source says."""
    named = {entry.id: entry.scene for entry in job.source.entries}
    shown, names = {}, {}
    for record in made.values():
        for pair in record["pairs"]:
            shown[pair["episode"]] = record["statistics"].get("shown", [])
            names[pair["episode"]] = named.get(record["id"], "")
    return scenes_of(firsts, shown, names)


def _more_than_first_frames(scenes: dict[str, str], firsts: dict[str, str]) -> dict[str, str]:
    """Scenes of the episodes that share theirs without sharing the first frame."""
    frames = defaultdict(set)
    for name, scene in scenes.items():
        frames[scene].add(firsts[name])
    return {name: scene for name, scene in scenes.items() if len(frames[scene]) > 1}


def _reasons(records: list[dict]) -> str:
    reasons = [record.get("dropped") or record.get("problem") for record in records]
    return f"episode {records[0]['id']} {reasons[0]}" + (f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else "")


def _statistics(records: list[dict], pairs: list[dict]) -> dict:
    made = [record["statistics"] for record in records if "pairs" in record]
    lengths = np.array([item["length"] for item in made])
    motions = np.array([item["motion"] for item in made if "motion" in item] or [0.0])
    targets = Counter(item["target"] for item in made)
    return {
        "episodes": len(made),
        "left_out": len(records) - len(made),
        "pairs": dict(Counter(f"{pair['mode']} {pair['split']}" for pair in pairs)),
        "later_starts": sum(item.get("later_starts", 0) for item in made),
        "length_frames": {"min": int(lengths.min()), "median": float(np.median(lengths)), "max": int(lengths.max())},
        "frame_sizes": dict(Counter("x".join(map(str, item["size"])) for item in made)),
        "motion": {"min": float(motions.min()), "median": float(np.median(motions)), "max": float(motions.max())},
        "instructions": len({item["instruction"] for item in made}),
        "prompts": len({pair["text"] for pair in pairs}),
        "identical_targets": sum(count - 1 for count in targets.values()),
    }

"""What `prepare` writes when all episodes are finished: the split, the lines, the manifest and the contact sheet.

The records of the episodes are read from disk, once for each output: only the names and first frames of the episodes
are kept in memory.
"""

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ...errors import TrainingError
from ...files import replacing, write_json
from ..contact_sheet import write_sheet
from ..pairs import Job
from ..pairs_folder import FORMAT, MANIFEST
from ..splits import find_leaks, ranks, scenes_of, split_episodes

Records = Callable[[], Iterable[dict]]
"""The records of all episodes in order, from the start with each call; each is read when its turn comes."""


class Lines(Sequence):
    """The lines of a file of JSON records, read when they are asked for.

    Args:
        file: the file.
        starts: where each line begins [bytes].
    """

    def __init__(self, file: Path, starts: array) -> None:
        self._file, self._starts = file, starts

    def __len__(self) -> int:
        """Number of lines."""
        return len(self._starts)

    def __getitem__(self, index: int) -> dict:
        """The record of a line."""
        with self._file.open("rb") as stream:
            stream.seek(self._starts[index])
            return json.loads(stream.readline())


def write_result(job: Job, records: Records) -> tuple[int, int]:
    """Split the pairs and write all files but the pictures; returns how many pairs there are, and of how many episodes.

    Raises:
        TrainingError: no episode can be used, or the split or the subsets cannot be made.
    """
    section, folder = job.section, job.folder
    firsts = {pair["episode"]: r["statistics"]["first"] for r in _made(records) for pair in r["pairs"]}
    if not firsts:
        raise TrainingError(f"no episode of {section.source} can be used: {_reasons(list(records()))}")
    scenes = _scenes(job, records, firsts)
    validation = split_episodes(scenes, section.validation_episodes, section.split, section.seed)
    rank = ranks([name for name in firsts if name not in validation], section.seed)
    if section.subsets and max(section.subsets) > len(rank):
        raise TrainingError(f"prepare.subsets asks for {max(section.subsets)} training episodes, there are {len(rank)}")
    sides = ({"episode": name, "split": "validation" if name in validation else "train"} for name in firsts)
    if leaks := find_leaks(sides, firsts, scenes):
        raise TrainingError(f"the split leaks: {'; '.join(leaks[:5])}")
    pairs, kinds, prompts = _write_pairs(folder / "pairs.jsonl", records, rank)
    _write_manifest(folder / MANIFEST, records)
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
            "statistics": _statistics(records, kinds, prompts),
            "first_frames": firsts,
            **({"scenes": shared} if (shared := _more_than_first_frames(scenes, firsts)) else {}),
            "subsets": {str(size): order[:size] for size in sorted(section.subsets)},
            "left_out": {r["id"]: r.get("dropped") or r["problem"] for r in records() if "pairs" not in r},
        },
    )
    write_sheet(folder, pairs, (job.spec.cell_height, job.spec.cell_width), folder / "contact_sheet.jpg")
    return len(pairs), len(firsts)


def _made(records: Records) -> Iterator[dict]:
    return (record for record in records() if "pairs" in record)


def _write_pairs(file: Path, records: Records, rank: dict[str, int]) -> tuple[Lines, Counter, int]:
    """Write the lines; returns them, how many there are of each mode and side, and how many distinct prompts."""
    starts, kinds, prompts = array("q"), Counter(), set()
    with _rows(file) as write:
        for pair in (pair for record in _made(records) for pair in record["pairs"]):
            place = rank.get(pair["episode"])
            line = {**pair, "split": "validation"} if place is None else {**pair, "split": "train", "rank": place}
            kinds[f"{line['mode']} {line['split']}"] += 1
            prompts.add(line["text"])
            starts.append(write(json.dumps(line) + "\n"))
    return Lines(file, starts), kinds, len(prompts)


def _write_manifest(file: Path, records: Records) -> None:
    """Size and SHA-256 of each picture, as `write_json` writes them."""
    with _rows(file) as write:
        write('{\n  "format": "visual_planner.manifest",\n  "version": 1,\n  "files": {')
        mark = "\n"
        for name, (size, digest) in (item for record in _made(records) for item in record["files"].items()):
            write(f"{mark}    {json.dumps(name)}: [\n      {size},\n      {json.dumps(digest)}\n    ]")
            mark = ",\n"
        write("\n  }\n}\n")


@contextmanager
def _rows(file: Path) -> Iterator[Callable[[str], int]]:
    """A function that adds text to a new file and returns where it begins [bytes]; the file appears at the end."""
    with replacing(file) as temporary, temporary.open("wb") as stream:

        def write(text: str) -> int:
            start = stream.tell()
            stream.write(text.encode())
            return start

        yield write


def _scenes(job: Job, records: Records, firsts: dict[str, str]) -> dict[str, str]:
    """Scene of each episode, by its frames and by its source.

    The digests of an episode's other frames count only if one of these frames is another episode's first.
    """
    named = {entry.id: entry.scene for entry in job.source.entries if entry.scene}
    starts: dict[str, list[str]] = defaultdict(list)
    for name, first in firsts.items():
        starts[first].append(name)
    names, within = {}, set()
    for record in _made(records):
        shown = record["statistics"].get("shown", [])
        for name in {pair["episode"] for pair in record["pairs"]}:
            names[name] = named.get(record["id"], "")
            begun = {other for digest in shown for other in starts.get(digest, ())} - {name}
            within |= {name, *begun} if begun else set()
    shown = {}
    for record in _made(records) if within else ():
        for name in within & {pair["episode"] for pair in record["pairs"]}:
            shown[name] = record["statistics"].get("shown", [])
    return scenes_of(firsts, shown, names)


def _more_than_first_frames(scenes: dict[str, str], firsts: dict[str, str]) -> dict[str, str]:
    """Scenes of the episodes that share a scene without sharing the first frame."""
    frames = defaultdict(set)
    for name, scene in scenes.items():
        frames[scene].add(firsts[name])
    return {name: scene for name, scene in scenes.items() if len(frames[scene]) > 1}


def _reasons(records: list[dict]) -> str:
    reasons = [record.get("dropped") or record.get("problem") for record in records]
    return f"episode {records[0]['id']} {reasons[0]}" + (f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else "")


def _statistics(records: Records, kinds: Counter, prompts: int) -> dict:
    lengths, motions, later, count = array("q"), array("d"), 0, 0
    targets, instructions, sizes = set(), set(), Counter()
    for record in records():
        count += 1
        if "pairs" not in record:
            continue
        item = record["statistics"]
        lengths.append(item["length"])
        if "motion" in item:
            motions.append(item["motion"])
        later += item.get("later_starts", 0)
        targets.add(bytes.fromhex(item["target"]))
        instructions.add(item["instruction"])
        sizes["x".join(map(str, item["size"]))] += 1
    motions = motions or array("d", [0.0])
    return {
        "episodes": len(lengths),
        "left_out": count - len(lengths),
        "pairs": dict(kinds),
        "later_starts": later,
        "length_frames": {"min": min(lengths), "median": float(np.median(lengths)), "max": max(lengths)},
        "frame_sizes": dict(sizes),
        "motion": {"min": min(motions), "median": float(np.median(motions)), "max": max(motions)},
        "instructions": len(instructions),
        "prompts": prompts,
        "identical_targets": len(lengths) - len(targets),
    }

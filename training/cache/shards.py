"""Shards of the work on a cache: the files that each process made, with a record of each shard beside them.

The files of a cache are written to their final place, in a folder or in an object store: whatever a process leaves
unfinished is simply missing. The manifest, written last, makes them a cache.
"""

import hashlib
import json
import re

from runtime.parts import Part, check_parts, make_record, part_of_name, read_record

from ..errors import TrainingError
from .plan import Plan, read_note
from .storage import Folder

_RECORD = re.compile(r"shard-(.+)\.json")


def _record_of(part: Part) -> str:
    return f"shard-{part.name}.json"


def _made_from(plan: Plan) -> dict:
    """Everything that a cache depends on, the same on every machine that sees the pairs and the encoders."""
    told = {f"{name}.{key}": value for name in ("spec", "settings") for key, value in plan.contract[name].items()}
    sizes = {key: getattr(plan.section, key) for key in ("shard_size", "text_shard_size", "episodes")}
    names = hashlib.sha256(json.dumps(plan.names).encode()).hexdigest()
    return {**told, **plan.contract["encoders"], **{f"cache.{k}": v for k, v in sizes.items()}, "pairs": names}


def write_record(plan: Plan, out: Folder, part: Part) -> None:
    """Note that all files of a part are finished."""
    notes = {shard.file: read_note(out, shard) for shard in plan.of(part)}
    files = {file: [note["bytes"], note["sha256"]] for file, note in notes.items()}
    out.write(_record_of(part), make_record("cache", part, _made_from(plan), files))


def forget_damaged(plan: Plan, out: Folder, part: Part) -> None:
    """Check every file of a part that was finished already, so that damaged ones are made again."""
    if not out.exists(_record_of(part)):
        return
    out.remove(_record_of(part))
    for shard in plan.of(part):
        if out.exists(shard.note) and (problem := _damage(out, shard.file, read_note(out, shard))):
            print(f"{out.name(shard.file)} {problem}: recomputed")
            out.remove(shard.note)


def check_shards(plan: Plan, out: Folder, count: int) -> None:
    """Check everything that the shards have made before it becomes a cache.

    Raises:
        TrainingError: a shard is missing, surplus, of other pairs, encoders or settings, or damaged; the message names
            it.
    """
    found = {part: read_record(out.read(_record_of(part), "record of a shard")) for part in _recorded(out)}
    check_parts("cache", count, found, _made_from(plan), TrainingError)
    digest_of, broken = plan.told_digest(), {}
    for part in (Part(number, count) for number in range(count)):
        problems = [
            f"{shard.file} {problem}"
            for shard in plan.of(part)
            if (problem := _problem(out, shard, found[part]["files"], digest_of))
        ]
        if problems:
            broken[str(part)] = ", ".join(problems[:5]) + (f" and {len(problems) - 5} more" if problems[5:] else "")
    if broken:
        raise TrainingError(
            f"cache {out}: damaged shards: {'; '.join(f'{name} ({text})' for name, text in broken.items())}: run the "
            f"same command with --shard {' and --shard '.join(broken)}"
        )


def forget_records(out: Folder) -> None:
    """Remove the records once the manifest is written."""
    for part in _recorded(out):
        out.remove(_record_of(part))


def _recorded(out: Folder) -> list[Part]:
    names = (found[1] for name in out.names() if (found := _RECORD.fullmatch(name)))
    return [part for name in names if (part := part_of_name(name))]


def _problem(out: Folder, shard, told: dict, digest_of) -> str:
    """What is wrong with a file that a shard's record names; "" if nothing is."""
    if shard.file not in told or not out.exists(shard.note):
        return "is missing"
    note = read_note(out, shard)
    if [note.get("bytes"), note.get("sha256")] != told[shard.file]:
        return "is not the one of its shard's record"
    if note["stamp"] != shard.stamp(digest_of):
        return "comes from other images, encoders or settings"
    return _damage(out, shard.file, note)


def _damage(out: Folder, file: str, note: dict) -> str:
    if not out.exists(file):
        return "is missing"
    data = out.read(file, "cache file")
    whole = len(data) == note.get("bytes") and hashlib.sha256(data).hexdigest() == note.get("sha256")
    return "" if whole else "does not match its checksum"

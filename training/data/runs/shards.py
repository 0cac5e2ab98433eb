"""A shard of `prepare` in its own folder: pictures and records of its episodes; and the merge of all shards."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from runtime.parts import (
    RECORD,
    Part,
    check_parts,
    damaged_files,
    differences,
    file_digest,
    make_record,
    part_folder,
    parts_folder,
    read_record,
    read_records,
)
from runtime.writing import new_folder

from ...errors import TrainingError, WritingError
from ...files import as_record, file_name, replacing
from ..pairs import Job
from ..sources import Entry
from .progress import Progress
from .result import Records, write_result

RECORDS = "records.jsonl"
AFTERWARDS = ("out", "processes", "subsets", "split", "validation_episodes")
"""Settings that take effect only when all pairs are made."""
_PLACES = ("source", "instructions", "overlay_data", "prompts")
"""Settings that are paths, which may differ between machines; the data there is compared instead."""
PICTURES = ("conditions", "targets")

Process = Callable[[Job, tuple[Entry, ...], Progress], Records]


def made_from(job: Job, entries: tuple[Entry, ...]) -> dict:
    """Everything that the pictures and lines of a data set depend on, the same on every machine that sees the data."""
    settings = job.section.model_dump(mode="json", exclude={*AFTERWARDS, *_PLACES})
    told = {f"prepare.{name}": value for name, value in settings.items()}
    told |= {f"spec.{name}": value for name, value in asdict(job.spec).items()}
    episodes = [[entry.id, entry.length, entry.instruction] for entry in entries]
    data = job.section.overlay_data
    held = [] if data is None else [data] if data.is_file() else sorted(data.iterdir())
    files = [*dict.fromkeys(entry.file for entry in entries), *held]
    return {
        **told,
        "camera": job.source.camera,
        "templates": _digest(job.templates),
        "episodes": _digest(episodes),
        "sizes of the source's files": _digest([_size(file) for file in files]),
    }


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _size(file: str | Path) -> int:
    with suppress(OSError, ValueError):
        return os.stat(file).st_size
    return -1


def make_shard(job: Job, entries: tuple[Entry, ...], part: Part, stamp: str, process: Process) -> None:
    """Make the pairs of one part of the episodes; a part that is finished and intact stays as it is.

    Args:
        job: the job.
        entries: all episodes.
        part: the part of them.
        stamp: digest of everything that the work depends on, on this machine.
        process: makes the pairs of some episodes in the job's folder.

    Raises:
        TrainingError: an episode cannot be used; finished ones are kept.
    """
    folder = part_folder(job.section.out, part)
    job, contract = replace(job, folder=folder), made_from(job, entries)
    held = read_record((folder / RECORD).read_bytes()) if (folder / RECORD).is_file() else None
    if held is not None:
        if not differences(held["made_from"], contract) and not _damage(folder, held):
            print(f"prepare: shard {part} was finished already")
            return
        print(f"prepare: shard {part} is damaged or was made from something else: made again")
    if (folder / RECORD).exists():
        shutil.rmtree(folder)
    progress = Progress(folder, f"{stamp} {part}")
    try:
        records = process(job, part.of(entries), progress)
        with replacing(folder / RECORDS) as temporary, temporary.open("w", encoding="utf-8") as stream:
            stream.writelines(json.dumps(record) + "\n" for record in records())
    finally:
        progress.close()
    told = {RECORDS: [(folder / RECORDS).stat().st_size, file_digest(folder / RECORDS)]}
    with replacing(folder / RECORD) as temporary:
        temporary.write_bytes(make_record("prepare", part, contract, told))
    progress.finish()


def merge_shards(job: Job, entries: tuple[Entry, ...], count: int) -> tuple[int, int]:
    """Merge all shards into what one process would have made; returns numbers of pairs and episodes.

    The output appears only when it is complete; the shards are removed afterwards.

    Raises:
        TrainingError: a shard is missing, surplus, of other settings or data, or damaged; the message names it.
    """
    out = Path(job.section.out)
    contract = made_from(job, entries)
    records = check_parts("prepare", count, read_records(parts_folder(out)), contract, TrainingError)
    folders = [part_folder(out, Part(number, count)) for number in range(count)]
    with new_folder(out, WritingError, (OSError, WritingError)) as folder:
        for kind in PICTURES:
            (folder / kind).mkdir()
        broken = {}
        with ThreadPoolExecutor(job.section.processes) as pool:
            for number, held in enumerate(folders):
                found = _damage(held, records[number], folder, pool.map)
                if found:
                    broken[str(Part(number, count))] = found
        if broken:
            raise TrainingError(
                f"prepare: damaged shards: {'; '.join(f'{name} ({found})' for name, found in broken.items())}: run "
                f"the same command with --shard {' and --shard '.join(broken)}"
            )
        with as_record("shards of prepare"):
            written = write_result(replace(job, folder=folder), partial(_records, folders))
    shutil.rmtree(parts_folder(out), ignore_errors=True)
    return written


def _records(folders: list[Path]) -> Iterator[dict]:
    for folder in folders:
        with (folder / RECORDS).open(encoding="utf-8") as stream:
            yield from map(json.loads, stream)


def _damage(folder: Path, record: dict, into: Path | None = None, each: Callable = map) -> str:
    """Which files of a finished shard are not as they were written, in words; "" if none.

    Args:
        folder: the shard's folder.
        record: its record.
        into: where intact pictures are linked to; None: nowhere.
        each: `map`, or a concurrent version of it.
    """
    if record["files"].keys() != {RECORDS} or list(damaged_files(folder, record["files"])):
        return RECORDS
    broken = [name for name in each(partial(_take, folder, into), _pictures(folder)) if name]
    return ", ".join(broken[:5]) + (f" and {len(broken) - 5} more" if len(broken) > 5 else "")


def _pictures(folder: Path) -> Iterable[tuple[str, list]]:
    for record in _records([folder]):
        yield from record.get("files", {}).items()


def _take(folder: Path, into: Path | None, picture: tuple[str, list]) -> str:
    """Check a picture and link it; returns its name if it is damaged."""
    name, told = picture
    kind, _, plain = name.partition("/")
    if kind not in PICTURES:
        return name
    file_name(plain, f"name of a picture in {folder / RECORDS}")
    if list(damaged_files(folder, {name: told})):
        return name
    if into is not None:
        try:
            os.link(folder / name, into / name)
        except OSError:  # a file system without links
            shutil.copyfile(folder / name, into / name)
    return ""

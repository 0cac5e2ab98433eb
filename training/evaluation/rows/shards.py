"""What is measured on each scene, kept on disk batch by batch, and merged from one process or many.

A batch of scenes is planned at once and never divided, so its rows are the same whichever process plans it, in
whatever order.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

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

from ...data.sources.pictures import read_picture
from ...errors import TrainingError
from ...files import replacing
from .journal import Journal, lines

ROWS = "rows.jsonl"


@dataclass(frozen=True)
class Batch:
    """What was measured on the scenes of a batch.

    Args:
        rows: by the plans' name, one row per requested scene.
        features: likewise, features for distances of whole sets; empty if none are measured.
        truth: features of what really happened.
    """

    rows: dict[str, list[dict]]
    features: dict[str, list[list[float]]]
    truth: list[list[float]]


class ShardOfRows:
    """One part of an evaluation in its folder beside the results.

    Args:
        out: where the results go.
        part: which part.
        made_from: settings and weights on which the rows depend.
        command: the command that the part belongs to.

    Attributes:
        finished: whether nothing is left to do.
    """

    def __init__(self, out: Path, part: Part, made_from: dict, command: str) -> None:
        self._part, self._made_from, self._command = part, made_from, command
        self.folder = part_folder(out, part)
        held = read_record((self.folder / RECORD).read_bytes()) if (self.folder / RECORD).is_file() else None
        whole = held is not None and not differences(held["made_from"], made_from)
        self.finished = whole and not list(damaged_files(self.folder, held["files"]))
        if self.finished:
            print(f"{command}: shard {part} was finished already")
            return
        if (self.folder / RECORD).exists():
            print(f"{command}: shard {part} is damaged or was made from something else: made again")
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(self.folder / ROWS, made_from, begin_again=True, remember=False)

    def finish(self, **more: object) -> None:
        """Write the record; from here on the part counts as finished."""
        self.journal.begin()
        files = {
            file.name: [file.stat().st_size, file_digest(file)]
            for file in sorted(self.folder.iterdir())
            if not file.name.startswith(".") and file.name != RECORD
        }
        with replacing(self.folder / RECORD) as temporary:
            temporary.write_bytes(make_record(self._command, self._part, self._made_from, files, **more))


def check_rows(out: Path, count: int, made_from: dict, command: str) -> list[tuple[Path, dict]]:
    """Folder and record of each part, after checking that all parts exist and are intact.

    Raises:
        TrainingError: a part is missing, surplus, made from something else, or damaged; the message names it.
    """
    records = check_parts(command, count, read_records(parts_folder(out)), made_from, TrainingError)
    folders = [part_folder(out, Part(number, count)) for number in range(count)]
    broken = {
        str(Part(number, count)): ", ".join(damaged)
        for number, (folder, record) in enumerate(zip(folders, records, strict=True))
        if (damaged := list(damaged_files(folder, record["files"])))
    }
    if broken:
        raise TrainingError(
            f"{command}: damaged shards: {'; '.join(f'{name} ({files})' for name, files in broken.items())}: run the "
            f"same command with --shard {' and --shard '.join(broken)}"
        )
    return list(zip(folders, records, strict=True))


def forget_rows(out: Path) -> None:
    """Remove all parts once the results are written."""
    shutil.rmtree(parts_folder(out), ignore_errors=True)


def picture_file(folder: Path, mode: str, number: int) -> Path:
    """Where a part keeps the picture of a scene's plan."""
    return folder / f"{mode}-{number:07d}.png"


def keep_picture(folder: Path, mode: str, number: int, truth: np.ndarray, plan: np.ndarray, most: int) -> None:
    """Keep truth and plan (F, h, w, 3) of a scene, one above the other, while there are fewer than `most`."""
    file = picture_file(folder, mode, number)
    if not file.exists() and len(list(folder.glob(f"{mode}-*.png"))) >= most:
        return
    rows = [np.concatenate(list(frames), axis=1) for frames in (truth, plan)]
    with replacing(file) as temporary:
        Image.fromarray(np.concatenate(rows)).save(temporary, "png")


def write_sheet(file: Path, folders: Sequence[Path], mode: str, most: int) -> None:
    """Write the first pictures of all parts one below the other; no file if there are none."""
    found = sorted((held for folder in folders for held in folder.glob(f"{mode}-*.png")), key=lambda held: held.name)
    if found:
        pictures = [read_picture(held, f"picture {held}") for held in found[:most]]
        with replacing(file) as temporary:
            Image.fromarray(np.concatenate(pictures)).save(temporary, "png")


def add_batch(shard: ShardOfRows, number: int, batch: Batch) -> None:
    """Keep what was measured on a batch."""
    rows = {"rows": batch.rows, "features": batch.features, "truth": batch.truth}
    shard.journal.add([((number,), rows)])


def rows_of(folders: Sequence[Path], name: str) -> list[dict]:
    """The rows of some plans from all parts, in the order of the scenes."""
    found = (row for _, batch in _batches(folders) for row in batch["rows"].get(name, ()))
    return sorted(found, key=lambda row: row["number"])


def features_of(folders: Sequence[Path], name: str | None) -> list[np.ndarray]:
    """Features of some plans, or of the truth (None), from all parts in the order of the scenes."""
    held = (batch["truth"] if name is None else batch["features"].get(name, ()) for _, batch in _batches(folders))
    return [np.array(values, np.float32) for batch in held for values in batch]


def _batches(folders: Sequence[Path]) -> Iterator[tuple[tuple, dict]]:
    """All batches in order: within a part in the order of its file, part after part."""
    for folder in folders:
        yield from lines(folder / ROWS)


def write_rows(file: Path, names: Sequence[str], rows: Callable[[str], list[dict]]) -> None:
    """Write rows by name as indented JSON, with the rows of only one name in memory at a time."""
    with replacing(file) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write("{")
        for place, name in enumerate(names):
            held = [json.dumps(row, indent=2).replace("\n", "\n    ") for row in rows(name)]
            body = "\n    " + ",\n    ".join(held) + "\n  " if held else ""
            stream.write(f"{',' if place else ''}\n  {json.dumps(name)}: [{body}]")
        stream.write("\n}\n")


def stat_of(file: Path) -> object:
    """Size and time of a file, which identify it on this machine."""
    with suppress(OSError):
        status = file.stat()
        return [status.st_size, status.st_mtime_ns]
    return None


def digest_of(file: Path) -> object:
    """SHA-256 of a file, which identifies it on any machine."""
    return file_digest(file) if file.is_file() else None


def base_files(folder: Path, stamp: Callable[[Path], object]) -> dict[str, object]:
    """Stamps of the weights in a base's folder, by their role; LoRAs beside them do not count."""
    files = (file for file in sorted(folder.rglob("[!.]*.safetensors")) if file.parent.name != "loras")
    return {f"base: {file.relative_to(folder).as_posix()}": stamp(file) for file in files}

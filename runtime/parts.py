"""One command's work divided among processes: which part is whose, and whether all parts exist and are intact.

The work is an ordered list: episodes, files of a cache, batches of scenes. Part I of N is one contiguous section of
that list, so no item depends on N, and neighbours stay together. The results of a part lie in a separate folder beside
the output, with a record that is written last: the command, I and N, what it was made from, and the size and SHA-256 of
its files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .names import LONGEST, is_file_name

Item = TypeVar("Item")
RECORD = "shard.json"
"""File name of a finished part's record."""
FORMAT = "visual_planner.shard"
MOST = 100_000
"""Largest number of parts."""
_NAME = re.compile(r"([0-9]{5})-of-([0-9]{5,6})")
_TEXT = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")
_LAUNCHERS = (
    ("RANK", "WORLD_SIZE"),  # accelerate launch, torchrun
    ("SLURM_PROCID", "SLURM_NTASKS"),  # srun
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),  # mpirun
)
"""Variables in which launchers tell a process its number and how many there are.

Slurm's job arrays are not among them: a task of an array that is resubmitted alone is told that it is the only one.
"""


@dataclass(frozen=True, order=True)
class Part:
    """Part `number` of `count`, counted from 0; the whole work by default."""

    number: int = 0
    count: int = 1

    def __str__(self) -> str:
        """The part as on the command line."""
        return f"{self.number}/{self.count}"

    @property
    def name(self) -> str:
        """The part in the name of a file."""
        return f"{self.number:05d}-of-{self.count:05d}"

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Its section of the work: the parts are contiguous, complete, and differ by one item at most."""
        return items[len(items) * self.number // self.count : len(items) * (self.number + 1) // self.count]


def parse_part(text: str, environment: Mapping[str, str] | None = None) -> Part:
    """The part that `I/N` names, or `auto`: the one that a launcher's variables name.

    Args:
        text: text from the command line.
        environment: environment variables; the process's own by default.

    Raises:
        ValueError: it is neither, or no launcher has started this process; in one line.
    """
    if text == "auto":
        variables = os.environ if environment is None else environment
        for number, count in _LAUNCHERS:
            if number in variables and count in variables:
                return _part(f"{variables[number]}/{variables[count]}", f"{number}/{count}")
        known = ", ".join(f"{number}/{count}" for number, count in _LAUNCHERS)
        raise ValueError(f"--shard auto needs a launcher's variables ({known}), none is set: use --shard I/N")
    return _part(text, "--shard")


def _part(text: str, what: str) -> Part:
    found = _TEXT.fullmatch(text)
    number, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 <= number < count <= MOST:
        raise ValueError(
            f"{what} must be I/N with I from 0 to N - 1 and N at most {MOST}, such as 0/4 to 3/4, got {text[:40]!r}"
        )
    return Part(number, count)


def parts_folder(out: str | Path) -> Path:
    """Where the parts of an output lie until they are merged."""
    out = Path(os.path.abspath(out))
    return out.parent / f".{out.name}.shards"


def part_folder(out: str | Path, part: Part) -> Path:
    """Where one part of an output lies until it is merged."""
    return parts_folder(out) / part.name


def part_of_name(name: str) -> Part | None:
    """The part that the name of a folder or file stands for; None if it stands for none."""
    found = _NAME.fullmatch(name)
    return Part(int(found[1]), int(found[2])) if found and int(found[1]) < int(found[2]) else None


def make_record(
    command: str, part: Part, made_from: Mapping[str, object], files: Mapping[str, Sequence], **more: object
) -> bytes:
    """The record of a finished part, as JSON.

    Args:
        command: the command that the part belongs to.
        part: which part.
        made_from: settings and digests on which its content depends, by name.
        files: size [bytes] and SHA-256 of each of its files.
        more: what else the merge needs.
    """
    record = {"format": FORMAT, "version": 1, "command": command, "shard": part.number, "of": part.count}
    record |= {"made_from": dict(made_from), "files": {name: list(value) for name, value in files.items()}, **more}
    return (json.dumps(record, indent=1) + "\n").encode()


def read_record(data: bytes | None) -> dict | None:
    """A usable record; None if it is missing or broken, so that its part counts as not finished."""
    try:
        record = json.loads(data or b"")
    except (ValueError, RecursionError):
        return None
    held = record if isinstance(record, dict) and record.get("format") == FORMAT else {}
    files, made_from = held.get("files"), held.get("made_from")
    if not isinstance(files, dict) or not isinstance(made_from, dict) or held.get("version") != 1:
        return None
    whole = all(
        isinstance(value, list) and len(value) == 2 and isinstance(value[0], int) and isinstance(value[1], str)
        and is_file_name(name, LONGEST)
        for name, value in files.items()
    )  # fmt: skip
    kinds = {"command": str, "shard": int, "of": int}
    return held if whole and all(isinstance(held.get(key), kind) for key, kind in kinds.items()) else None


def read_records(folder: Path) -> dict[Part, dict | None]:
    """Every part in a folder with its record; None for an unfinished part."""
    if not folder.is_dir():
        return {}
    named = {path: part for path in sorted(folder.iterdir()) if path.is_dir() and (part := part_of_name(path.name))}
    return {
        part: read_record((path / RECORD).read_bytes() if (path / RECORD).is_file() else None)
        for path, part in named.items()
    }


def check_parts(
    command: str,
    count: int,
    found: Mapping[Part, dict | None],
    made_from: Mapping[str, object],
    raises: Callable[[str], Exception],
) -> list[dict]:
    """The records of all `count` parts in order.

    Args:
        command: the command that the parts belong to.
        count: how many parts there should be.
        found: record of every part that was found; None for an unfinished part.
        made_from: what each should have been made from.
        raises: makes the error from its line.

    Raises:
        Exception: a part is surplus, missing, unfinished or was made from something else; the line names each.
    """
    wanted = [Part(number, count) for number in range(count)]
    if surplus := [str(part) for part in found if part.count != count]:
        raise raises(
            f"{command}: shards {_listed(surplus)} belong to another division of the work than {count}: remove them "
            "or merge that number"
        )
    records = [found.get(part) for part in wanted]
    if missing := [str(part) for part, record in zip(wanted, records, strict=True) if record is None]:
        begun = [str(part) for part in wanted if part in found and found[part] is None]
        raise raises(
            f"{command}: {len(missing)} of {count} shards must still be made: {_listed(missing)}"
            + (f" ({_listed(begun)} begun, but not finished)" if begun else "")
            + f": run the same command with --shard {missing[0]}{' and so on' if len(missing) > 1 else ''}"
        )
    for part, record in zip(wanted, records, strict=True):
        if (record["command"], record["shard"], record["of"]) != (command, part.number, part.count):
            raise raises(
                f"shard {part} must be of {command}, its record says {ascii(record['command'])[:40]} "
                f"{record['shard']}/{record['of']}: run it again with --shard {part}"
            )
        if different := differences(record["made_from"], made_from):
            raise raises(
                f"{command}: shard {part} was made from something else ({'; '.join(different)}): run it again with "
                f"--shard {part}"
            )
    return records


def differences(held: Mapping[str, object], wanted: Mapping[str, object], most: int = 3) -> list[str]:
    """The first differences of two descriptions of a work, in words."""
    # through JSON, which turns a tuple into a list
    held, wanted = (json.loads(json.dumps(value, default=str)) for value in (held, wanted))
    names = [name for name in sorted(held.keys() | wanted.keys()) if held.get(name, ...) != wanted.get(name, ...)]
    lines = [
        f"{ascii(name[:60])[1:-1]} {_brief(held, name)} instead of {_brief(wanted, name)}" for name in names[:most]
    ]
    return lines + ([f"and {len(names) - most} more"] if len(names) > most else [])


def _brief(values: Mapping[str, object], name: str) -> str:
    text = ascii(values[name]) if name in values else "none"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _listed(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def damaged_files(folder: Path, files: Mapping[str, Sequence]) -> Iterable[str]:
    """Names of files that are missing or differ in size or SHA-256 from a record."""
    for name, (size, digest) in files.items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != size or file_digest(file) != digest:
            yield name


def file_digest(file: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

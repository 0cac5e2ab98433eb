"""RLDS data sets as a source: TFRecord shards with one episode per record.

The fields of a step are flattened to `steps/...`, one list over all steps. Field names are those of Jaco Play, Bridge
V2 and RT-1 (fractal20220817_data); pictures are recognised by their content, so other RLDS sets work as well.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from ....errors import TrainingError
from ..base import Entry, Source, choose_camera
from ..names import safe_id, visible_files
from ..pictures import read_picture, stack_frames
from .texts import instruction
from .tfrecord import Example, read_at, scan_records

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF")
_POSITIONS = (
    "steps/observation/end_effector_cartesian_pos",
    "steps/observation/base_pose_tool_reached",
    "steps/observation/state",
)
_SHARD = re.compile(r"(?:.*-)?(?P<split>[A-Za-z_]+)\.tfrecord(?:-(?P<number>\d+)(?:-of-\d+)?)?$")
_NUMBERED = re.compile(r"(?P<name>.*\.tfrecord)-(?P<number>\d{1,9})-of-(?P<count>\d{1,9})$")
_SHOWN = 6
"How many absent shards are listed by name."
_DEPTH = 3
"How many levels of folders are searched for shards, the source included."


class RldsSource(Source):
    """TFRecord shards of episodes."""

    format = "rlds"

    @classmethod
    def open(cls, path: Path, camera: str = "", instructions: Path | None = None) -> "RldsSource":
        """Scan the shards of a folder (at most two folders down), or one shard.

        Raises:
            TrainingError: there is no shard, or no such camera. A damaged record is a problem of its episode.
        """
        files = shards_of(path)
        if not files:
            raise TrainingError(f"rlds data set {path} contains no *.tfrecord* file")
        cameras, chosen, entries = [], "", []
        for name, file, offset, data in _records(files):
            if isinstance(data, TrainingError):
                entries.append(Entry(name, "", 0, str(file), problem=str(data)))
                continue
            what = f"record {int(name[-6:])} of {file}"
            try:
                example = Example(data, what)
            except TrainingError as error:
                entries.append(Entry(name, "", 0, what, problem=str(error)))
                continue
            if not cameras:
                cameras = [key for key in sorted(example.names) if example.first(key).startswith(_MAGIC)]
                chosen = choose_camera(cameras, camera, path)
            entries.append(_entry(example, name, chosen, what, {"file": file, "offset": offset, "length": len(data)}))
        return cls(path, entries, chosen, cameras, _absent_shards(files))

    def frames(self, entry: Entry, indices: Sequence[int]) -> np.ndarray:
        """See `Source.frames`."""
        pictures = self._example(entry).pick(self.camera, list(indices))
        what = f"{self.camera} of episode {entry.id} in {entry.file}"
        return stack_frames(
            [read_picture(data, f"frame {i} of {what}") for i, data in zip(indices, pictures, strict=True)], what
        )

    def positions(self, entry: Entry, states: str) -> np.ndarray:
        """See `Source.positions`."""
        example = self._example(entry)
        names = (states, f"steps/{states}", f"steps/observation/{states}") if states else _POSITIONS
        for name in names:
            values = example.floats(name)
            if len(values) and len(values) % entry.length == 0:
                return values.reshape(entry.length, -1).astype(np.float64)
        known = [name for name in example.names if len(example.floats(name))]
        raise TrainingError(f"states must be one of {', '.join(known) or 'none'} in {entry.file}, got {states!r}")

    def _example(self, entry: Entry) -> Example:
        return _read_example(entry.place["file"], entry.place["offset"], entry.place["length"], entry.file)


def _records(files: list[Path]) -> Iterator[tuple[str, Path, int, bytes | TrainingError]]:
    """Name, file, offset and data of every record; a damaged one ends its file, since nothing after it can be found."""
    for file in files:
        match = _SHARD.match(file.name)
        prefix = safe_id("-".join(part for part in match.groups() if part) if match else file.name)
        number = 0
        try:
            for offset, data in scan_records(file):
                yield f"{prefix}-{number:06d}", file, offset, data
                number += 1
        except TrainingError as error:
            yield f"{prefix}-{number:06d}", file, 0, error


def _entry(example: Example, name: str, camera: str, what: str, place: dict) -> Entry:
    try:
        length = example.count(camera)
        if not length:
            raise TrainingError(f"{what} has no images in {camera!r}; it has {', '.join(example.names)}")
        return Entry(name, instruction(example, length, what), length, what, place)
    except TrainingError as error:
        return Entry(name, "", 0, what, problem=str(error))


def shards_of(path: Path) -> list[Path]:
    """TFRecord files at a path."""
    if path.is_file():
        return [path]
    found = [file for file in visible_files(path) if ".tfrecord" in file.name]
    return [file for file in found if len(file.relative_to(path).parts) <= _DEPTH]


def _absent_shards(files: list[Path]) -> list[str]:
    """One line for each incomplete set of numbered shards."""
    held: dict[tuple[str, int], set[int]] = defaultdict(set)
    for file in files:
        if match := _NUMBERED.match(file.name):
            held[str(file.parent / match["name"]), int(match["count"])].add(int(match["number"]))
    lines = []
    for (name, count), numbers in held.items():
        lacking = count - len(numbers)
        if lacking > 0:
            absent = (f"{number:05d}" for number in range(count) if number not in numbers)
            first = list(islice(absent, _SHOWN))
            more = f" and {lacking - len(first)} more" if lacking > len(first) else ""
            lines.append(f"{lacking} of {count} shards of {name} are missing: {', '.join(first)}{more}")
    return lines


@lru_cache(maxsize=2)
def _read_example(file: Path, offset: int, length: int, what: str) -> Example:
    return Example(read_at(file, offset, length), what)

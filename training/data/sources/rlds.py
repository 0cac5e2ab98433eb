"""RLDS data sets as TensorFlow Datasets writes them: TFRecord shards with an episode a record.

The fields of a step are flattened to `steps/...`, one list over all steps. Field names are those of Jaco Play, Bridge
V2 and RT-1 (fractal20220817_data); pictures are recognised by their content, so other RLDS sets work as well.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...errors import TrainingError
from .base import Entry, Source, choose_camera, safe_id
from .pictures import read_picture, stack_frames
from .tfrecord import Example, read_at, scan_records

_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF")
_INSTRUCTIONS = (
    "steps/language_instruction",
    "steps/observation/natural_language_instruction",
    "steps/natural_language_instruction",
    "steps/observation/language_instruction",
    "steps/observation/instruction",
    "episode_metadata/language_instruction",
    "language_instruction",
)
_POSITIONS = (
    "steps/observation/end_effector_cartesian_pos",
    "steps/observation/base_pose_tool_reached",
    "steps/observation/state",
)
_SHARD = re.compile(r"(?:.*-)?(?P<split>[A-Za-z_]+)\.tfrecord(?:-(?P<number>\d+)(?:-of-\d+)?)?$")


class RldsSource(Source):
    """TFRecord shards of episodes."""

    format = "rlds"

    @classmethod
    def open(cls, path: Path, camera: str = "", instructions: Path | None = None) -> "RldsSource":
        """Scan the shards of a folder (at most two folders down), or one shard.

        Raises:
            TrainingError: a shard is damaged, or there is no such camera.
        """
        files = shards_of(path)
        if not files:
            raise TrainingError(f"rlds data set {path} contains no *.tfrecord* file")
        entries, cameras, chosen = [], [], ""
        for file in files:
            match = _SHARD.match(file.name)
            prefix = "-".join(part for part in match.groups() if part) if match else safe_id(file.name)
            for number, (offset, data) in enumerate(scan_records(file)):
                what = f"record {number} of {file}"
                example = Example(data, what)
                if not cameras:
                    cameras = [name for name in sorted(example.names) if example.first(name).startswith(_MAGIC)]
                    chosen = choose_camera(cameras, camera, path)
                length = example.count(chosen)
                if not length:
                    raise TrainingError(f"{what} has no images in {chosen!r}; it has {', '.join(example.names)}")
                place = {"file": file, "offset": offset, "length": len(data)}
                name = f"{safe_id(prefix)}-{number:06d}"
                entries.append(Entry(name, _instruction(example, what), length, what, place))
        return cls(path, entries, chosen, cameras)

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


def shards_of(path: Path) -> list[Path]:
    """TFRecord files at a path."""
    if path.is_file():
        return [path]
    return sorted(file for depth in ("*", "*/*", "*/*/*") for file in path.glob(f"{depth}.tfrecord*") if file.is_file())


@lru_cache(maxsize=2)
def _read_example(file: Path, offset: int, length: int, what: str) -> Example:
    return Example(read_at(file, offset, length), what)


def _instruction(example: Example, what: str) -> str:
    """First text that is not empty, over all steps."""
    for name in _INSTRUCTIONS:
        for value in example.texts(name):
            if value.strip():
                try:
                    return value.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise TrainingError(f"{what}: {name} is not UTF-8 text") from error
    return ""

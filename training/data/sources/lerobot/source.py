"""LeRobot data sets as a source of episodes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import Field

from visual_planner.errors import PlannerError, brief, listed
from visual_planner.grid.frame import to_bytes, to_rgb

from ....errors import TrainingError
from ....files import read_json_lines
from ..base import Entry, Source, choose_camera
from ..names import inside, visible_files
from ..pictures import read_picture, stack_frames
from ..records import Count, Finite, Index, Record, checked
from ..video import open_video
from . import tables, texts
from .info import Info, check_states, fill, may_be_states, read_info


class LeRobotSource(Source):
    """A LeRobot data set."""

    format = "lerobot"

    def __init__(self, path: Path, entries: Sequence[Entry], camera: str, cameras: Sequence[str], info: Info) -> None:
        super().__init__(path, entries, camera, cameras)
        self.info = info
        self.is_video = info.is_video(camera)

    @classmethod
    def open(cls, path: Path, camera: str = "", instructions: Path | None = None) -> "LeRobotSource":
        """Read the tables of a folder.

        Raises:
            TrainingError: a table is missing or broken, the version is unknown, or there is no such camera.
        """
        info = read_info(path)
        chosen = choose_camera(info.cameras, camera, path)
        if info.is_video(chosen) and info.video_path is None:
            raise TrainingError(f"{path / 'meta' / 'info.json'} lacks 'video_path', which camera {chosen} needs")
        words = texts.task_texts(path)
        rows = _rows_v3(path, info, chosen) if info.is_v3 else _rows_v2(path)
        entries = [_entry(path, info, chosen, words, what, row, n) for n, (what, row) in enumerate(rows)]
        return cls(path, entries, chosen, info.cameras, info)

    def frames(self, entry: Entry, indices: Sequence[int]) -> np.ndarray:
        """See `Source.frames`."""
        if self.is_video:
            video = open_video(Path(entry.file))
            return video.at_times(self._times(entry)[list(indices)], 0.5 / self.info.fps)
        cells = self._column(entry, self.camera)
        return stack_frames([self._picture(cells[index], entry, index) for index in indices], f"episode {entry.id}")

    def thumbnails(self, entry: Entry) -> np.ndarray:
        """See `Source.thumbnails`."""
        if not self.is_video:
            return super().thumbnails(entry)
        video = open_video(Path(entry.file))
        return video.thumbnails(video.nearest(self._times(entry), 0.5 / self.info.fps).tolist())

    def times(self, entry: Entry) -> np.ndarray | None:
        """See `Source.times`."""
        if not self.is_video and "timestamp" not in tables.names_of(entry.place["table"]):
            return None
        return self._times(entry)

    def positions(self, entry: Entry, states: str) -> np.ndarray:
        """See `Source.positions`."""
        name, features = states or "observation.state", self.info.features
        numeric = [key for key, value in features.items() if may_be_states(value)]
        if name not in features:
            raise TrainingError(f"states must be one of {listed(numeric)} in {self.path}, got {brief(name)}")
        check_states(features[name], name, [key for key in numeric if key != name])
        rows = [row.as_py() for row in self._column(entry, name)]
        try:
            return np.array([np.atleast_1d(row) for row in rows], np.float64)
        except (TypeError, ValueError) as error:
            raise TrainingError(f"states {name!r} of episode {entry.id} must be rows of numbers: {error}") from error

    def _times(self, entry: Entry) -> np.ndarray:
        """When each frame is shown in its video file [s]."""
        rows = self._column(entry, "timestamp").to_pylist()
        try:
            times = np.array([np.nan if row is None else row for row in rows], np.float64).reshape(-1)
        except (TypeError, ValueError) as error:
            raise TrainingError(
                f"table {entry.place['table']} must have numbers as timestamp, got {brief(rows[0])}"
            ) from error
        if len(times) != entry.length or not np.isfinite(times).all():
            raise TrainingError(
                f"table {entry.place['table']} must have {entry.length} rows of episode {entry.id} according to the "
                f"metadata, got {len(times)} ({np.isfinite(times).sum()} with a time)"
            )
        if (backwards := np.flatnonzero(np.diff(times) < 0)).size:
            raise TrainingError(
                f"timestamp in table {entry.place['table']} must ascend, got {times[backwards[0]]:g} and then "
                f"{times[backwards[0] + 1]:g} in episode {entry.id}"
            )
        return times + entry.place["from"]

    def _column(self, entry: Entry, name: str) -> pa.Array:
        """Values of a column in the rows of an episode."""
        table = entry.place["table"]
        heavy = self.info.features.get(name, {}).get("dtype") == "image"
        values = tables.column(table, entry.place["episode"], name, heavy)
        if len(values) != entry.length:
            raise TrainingError(
                f"table {table} must have {entry.length} rows of episode {entry.id} according to the "
                f"metadata, got {len(values)}"
            )
        return values

    def _picture(self, cell: pa.Scalar, entry: Entry, index: int) -> np.ndarray:
        """A picture of a table: encoded bytes, the name of a file, both in one struct, or its values in lists."""
        value = cell.as_py()
        what = f"frame {index} of {self.camera}, episode {entry.id}, in {entry.place['table']}"
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes) and value:
            return read_picture(value, what)
        if isinstance(value, str) and value:
            return read_picture(inside(self.path, value, what), what)
        if isinstance(value, list) and value:
            return _of_values(value, self.info.features[self.camera].get("shape"), what)
        raise TrainingError(f"{what} is empty" if not value else f"{what} must be a picture, got {brief(value)}")


def _of_values(value: list, shape: object, what: str) -> np.ndarray:
    """Picture (H, W, 3) uint8 from nested lists: rows of pixels, planes, or flat values in the feature's shape."""
    try:
        pixels = np.array(value)
        if pixels.ndim == 1 and isinstance(shape, list):
            pixels = pixels.reshape(shape)
        if pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4) and pixels.shape[2] not in (1, 3, 4):
            pixels = pixels.transpose(1, 2, 0)
        return to_bytes(to_rgb(pixels)[0])
    except (PlannerError, TypeError, ValueError) as error:
        raise TrainingError(f"{what} must be a picture: {error}") from error


class _Episode(Record):
    """The fields of an episode that records of every version have."""

    episode_index: Index
    length: Count
    tasks: object = None


class _Stored(_Episode):
    """A row of meta/episodes (v3)."""

    data_chunk: Index = Field(alias="data/chunk_index")
    data_file: Index = Field(alias="data/file_index")


class _Shown(Record):
    """Where a row's video is (v3)."""

    chunk_index: Index
    file_index: Index
    from_timestamp: Annotated[Finite, Field(ge=0)]


def _rows_v3(path: Path, info: Info, camera: str) -> Iterator[tuple[str, dict]]:
    """Rows of meta/episodes with the file and number of each."""
    files = visible_files(path / "meta" / "episodes", (".parquet",))
    if not files:
        raise TrainingError(f"LeRobot data set {path} has no meta/episodes/*/*.parquet")
    needed = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    if info.is_video(camera):
        needed += [f"videos/{camera}/{name}" for name in _Shown.model_fields]
    for file in files:
        table = tables.read_table(file, [*needed, "tasks"])
        if lacking := [name for name in needed if name not in table.column_names]:
            raise TrainingError(f"table {file} lacks the columns {', '.join(lacking)}")
        yield from ((f"{file} row {number}", row) for number, row in enumerate(table.to_pylist()))


def _rows_v2(path: Path) -> Iterator[tuple[str, dict]]:
    file = path / "meta" / "episodes.jsonl"
    return ((f"{file} line {number}", row) for number, row in read_json_lines(file, "LeRobot episodes"))


def _entry(path: Path, info: Info, camera: str, words: dict[int, str], what: str, row: dict, number: int) -> Entry:
    """Episode of a row; what is wrong with the row becomes that episode's `problem`."""
    name = f"row-{number:06d}"
    try:
        record = checked(_Stored if info.is_v3 else _Episode, row, what)
        index = record.episode_index
        name, data, shown_in, start = f"{index:06d}", *_places(path, info, camera, row, record, what)
        place = {"episode": index, "table": data, "from": start}
        text = texts.instruction(record.tasks, words, data, index)
        return Entry(name, text, record.length, str(shown_in), place)
    except TrainingError as error:
        return Entry(name, "", 0, what, problem=str(error))


def _places(path: Path, info: Info, camera: str, row: dict, record: Record, what: str) -> tuple[Path, Path, float]:
    """Table and file of the pictures of an episode, and where it begins in the latter [s]."""
    if info.is_v3:
        numbers = {"chunk_index": record.data_chunk, "file_index": record.data_file}
        data = fill(path, info.data_path, **numbers)
        if not info.is_video(camera):
            return data, data, 0.0
        held = {name: row[f"videos/{camera}/{name}"] for name in _Shown.model_fields}
        video = checked(_Shown, held, f"{what} (videos/{camera})")
        numbers = {"chunk_index": video.chunk_index, "file_index": video.file_index}
        return data, fill(path, info.video_path, video_key=camera, **numbers), float(video.from_timestamp)
    numbers = {"episode_chunk": record.episode_index // info.chunks_size, "episode_index": record.episode_index}
    data = fill(path, info.data_path, **numbers)
    return data, fill(path, info.video_path, video_key=camera, **numbers) if info.is_video(camera) else data, 0.0

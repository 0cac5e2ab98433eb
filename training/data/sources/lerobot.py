"""LeRobot data sets v3.0 and v2.x: a folder, or an id on the Hugging Face hub.

Paths always follow the templates in meta/info.json. v3 keeps many episodes in one file and says in meta/episodes
where each begins; v2 has a file an episode. Pictures are videos, or encoded pictures in the tables.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import TrainingError
from ...files import read_json, read_json_lines
from .base import Entry, Source, choose_camera
from .pictures import read_picture, stack_frames
from .video import open_video

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class LeRobotSource(Source):
    """A LeRobot data set."""

    format = "lerobot"

    def __init__(self, path: Path, entries: Sequence[Entry], camera: str, cameras: Sequence[str], info: dict) -> None:
        super().__init__(path, entries, camera, cameras)
        self.info = info
        self.is_video = info["features"][camera]["dtype"] == "video"

    @classmethod
    def open(cls, path: Path, camera: str = "", instructions: Path | None = None) -> "LeRobotSource":
        """Read the tables of a folder, or of a hub id that is fetched first.

        Raises:
            TrainingError: a table is missing or broken, the version is unknown, or there is no such camera.
        """
        if not path.exists() and _HUB_ID.fullmatch(path.as_posix()):
            path = fetch(path.as_posix(), camera)
        info = read_json(path / "meta" / "info.json", "LeRobot data set")
        version = str(info.get("codebase_version", ""))
        if not version.startswith(("v2.", "v3.")):
            raise TrainingError(
                f"{path / 'meta' / 'info.json'}: codebase_version must be v2.x or v3.x, got {version!r}"
            )
        for key in ("features", "fps", "data_path"):
            if key not in info:
                raise TrainingError(f"{path / 'meta' / 'info.json'} lacks {key!r}")
        cameras = [name for name, feature in info["features"].items() if feature.get("dtype") in ("image", "video")]
        chosen = choose_camera(cameras, camera, path)
        read = _entries_v3 if version.startswith("v3.") else _entries_v2
        return cls(path, read(path, info, chosen), chosen, cameras, info)

    def frames(self, entry: Entry, indices: Sequence[int]) -> np.ndarray:
        """See `Source.frames`."""
        if self.is_video:
            video = open_video(Path(entry.file))
            return video.at_times(self._times(entry)[list(indices)], 0.5 / self.info["fps"])
        cells = self._column(entry, self.camera)
        return stack_frames([self._picture(cells[index], entry, index) for index in indices], f"episode {entry.id}")

    def thumbnails(self, entry: Entry) -> np.ndarray:
        """See `Source.thumbnails`."""
        if not self.is_video:
            return super().thumbnails(entry)
        video = open_video(Path(entry.file))
        return video.thumbnails(video.index_of(self._times(entry)[0]), entry.length)

    def positions(self, entry: Entry, states: str) -> np.ndarray:
        """See `Source.positions`."""
        name = states or "observation.state"
        if name not in self.info["features"]:
            numeric = [
                key for key, value in self.info["features"].items() if str(value.get("dtype")).startswith("float")
            ]
            raise TrainingError(f"states must be one of {', '.join(numeric)} in {self.path}, got {name!r}")
        return np.array([np.atleast_1d(row.as_py()) for row in self._column(entry, name)], np.float64)

    def _times(self, entry: Entry) -> np.ndarray:
        """When each frame is shown in its video file [s]."""
        times = np.array(self._column(entry, "timestamp").to_numpy(zero_copy_only=False), np.float64).reshape(-1)
        if len(times) != entry.length or not np.isfinite(times).all():
            raise TrainingError(
                f"table {entry.place['table']} must have {entry.length} rows of episode {entry.id} according to the "
                f"metadata, got {len(times)} ({np.isfinite(times).sum()} with a time)"
            )
        return times + entry.place["from"]

    def _column(self, entry: Entry, name: str) -> pa.Array:
        """Values of a column in the rows of an episode."""
        table, number = entry.place["table"], entry.place["episode"]
        heavy = self.info["features"].get(name, {}).get("dtype") == "image"
        try:
            values = _rows_of(table, number, name) if heavy else _light_column(table, name)[_where(table, number)]
        except (KeyError, pa.ArrowInvalid, OSError) as error:
            raise TrainingError(f"table {table} cannot be read ({name}): {error}") from error
        if len(values) != entry.length:
            raise TrainingError(
                f"table {table} must have {entry.length} rows of episode {entry.id} according to the "
                f"metadata, got {len(values)}"
            )
        return values

    def _picture(self, cell: pa.StructScalar, entry: Entry, index: int) -> np.ndarray:
        value = cell.as_py()
        what = f"frame {index} of {self.camera}, episode {entry.id}, in {entry.place['table']}"
        if value and value.get("bytes"):
            return read_picture(value["bytes"], what)
        name = (value or {}).get("path")
        if not name:
            raise TrainingError(f"{what} is empty")
        file = (self.path / name).resolve()
        if not file.is_relative_to(self.path.resolve()):
            raise TrainingError(f"{what} must lie in the data set's folder, got {name!r}")
        return read_picture(file, f"{what} ({file})")


def _entries_v3(path: Path, info: dict, camera: str) -> list[Entry]:
    files = sorted((path / "meta" / "episodes").glob("**/*.parquet"))
    if not files:
        raise TrainingError(f"LeRobot data set {path} has no meta/episodes/*/*.parquet")
    texts = _task_texts(path)
    is_video = info["features"][camera]["dtype"] == "video"
    video = f"videos/{camera}/"
    needed = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    needed += [video + name for name in ("chunk_index", "file_index", "from_timestamp")] if is_video else []
    entries = []
    for file in files:
        table = _read_table(file, [*needed, "tasks"])
        if lacking := [name for name in needed if name not in table.column_names]:
            raise TrainingError(f"table {file} lacks the columns {', '.join(lacking)}")
        for row in table.to_pylist():
            number = row["episode_index"]
            data = _fill(
                path, info["data_path"], chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
            )
            shown, start = data, 0.0
            if is_video:
                numbers = {name: row[video + name] for name in ("chunk_index", "file_index")}
                shown, start = (
                    _fill(path, info["video_path"], video_key=camera, **numbers),
                    row[video + "from_timestamp"],
                )
            place = {"episode": number, "table": data, "from": float(start)}
            instruction = _first_text(row.get("tasks"), texts) or _text_in_table(data, number, texts)
            entries.append(Entry(f"{number:06d}", instruction, int(row["length"]), str(shown), place))
    return entries


def _entries_v2(path: Path, info: dict, camera: str) -> list[Entry]:
    texts = _task_texts(path)
    is_video = info["features"][camera]["dtype"] == "video"
    chunk = info.get("chunks_size") or 1000
    entries = []
    for number, row in read_json_lines(path / "meta" / "episodes.jsonl", "LeRobot episodes"):
        if "episode_index" not in row or "length" not in row:
            raise TrainingError(f"{path / 'meta' / 'episodes.jsonl'} line {number} lacks episode_index or length")
        index = row["episode_index"]
        numbers = {"episode_chunk": index // chunk, "episode_index": index}
        data = _fill(path, info["data_path"], **numbers)
        shown = _fill(path, info["video_path"], video_key=camera, **numbers) if is_video else data
        instruction = _first_text(row.get("tasks"), texts) or _text_in_table(data, index, texts)
        place = {"episode": index, "table": data, "from": 0.0}
        entries.append(Entry(f"{index:06d}", instruction, int(row["length"]), str(shown), place))
    return entries


def _fill(path: Path, template: str, **values: object) -> Path:
    """A path of a template of info.json, within the data set's folder."""
    try:
        name = template.format(**values)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise TrainingError(
            f"{path / 'meta' / 'info.json'}: path template {template!r} cannot be filled: {error}"
        ) from error
    file = path / name
    if not file.resolve().is_relative_to(path.resolve()):
        raise TrainingError(f"{path / 'meta' / 'info.json'}: path template {template!r} leaves the data set's folder")
    return file


def _task_texts(path: Path) -> dict[int, str]:
    """Text of each task number, from tasks.parquet (v3: the text is the index) or tasks.jsonl (v2)."""
    file = path / "meta" / "tasks.parquet"
    if file.is_file():
        table = _read_table(file, None)
        words = [name for name in table.column_names if pa.types.is_string(table.schema.field(name).type)
                 or pa.types.is_large_string(table.schema.field(name).type)]  # fmt: skip
        if not words or "task_index" not in table.column_names:
            raise TrainingError(f"table {file} must have task_index and a text column, got {table.column_names}")
        column = next((name for name in ("task", "__index_level_0__") if name in words), words[0])
        return dict(zip(table["task_index"].to_pylist(), table[column].to_pylist(), strict=True))
    if not (path / "meta" / "tasks.jsonl").is_file():
        return {}
    rows = [row for _, row in read_json_lines(path / "meta" / "tasks.jsonl", "LeRobot tasks")]
    return {row["task_index"]: row["task"] for row in rows if "task" in row and "task_index" in row}


def _first_text(tasks: object, texts: dict[int, str]) -> str:
    """First text among an episode's tasks, which are texts or numbers of texts."""
    items = tasks if isinstance(tasks, list) else [] if tasks is None else [tasks]
    found = [texts.get(item, "") if isinstance(item, int) else str(item) for item in items]
    return next((text for text in found if text.strip()), "")


def _text_in_table(table: Path, number: int, texts: dict[int, str]) -> str:
    """Instruction from an episode's rows: a text column, or task_index."""
    if not table.is_file():
        return ""
    names = pq.read_schema(table).names
    for name in ("language_instruction", "instruction", "task"):
        if name in names and (
            found := [text for text in _light_column(table, name)[_where(table, number)].to_pylist() if text]
        ):
            return str(found[0])
    if "task_index" not in names:
        return ""
    rows = _light_column(table, "task_index")[_where(table, number)].to_pylist()
    return next((texts[row] for row in rows if row in texts), "")


def _read_table(file: Path, columns: list[str] | None) -> pa.Table:
    try:
        known = pq.read_schema(file).names
        # one handle, not a data set: folder names such as chunk-000 must not become columns
        return pq.ParquetFile(file).read([name for name in columns if name in known] if columns else None)
    except (pa.ArrowInvalid, OSError) as error:
        raise TrainingError(f"table {file} cannot be read: {error}") from error


@lru_cache(maxsize=32)
def _light_column(table: Path, name: str) -> "_Column":
    return _Column(pq.ParquetFile(table).read([name])[name].combine_chunks())


class _Column:
    """A column that is indexed by an array of rows."""

    def __init__(self, values: pa.Array) -> None:
        self.values = values

    def __getitem__(self, rows: np.ndarray) -> pa.Array:
        return self.values.take(pa.array(rows))


@lru_cache(maxsize=256)
def _where(table: Path, episode: int) -> np.ndarray:
    """Rows of an episode in a table; a table without episode_index holds one episode."""
    if "episode_index" not in pq.read_schema(table).names:
        return np.arange(pq.read_metadata(table).num_rows)
    return np.flatnonzero(_light_column(table, "episode_index").values.to_numpy(zero_copy_only=False) == episode)


def _rows_of(table: Path, episode: int, name: str) -> pa.Array:
    """Values of a heavy column, reading only the row groups that hold the episode."""
    rows, file = _where(table, episode), pq.ParquetFile(table)
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    groups = sorted(set((np.searchsorted(starts, rows, "right") - 1).tolist()))
    held = np.concatenate([np.arange(starts[group], starts[group + 1]) for group in groups]) if groups else rows
    values = file.read_row_groups(groups, [name])[name].combine_chunks()
    return values.take(pa.array(np.searchsorted(held, rows)))


def fetch(repository: str, camera: str) -> Path:
    """Local folder of a hub data set: tables, and the videos of the chosen camera.

    Raises:
        TrainingError: huggingface_hub is missing, or the hub cannot be reached, or has no such data set.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise TrainingError(
            f"{repository} is not a folder; to fetch it as a hub id, install huggingface_hub"
        ) from error
    try:
        settings = {"repo_type": "dataset", "allow_patterns": ["meta/*", "meta/**"]}
        folder = Path(snapshot_download(repository, **settings))
        info = read_json(folder / "meta" / "info.json", "LeRobot data set")
        cameras = [name for name, value in info.get("features", {}).items() if value.get("dtype") in ("image", "video")]
        chosen = choose_camera(cameras, camera, folder)
        wanted = [
            "meta/*",
            "meta/**",
            "data/**",
            f"videos/**/{chosen}/**",
            f"videos/{chosen}/**",
            f"images/{chosen}/**",
        ]
        return Path(snapshot_download(repository, repo_type="dataset", allow_patterns=wanted))
    except LocalEntryNotFoundError as error:
        raise TrainingError(
            f"{repository} is not a folder, and the Hugging Face hub cannot be reached to fetch a data set of that name"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TrainingError(
            f"{repository} is not a folder, and cannot be fetched from the Hugging Face hub: {reason}"
        ) from error

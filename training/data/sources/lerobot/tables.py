"""Columns of Parquet tables, read once and indexed by episode."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from visual_planner.errors import plain

from ....errors import TrainingError


@contextmanager
def reading(table: Path, what: str = "") -> Iterator[None]:
    """Turn what the library raises for a file that is missing, damaged or of other types into a TrainingError."""
    try:
        yield
    except (pa.ArrowException, OSError, KeyError, IndexError, TypeError, OverflowError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(
            f"table {plain(str(table), 300)} cannot be read{f' ({what})' if what else ''}: {reason}"
        ) from error


def read_table(file: Path, columns: list[str] | None) -> pa.Table:
    """A whole table, or those of its columns that `columns` names.

    Raises:
        TrainingError: it cannot be read.
    """
    with reading(file):
        known = pq.read_schema(file).names
        # one handle, not a data set: folder names such as chunk-000 must not become columns
        return _sound(pq.ParquetFile(file).read([name for name in columns if name in known] if columns else None))


def _sound(values):
    """Check that texts are UTF-8 and offsets lie within the data, which the library does not; returns the values."""
    values.validate(full=True)
    return values


def names_of(table: Path) -> list[str]:
    """Names of a table's columns."""
    with reading(table):
        return pq.read_schema(table).names


def column(table: Path, episode: int, name: str, heavy: bool = False) -> pa.Array:
    """Values of a column in the rows of an episode.

    Args:
        table: file.
        episode: number of the episode.
        name: name of the column.
        heavy: whether the column holds pictures, of which only the needed row groups are read.

    Raises:
        TrainingError: the table cannot be read, or has no such column.
    """
    with reading(table, name):
        return _rows_of(table, episode, name) if heavy else _light_column(table, name)[_where(table, episode)]


@lru_cache(maxsize=32)
def _light_column(table: Path, name: str) -> "_Column":
    return _Column(_sound(pq.ParquetFile(table).read([name])[name].combine_chunks()))


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
    numbers = _light_column(table, "episode_index").values
    if not (pa.types.is_integer(numbers.type) or pa.types.is_floating(numbers.type)):
        raise TypeError(f"episode_index must be numbers, got {numbers.type}")
    return np.flatnonzero(numbers.to_numpy(zero_copy_only=False) == episode)


def _rows_of(table: Path, episode: int, name: str) -> pa.Array:
    """Values of a heavy column, reading only the row groups that hold the episode."""
    rows, file = _where(table, episode), pq.ParquetFile(table)
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    groups = sorted(set((np.searchsorted(starts, rows, "right") - 1).tolist()))
    held = np.concatenate([np.arange(starts[group], starts[group + 1]) for group in groups]) if groups else rows
    values = _sound(file.read_row_groups(groups, [name])[name].combine_chunks())
    return values.take(pa.array(np.searchsorted(held, rows)))

"""Instructions, wherever the format keeps them: with the episode, in a column of its rows, or by number of a task."""

from pathlib import Path

import pyarrow as pa

from ....errors import TrainingError
from ....files import read_json_lines
from ..records import Index, Record, checked, instruction_of
from .tables import column, names_of, read_table

_COLUMNS = (
    "language_instruction", "language_instruction_2", "language_instruction_3", "instruction", "task",
)  # fmt: skip


class _Task(Record):
    """A line of tasks.jsonl."""

    task_index: Index


def task_texts(path: Path) -> dict[int, str]:
    """Text of each task number, from tasks.parquet (v3: the text is the index) or tasks.jsonl (v2).

    Raises:
        TrainingError: a table is broken, or a task has no number.
    """
    file = path / "meta" / "tasks.parquet"
    if file.is_file():
        table = read_table(file, None)
        words = [name for name in table.column_names if pa.types.is_string(table.schema.field(name).type)
                 or pa.types.is_large_string(table.schema.field(name).type)]  # fmt: skip
        if not words or "task_index" not in table.column_names:
            raise TrainingError(f"table {file} must have task_index and a text column, got {table.column_names}")
        name = next((name for name in ("task", "__index_level_0__") if name in words), words[0])
        pairs = zip(table["task_index"].to_pylist(), table[name].to_pylist(), strict=True)
        return {number: instruction_of(text) for number, text in pairs if isinstance(number, int)}
    file = path / "meta" / "tasks.jsonl"
    if not file.is_file():
        return {}
    rows = [(f"{file} line {n}", row) for n, row in read_json_lines(file, "LeRobot tasks") if "task" in row]
    return {
        checked(_Task, row, what).task_index: instruction_of(row["task"]) for what, row in rows if "task_index" in row
    }


def instruction(tasks: object, texts: dict[int, str], table: Path, episode: int) -> str:
    """Instruction of an episode; "" if nothing is a text.

    Args:
        tasks: from the episode's record: texts or numbers of texts, one or a list.
        texts: text by number.
        table: file with the episode's rows; it may be missing.
        episode: number of the episode.

    Raises:
        TrainingError: the table cannot be read.
    """
    items = tasks if isinstance(tasks, list) else [tasks]
    found = [_by_number(item, texts) or instruction_of(item) for item in items]
    return next((text for text in found if text), "") or _in_table(table, episode, texts)


def _by_number(item: object, texts: dict[int, str]) -> str:
    whole = isinstance(item, int | float) and not isinstance(item, bool)
    return texts.get(item, "") if whole else ""


def _in_table(table: Path, episode: int, texts: dict[int, str]) -> str:
    """Instruction from an episode's rows: a text column, or task_index."""
    if not table.is_file():
        return ""
    names = names_of(table)
    for name in _COLUMNS:
        if name in names:
            found = [text for value in column(table, episode, name).to_pylist() if (text := instruction_of(value))]
            if found:
                return found[0]
    if "task_index" not in names:
        return ""
    rows = column(table, episode, "task_index").to_pylist()
    return next((text for row in rows if (text := _by_number(row, texts))), "")

"""The instruction of each file: from CSV, JSON lines or text beside the videos."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from visual_planner.errors import brief
from visual_planner.text import one_line, text_lines

from ....errors import TrainingError
from ....files import read_json_lines, read_text
from ..names import is_hidden, plain

NAMES = tuple(f"{stem}.{suffix}" for stem in ("instructions", "metadata") for suffix in ("csv", "jsonl", "txt"))
_FILE_KEYS = ("file", "file_name", "video", "folder", "episode", "id", "name")
_TEXT_KEYS = ("instruction", "text", "caption", "task", "prompt")


def read_instructions(folder: Path, given: Path | None) -> dict[str, str]:
    """Instruction by name (as `plain` writes it) from the file given or found in the folder; empty without a file.

    CSV has a heading and commas, semicolons or tabs between its cells; JSON lines have objects; a name is in one of
    `_FILE_KEYS`, a text in one of `_TEXT_KEYS`. A line of text is a name, a tab, and the instruction; a single line
    without a tab holds for every episode ("*"). An instruction is on one line: line breaks in it become spaces.

    Raises:
        TrainingError: the file is missing or a line of it cannot be understood, or two files say different things.
    """
    if given is not None:
        return _read(given)
    names = {file.name.lower(): file for file in sorted(folder.iterdir()) if not is_hidden(file.name)}
    files = [names[name] for name in NAMES if name in names and names[name].is_file()]
    if not files:
        return {}
    first = _read(files[0])
    for other in files[1:]:
        try:
            differs = _read(other) != first
        except TrainingError:
            continue  # serves another purpose
        if differs:
            raise TrainingError(
                f"{files[0]} and {other.name} say different things: choose one with prepare.instructions, or remove one"
            )
    return first


def _read(file: Path) -> dict[str, str]:
    readers = {".csv": _csv_rows, ".jsonl": _json_rows, ".txt": _text_rows}
    if not file.is_file():
        raise TrainingError(f"instructions {file} do not exist")
    if file.suffix.lower() not in readers:
        raise TrainingError(f"instructions {file} must be .csv, .jsonl or .txt")
    found: dict[str, str] = {}
    for number, name, text in readers[file.suffix.lower()](file):
        if name in found:
            raise TrainingError(f"instructions {file} line {number} names {brief(name)} a second time")
        found[name] = text
    return found


def _text_rows(file: Path) -> Iterator[tuple[int, str, str]]:
    text = read_text(file, "instructions")
    lines = [(number, line) for number, line in enumerate(text_lines(text), 1) if line.strip()]
    if len(lines) == 1 and "\t" not in lines[0][1]:
        yield lines[0][0], "*", one_line(lines[0][1])
        return
    for number, line in lines:
        name, tab, words = line.partition("\t")
        if not tab:
            raise TrainingError(
                f"instructions {file} line {number} must be a name, a tab and an instruction, got {brief(line)}"
            )
        yield number, plain(name), one_line(words)


def _csv_rows(file: Path) -> Iterator[tuple[int, str, str]]:
    text = read_text(file, "instructions")
    heading = next((line for line in text_lines(text) if line.strip()), "")
    delimiter = next((mark for mark in ",;\t" if mark in heading), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    keys: list[str] = []
    try:
        for cells in reader:
            number = reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if not keys:
                keys = [cell.strip().lower() for cell in cells]
                continue
            if len(cells) > len(keys):
                raise TrainingError(
                    f"instructions {file} line {number} must have {len(keys)} cells as the heading has, got "
                    f"{len(cells)}: a text with {delimiter!r} in it must be in quotes"
                )
            yield _row(file, number, dict(zip(keys, cells, strict=False)))
    except csv.Error as error:
        raise TrainingError(f"instructions {file} line {reader.line_num} cannot be read as CSV: {error}") from error


def _json_rows(file: Path) -> Iterator[tuple[int, str, str]]:
    return (_row(file, number, row) for number, row in read_json_lines(file, "instructions"))


def _row(file: Path, number: int, row: dict) -> tuple[int, str, str]:
    what = f"instructions {file} line {number}"
    name = next((row[key] for key in _FILE_KEYS if row.get(key)), None)
    texts = [row[key] for key in _TEXT_KEYS if key in row]
    text = next((text for text in texts if text is not None), "" if texts else None)
    if not isinstance(name, str) or text is None:
        raise TrainingError(
            f"{what} must have a name (one of {', '.join(_FILE_KEYS)}) and a text (one of {', '.join(_TEXT_KEYS)}), "
            f"got the keys {brief(', '.join(str(key) for key in row))}"
        )
    if not isinstance(text, str) or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise TrainingError(f"{what} must have a text as instruction, got {brief(text)}")
    return number, plain(name), one_line(text)

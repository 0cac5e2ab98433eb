"""Which file was told what: CSV, JSON lines or text beside the videos."""

import csv
from pathlib import Path

from ...errors import TrainingError
from ...files import read_json_lines

NAMES = tuple(f"{stem}.{suffix}" for stem in ("instructions", "metadata") for suffix in ("csv", "jsonl", "txt"))
_FILE_KEYS = ("file", "file_name", "video", "folder", "episode", "id", "name")
_TEXT_KEYS = ("instruction", "text", "caption", "task", "prompt")


def read_instructions(folder: Path, given: Path | None) -> dict[str, str]:
    """Instruction by name, as it stands there, of the file given or found in the folder; none gives nothing.

    CSV has a heading; JSON lines have objects; a name is in one of `_FILE_KEYS`, a text in one of `_TEXT_KEYS`. A line
    of text is a name, a tab, and the instruction; a single line without a tab holds for every episode ("*").

    Raises:
        TrainingError: the file is missing or a line of it cannot be understood.
    """
    file = given or next((folder / name for name in NAMES if (folder / name).is_file()), None)
    if file is None:
        return {}
    if not file.is_file():
        raise TrainingError(f"instructions {file} do not exist")
    if file.suffix not in (".csv", ".jsonl", ".txt"):
        raise TrainingError(f"instructions {file} must be .csv, .jsonl or .txt")
    reader = {".csv": _csv_rows, ".jsonl": _json_rows, ".txt": _text_rows}[file.suffix]
    found: dict[str, str] = {}
    for number, name, text in reader(file):
        if name in found:
            raise TrainingError(f"instructions {file} line {number} names {name!r} a second time")
        found[name] = text
    return found


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"instructions {file} cannot be read: {error}") from error


def _text_rows(file: Path) -> list[tuple[int, str, str]]:
    lines = [(number, line) for number, line in enumerate(_read_text(file).splitlines(), 1) if line.strip()]
    if len(lines) == 1 and "\t" not in lines[0][1]:
        return [(lines[0][0], "*", lines[0][1].strip())]
    rows = []
    for number, line in lines:
        name, tab, text = line.partition("\t")
        if not tab:
            raise TrainingError(
                f"instructions {file} line {number} must be a name, a tab and an instruction, got {line!r}"
            )
        rows.append((number, name.strip(), text.strip()))
    return rows


def _csv_rows(file: Path) -> list[tuple[int, str, str]]:
    reader = csv.DictReader(_read_text(file).splitlines())
    return [_row(file, number, row) for number, row in enumerate(reader, 2)]


def _json_rows(file: Path) -> list[tuple[int, str, str]]:
    return [_row(file, number, row) for number, row in read_json_lines(file, "instructions")]


def _row(file: Path, number: int, row: dict) -> tuple[int, str, str]:
    name = next((row[key] for key in _FILE_KEYS if row.get(key)), None)
    text = next((row[key] for key in _TEXT_KEYS if row.get(key) is not None), None)
    if not isinstance(name, str) or not isinstance(text, str):
        raise TrainingError(
            f"instructions {file} line {number} must have a name (one of {', '.join(_FILE_KEYS)}) and a text "
            f"(one of {', '.join(_TEXT_KEYS)}), got the keys {', '.join(str(key) for key in row)}"
        )
    return number, name.strip(), text.strip()

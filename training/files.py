"""Write files atomically: under a temporary name in the same folder, then a rename."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from runtime import writing
from runtime.names import NAME_BYTES, is_file_name
from visual_planner.errors import PlannerError, brief, plain
from visual_planner.json_text import json_record
from visual_planner.text import decode_text, text_lines

from .errors import TrainingError, WritingError

ROOT = Path(__file__).resolve().parents[1]
"""Folder of the project."""
_FAILURES = (OSError, SafetensorError)
"""Errors of the libraries that write files."""


def replacing(path: str | Path) -> AbstractContextManager[Path]:
    """A temporary path beside `path`, renamed to `path` if the block succeeds and removed if it does not.

    Raises:
        WritingError: the folder cannot be written, or the disk is full.
    """
    return writing.replacing(path, WritingError, _FAILURES)


def filling(folder: str | Path) -> AbstractContextManager[Path]:
    """A temporary folder whose files replace those of the same names in `folder` if the block succeeds.

    Raises:
        WritingError: the folder cannot be written, or the disk is full.
    """
    return writing.filling(folder, WritingError, (*_FAILURES, WritingError))


def new_folder(folder: str | Path) -> AbstractContextManager[Path]:
    """See `runtime.writing.new_folder`.

    Raises:
        WritingError: it cannot be written, or exists already.
    """
    return writing.new_folder(folder, WritingError)


def append_text(path: str | Path, text: str, sync: bool = False) -> None:
    """Add UTF-8 text to a file; with `sync` it is on disk when this returns.

    Raises:
        WritingError: it cannot be written; the file is as it was.
    """
    writing.append(path, text, WritingError, sync)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: object) -> None:
    """Write a value as indented JSON."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_bytes(path: str | Path, what: str) -> bytes:
    """Content of a file.

    Raises:
        TrainingError: it is missing, is not a file, or cannot be read; `what` names it.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise TrainingError(f"{what} {path} does not exist")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise TrainingError(f"{what} {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def read_text(path: str | Path, what: str) -> str:
    """Text of a file; see `decode_text` for the encodings.

    Raises:
        TrainingError: the file is missing or is not text; `what` names it.
    """
    return decode_text(read_bytes(path, what), f"{what} {path}", TrainingError)


def read_json(path: str | Path, what: str) -> dict:
    """Read a JSON object.

    Raises:
        TrainingError: the file is missing or is not a JSON object; `what` names it.
    """
    return json_object(read_bytes(path, what), f"{what} {path}")


def json_object(data: bytes | str, name: str) -> dict:
    """Parse a text that must be a JSON object.

    Raises:
        TrainingError: it is not; `name` names the text.
    """
    return json_record(data, name, TrainingError)


def read_json_lines(path: str | Path, what: str) -> list[tuple[int, dict]]:
    """Read a file of JSON objects, one per line, with the number of each line from 1; blank lines are left out.

    Raises:
        TrainingError: the file is missing, or a line of it is not a JSON object; `what` names the file.
    """
    return [(number, record) for number, _, record in each_json_line(path, what)]


def each_json_line(path: str | Path, what: str) -> Iterator[tuple[int, str, dict]]:
    """As `read_json_lines`, one after the other, with each line's text between its number and its object."""
    for number, line in enumerate(text_lines(read_text(path, what)), 1):
        if line.strip():
            yield number, line, json_object(line, f"{what} {path} line {number}")


@contextmanager
def as_record(what: str) -> Iterator[None]:
    """Within the block, use a record that this project wrote without checking its form first.

    Raises:
        TrainingError: it lacks something, or holds a value of another kind; `what` names it.
    """
    try:
        yield
    except PlannerError:
        raise
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        reason = (
            f"it lacks {brief(error.args[0])}" if isinstance(error, KeyError) and error.args else plain(str(error), 200)
        )
        raise TrainingError(f"{what} is not the record that was written there: {reason}") from error


def file_name(name: object, what: str) -> str:
    """Check a name from data that will be used as a file name.

    Args:
        name: as it was read.
        what: names the data and the key in messages.

    Raises:
        TrainingError: it is not a plain name (see `runtime.names.is_file_name`) and could lead out of the folder.
    """
    if not is_file_name(name):
        raise TrainingError(
            f"{what} must be a plain file name of at most {NAME_BYTES} bytes (no folders, no control characters), "
            f"got {brief(name)}"
        )
    return name


def write_tensors(path: str | Path, tensors: dict, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_sorted(tensors, temporary, metadata)


def save_sorted(tensors: dict, file: Path, metadata: dict[str, str] | None = None) -> None:
    """`save_file` with the header's entries sorted: safetensors itself writes them in a different order each time."""
    save_file(tensors, file, metadata=metadata)
    if not metadata:
        return
    with file.open("r+b") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
        if len(text) != size:
            raise TrainingError(f"the header of {file} cannot be put in order: {len(text)} bytes instead of {size}")
        stream.seek(8)
        stream.write(text)


def tensor_digest(path: str | Path, leave_out: tuple[str, ...] = ()) -> str:
    """SHA-256 (hexadecimal) of the tensors of a safetensors file whose name does not start with `leave_out`."""
    total = hashlib.sha256()
    with safe_open(path, "pt") as file:
        for name in sorted(file.keys()):
            if not name.startswith(leave_out):
                tensor = file.get_tensor(name)
                total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                total.update(tensor.contiguous().flatten().view(torch.uint8).numpy())
    return total.hexdigest()


def size_text(count: int) -> str:
    """A number of bytes for a message: "12 bytes", "55.3 kB", "1.2 GB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def shown(path: Path) -> str:
    """A path for results: inside the project relative to its root, so that they show no machine's folders."""
    path = path.resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)

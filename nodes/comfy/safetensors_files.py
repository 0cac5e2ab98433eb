"""Look into safetensors files without loading them, and say plainly what is wrong with a broken one.

Format: 8 bytes with the header's length (little endian), the header as JSON (`name → {dtype, shape, data_offsets}`
and `__metadata__`, text → text), then the data (https://github.com/huggingface/safetensors).
"""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from ...visual_planner.errors import PlannerError

MAX_HEADER = 100_000_000
"""Longest header that the format allows [bytes]."""


class ModelFileError(PlannerError):
    """A model file is missing, cut short or of another kind."""


@dataclass(frozen=True)
class Header:
    """What stands in a safetensors file.

    Args:
        metadata: the free text entries.
        shapes: shape of every tensor.
    """

    metadata: dict[str, str]
    shapes: dict[str, tuple[int, ...]]


def read_header(path: Path, what: str) -> Header:
    """Read a file's header and check that the file is whole.

    Args:
        path: the file.
        what: what the file is, for messages ("LoRA bridge.safetensors").

    Raises:
        ModelFileError: it is missing, not a safetensors file, or its data is cut short.
    """
    if not path.is_file():
        raise ModelFileError(f"{what} must be a file, but {path} does not exist")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise ModelFileError(f"{what} must be a safetensors file, but it has no header ({size} bytes): {path}")
        raw = file.read(length)
    try:
        entries = json.loads(raw)
        metadata = entries.pop("__metadata__", {})
        shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        raise ModelFileError(f"{what} must be a safetensors file, but its header cannot be read: {path}") from None
    if size != 8 + length + end:
        raise ModelFileError(
            f"{what} must have {8 + length + end} bytes, but has {size}: it was truncated or modified: {path}"
        )
    return Header(metadata, shapes)


def load_tensors(path: Path, what: str) -> dict:
    """Load a safetensors file to the CPU, after `read_header`'s checks."""
    import comfy.utils

    read_header(path, what)
    return comfy.utils.load_torch_file(str(path), safe_load=True)


def read_json(path: Path, what: str) -> dict:
    """Read a JSON object from a file.

    Raises:
        ModelFileError: it is missing or not a JSON object.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelFileError(f"{what} must be a file, but {path} does not exist") from None
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{what} must be JSON, but {path} cannot be read: {error}") from None
    if not isinstance(record, dict):
        raise ModelFileError(f"{what} must be a JSON object, got {type(record).__name__}: {path}")
    return record

"""Read headers of safetensors files without loading them, and report clearly what is wrong with a broken one.

Format: 8 bytes with the header's length (little endian), the header as JSON (`name -> {dtype, shape, data_offsets}`
and `__metadata__`, text -> text), then the data (https://github.com/huggingface/safetensors).
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ...visual_planner.errors import PlannerError, brief, plain
from ...visual_planner.json_text import json_record

MAX_HEADER = 100_000_000
"""Longest header that the format allows [bytes]."""
MAX_DIMENSIONS = 16
_BITS = {
    **{"F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16},
    **{"U16": 16, "I8": 8, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8},
}
"""Bits of a value by dtype; other dtypes are left to the format's own reader."""


class ModelFileError(PlannerError):
    """A model file is missing, truncated or of another kind."""


@dataclass(frozen=True)
class Header:
    """Header of a safetensors file.

    Args:
        metadata: the free text entries.
        shapes: shape of every tensor.
    """

    metadata: dict[str, str]
    shapes: dict[str, tuple[int, ...]]


def read_header(path: Path, what: str) -> Header:
    """Read a file's header and check that the file is complete.

    Args:
        path: the file.
        what: what the file is, for messages ("LoRA bridge.safetensors").

    Raises:
        ModelFileError: it is missing, not a safetensors file, or its data is truncated.
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
        entries = json_record(raw, "header", ModelFileError)
    except ModelFileError:
        raise ModelFileError(f"{what} must be a safetensors file, but its header cannot be read: {path}") from None
    metadata = entries.pop("__metadata__", None)
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ModelFileError(f"{what} must have texts alone in its header's __metadata__: {path}")
    end = 0
    for name, entry in sorted(entries.items(), key=lambda item: _begin(item[1])):
        end = _end_of(entry, end, f"{what} has a header that says of {plain(name)}", path)
    if size != 8 + length + end:
        raise ModelFileError(
            f"{what} must have {8 + length + end} bytes, but has {size}: it was truncated or modified: {path}"
        )
    try:
        with safe_open(path, "pt"):  # the format's own reader has the last word
            pass
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{what} must be a safetensors file, but {plain(str(error), 200)}: {path}") from None
    return Header(metadata, {name: tuple(entry["shape"]) for name, entry in entries.items()})


def _begin(entry: object) -> int:
    """Where a tensor's data begins; an invalid entry sorts first and is then refused."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    return offsets[0] if isinstance(offsets, list) and offsets and type(offsets[0]) is int else -1


def _end_of(entry: object, begin: int, where: str, path: Path) -> int:
    """Where a tensor's data ends, after checking that it begins where the previous tensor's ends."""
    if not isinstance(entry, dict):
        raise ModelFileError(f"{where} {brief(entry)}: {path}")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not _whole_numbers(shape) or len(shape) > MAX_DIMENSIONS:
        raise ModelFileError(f"{where} that its shape is {brief(shape)}: {path}")
    if not _whole_numbers(offsets) or len(offsets) != 2 or not begin == offsets[0] <= offsets[1]:
        raise ModelFileError(f"{where} that its data lies at {brief(offsets)}, it must begin at {begin}: {path}")
    if not isinstance(dtype, str) or (dtype in _BITS and math.prod(shape) * _BITS[dtype] != 8 * (offsets[1] - begin)):
        raise ModelFileError(
            f"{where} that {brief(dtype)} of shape {brief(shape)} takes {offsets[1] - begin} bytes: {path}"
        )
    return offsets[1]


def _whole_numbers(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)


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
        data = path.read_bytes()
    except FileNotFoundError:
        raise ModelFileError(f"{what} must be a file, but {path} does not exist") from None
    return json_record(data, f"{what} {path}", ModelFileError)

"""TFRecord files and tf.train.Example messages, read without TensorFlow.

A record is: length (8 bytes, little endian), masked CRC-32C of those (4), data, masked CRC-32C of the data (4). An
Example is a protobuf message: Example{1: Features{1: map<string, Feature>}}, Feature{1: BytesList | 2: FloatList | 3:
Int64List}, each list {1: values}, numbers packed or not (tensorflow/core/example/feature.proto).
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ....errors import TrainingError
from .crc32c import masked_crc32c

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def scan_records(file: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (offset of the data, data) of every record, checksums verified.

    Raises:
        TrainingError: the file is missing, compressed, cut off or damaged.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            number = 0
            while header := stream.read(12):
                what = f"record {number} of {file}"
                if number == 0 and header[:2] == b"\x1f\x8b":
                    raise TrainingError(f"{file} is compressed with gzip: unpack it first")
                if len(header) < 12:
                    raise TrainingError(f"{what} is truncated in its header")
                (length,) = struct.unpack("<Q", header[:8])
                if masked_crc32c(header[:8]) != struct.unpack("<I", header[8:])[0]:
                    raise TrainingError(f"{what} has a wrong checksum of its length: damaged, or not a TFRecord file")
                offset = stream.tell()
                if length > size - offset - 4:
                    raise TrainingError(
                        f"{what} is truncated: it must have {length} bytes, got {min(size - offset, length)}"
                    )
                data, tail = stream.read(length), stream.read(4)
                if masked_crc32c(data) != struct.unpack("<I", tail)[0]:
                    raise TrainingError(f"{what} has a wrong checksum: the file is damaged")
                yield offset, data
                number += 1
    except OSError as error:
        raise TrainingError(f"{file} cannot be read: {error.strerror or error}") from error


def read_at(file: Path, offset: int, length: int) -> bytes:
    """Data of a record that `scan_records` has seen.

    Raises:
        TrainingError: the file has changed since.
    """
    try:
        with file.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(length)
    except OSError as error:
        raise TrainingError(f"{file} cannot be read: {error.strerror or error}") from error
    if len(data) < length:
        raise TrainingError(f"{file} is shorter than when it was opened")
    return data


class Example:
    """A tf.train.Example whose lists are decoded when asked for.

    Args:
        data: the message.
        what: names it in messages.

    Raises:
        TrainingError: it is not an Example.
    """

    def __init__(self, data: bytes, what: str) -> None:
        self._what = what
        self._features: dict[str, memoryview] = {}
        try:
            for number, features in _fields(memoryview(data)):
                if number != 1:
                    continue
                for _, item in _fields(features):
                    parts = dict(_fields(item))
                    self._features[bytes(parts[1]).decode("utf-8")] = parts.get(2, memoryview(b""))
        except (IndexError, KeyError, ValueError, TypeError, struct.error) as error:
            raise TrainingError(f"{what} is not a tf.train.Example") from error

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its features."""
        return tuple(self._features)

    def texts(self, name: str) -> list[bytes]:
        """Values of a list of bytes; empty if the feature is not one."""
        return [bytes(value) for value in self._values(name, 1)]

    def count(self, name: str) -> int:
        """How many values a list of bytes has."""
        return sum(1 for _ in self._values(name, 1))

    def pick(self, name: str, indices: list[int]) -> list[bytes]:
        """Some values of a list of bytes; the rest is not copied."""
        values = list(self._values(name, 1))
        return [bytes(values[index]) for index in indices]

    def first(self, name: str) -> bytes:
        """First value of a list of bytes, or nothing."""
        return bytes(next(self._values(name, 1), b""))

    def floats(self, name: str) -> np.ndarray:
        """Values of a list of floats (N,) float32; empty if the feature is not one."""
        parts = [np.frombuffer(value, "<f4") for value in self._values(name, 2)]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def integers(self, name: str) -> list[int]:
        """Values of a list of integers."""
        values = []
        for value in self._values(name, 3):
            if isinstance(value, int):
                values.append(value)
                continue
            at = 0
            while at < len(value):
                number, at = _varint(value, at)
                values.append(number)
        return [value - (1 << 64) if value >> 63 else value for value in values]

    def _values(self, name: str, kind: int) -> Iterator:
        try:
            for number, content in _fields(self._features.get(name, memoryview(b""))):
                if number == kind:
                    yield from (value for field, value in _fields(content) if field == 1)
        except (IndexError, ValueError, TypeError, struct.error) as error:
            raise TrainingError(f"{self._what}: feature {name!r} is damaged") from error


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Field numbers and raw values of a protobuf message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            end = at + (8 if kind == _FIXED64 else 4)
            value, at = data[at:end], end
        elif kind == _BYTES:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            raise ValueError(f"wire type {kind}")
        if at > len(data):
            raise ValueError("cut off")
        yield key >> 3, value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")

"""A folder on this machine or, by URL, in an object store: files are read and written whole."""

import hashlib
import os
import shutil
import tempfile
import weakref
from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import save

from runtime.writing import writing

from ..errors import TrainingError, WritingError
from ..files import file_name, read_bytes, replacing


class Folder:
    """A place for files.

    Args:
        place: a path, or a URL for fsspec (`s3://bucket/folder`, `memory://folder`).
        keep: number of a URL's files that stay on this machine; None keeps all.

    Raises:
        TrainingError: the URL's kind is unknown, or its package is not installed.
    """

    def __init__(self, place: Path | str, keep: int | None = None) -> None:
        self.place, self.keep = place, keep
        self._system = None
        self._copies: OrderedDict[str, Path] = OrderedDict()
        if "://" in str(place):
            try:
                self._system, self._root = _connect(str(place))
            except (ImportError, ValueError, OSError) as error:
                raise TrainingError(f"{place} cannot be opened: {error}") from error
            with writing(tempfile.gettempdir(), WritingError, what="the temporary folder"):
                self._local = Path(tempfile.mkdtemp(prefix="visual-planner-cache-"))
            weakref.finalize(self, shutil.rmtree, self._local, ignore_errors=True)

    def __str__(self) -> str:
        """Its path or URL."""
        return str(self.place)

    def name(self, file: str) -> str:
        """A file of it, for messages."""
        return f"{str(self.place).rstrip('/')}/{file}"

    def exists(self, file: str) -> bool:
        """Whether it has a file."""
        if self._system is None:
            return (Path(self.place) / file).is_file()
        return self._reach(file, lambda path: self._system.isfile(path))

    def names(self) -> list[str]:
        """Names of its files, in order; none where it does not exist."""
        if self._system is None:
            place = Path(self.place)
            return sorted(file.name for file in place.iterdir() if file.is_file()) if place.is_dir() else []

        def listed(path: str) -> list[str]:
            self._system.invalidate_cache()  # other processes write beside this one
            found = self._system.ls(self._root, detail=True) if self._system.isdir(self._root) else []
            return sorted(entry["name"].rstrip("/").rpartition("/")[2] for entry in found if entry["type"] == "file")

        return self._reach("", listed)

    def read(self, file: str, what: str) -> bytes:
        """A file's content.

        Raises:
            TrainingError: it does not exist or cannot be reached; `what` names it.
        """
        if not self.exists(file):
            raise TrainingError(f"{what} {self.name(file)} does not exist")
        if self._system is None:
            return read_bytes(Path(self.place) / file, what)
        return self._reach(file, lambda path: _content(self._system, path))

    def write(self, file: str, data: bytes) -> None:
        """Write a file, whole or not at all (object stores show a file only when it is complete).

        Raises:
            TrainingError: it cannot be written.
        """
        if self._system is None:
            with replacing(Path(self.place) / file) as temporary:
                temporary.write_bytes(data)
            return

        def put(path: str) -> None:
            self._system.makedirs(self._root, exist_ok=True)
            self._system.pipe_file(path, data)

        self._reach(file, put)

    def remove(self, file: str) -> None:
        """Remove a file if it exists."""
        if self._system is None:
            (Path(self.place) / file).unlink(missing_ok=True)
        elif self.exists(file):
            self._reach(file, lambda path: self._system.rm_file(path))

    def write_tensors(self, file: str, tensors: dict[str, torch.Tensor]) -> tuple[int, str]:
        """Write a safetensors file; returns its size [bytes] and SHA-256."""
        data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        self.write(file, data)
        return len(data), hashlib.sha256(data).hexdigest()

    def local(self, file: str, digest: str | None = None) -> Path:
        """Path of a file on this machine: the file itself, or a copy of it that is checked while it is copied.

        Raises:
            TrainingError: it does not exist, is not the one of this SHA-256, or its name leads out of the folder.
        """
        file_name(file, f"{self.place}: the name of a file")
        if self._system is None:
            return Path(self.place) / file
        if file not in self._copies:
            data = self.read(file, "file")
            if digest is not None and hashlib.sha256(data).hexdigest() != digest:
                raise TrainingError(
                    f"file {self.name(file)} does not match the checksum in its manifest: it is damaged"
                )
            copy = self._local / file
            with replacing(copy) as temporary:
                temporary.write_bytes(data)
            self._copies[file] = copy
        self._copies.move_to_end(file)
        while self.keep is not None and len(self._copies) > self.keep:
            self._copies.popitem(last=False)[1].unlink()
        return self._copies[file]

    def _reach(self, file: str, action):
        try:
            return action(f"{self._root.rstrip('/')}/{file}")
        except (OSError, ImportError, ValueError) as error:
            raise TrainingError(f"{self.name(file)} cannot be reached: {error}") from error


def _connect(url: str) -> tuple:
    """The file system of a URL, and the path in it; without the package s3fs, S3 is accessed through Arrow's client."""
    import fsspec

    kind, _, path = url.partition("://")
    if kind not in ("s3", "s3a") or find_spec("s3fs") is not None:
        return fsspec.core.url_to_fs(url)
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import S3FileSystem

    server = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    scheme, _, host = server.rstrip("/").rpartition("://")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    # a self-hosted server has no regions that could be looked up
    chosen = {"endpoint_override": host, "scheme": scheme or "https", "region": region or "us-east-1"} if host else {}
    chosen |= {"region": region} if region else {}
    return ArrowFSWrapper(S3FileSystem(**chosen)), path.strip("/")


def _content(system, path: str) -> bytes:
    """A whole file, in one request where the file system has streams."""
    if type(system).__name__ != "ArrowFSWrapper":
        return system.cat_file(path)
    with system.open(path, "rb", seekable=False) as stream:
        return stream.read()

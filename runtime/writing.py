"""Write files atomically, and report in one line the place that cannot be written."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How libraries written in Rust report an error of the operating system."""


def reason_of(error: BaseException, place: str | Path) -> str:
    """Why something could not be written at a place, in a few words."""
    while getattr(error, "errno", None) is None and error.__cause__ is not None:
        error = error.__cause__
    number = getattr(error, "errno", None)
    if number is None and (found := _OS_ERROR.search(str(error))):
        number = int(found[1])
    if number in (errno.ENOTDIR, errno.EEXIST):
        in_the_way = [folder for folder in Path(place).parents if folder.is_file()]
        return f"{in_the_way[0]} is a file, not a folder" if in_the_way else os.strerror(number)
    if number is None:
        return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
    return os.strerror(number) + (" (no room for another file)" if number == errno.ENOSPC and _no_inode(place) else "")


def _no_inode(place: str | Path) -> bool:
    """Whether the disk of a place has space left but can hold no more files; False if that is unknown."""
    with suppress(OSError, AttributeError, StopIteration):
        told = os.statvfs(next(folder for folder in Path(os.path.abspath(place)).parents if folder.is_dir()))
        return told.f_files > 0 and told.f_favail == 0
    return False


@contextmanager
def writing(
    path: str | Path, raises: Callable[[str], Exception], failures: tuple[type[Exception], ...] = (OSError,),
    what: str = "",
) -> Iterator[None]:  # fmt: skip
    """Turn whatever fails in the block into one line, "PATH cannot be written: REASON".

    Args:
        path: what the block writes.
        raises: makes the error from the line.
        failures: kinds of errors that a library raises when it cannot write.
        what: text before the path.
    """
    try:
        yield
    except failures as error:
        raise raises(f"{what} {path} cannot be written: {reason_of(error, path)}".lstrip()) from error


@contextmanager
def replacing(
    path: str | Path, raises: Callable[[str], Exception], failures: tuple[type[Exception], ...] = (OSError,)
) -> Iterator[Path]:
    """A temporary file beside `path`, renamed to `path` if the block succeeds and removed if it does not.

    Missing folders are created; they are removed again if they stay empty.
    For the arguments see `writing`.
    """
    path = Path(path)
    temporary: Path | None = None
    with writing(path, raises, failures), _parents(path):
        try:
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
            temporary = Path(name)
            os.close(handle)
            yield temporary
            os.chmod(temporary, 0o666 & ~_UMASK)
            os.replace(temporary, path)
        finally:
            if temporary is not None:
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(
    folder: str | Path, raises: Callable[[str], Exception], failures: tuple[type[Exception], ...] = (OSError,)
) -> Iterator[Path]:
    """A temporary folder beside `folder`, renamed if the block succeeds and removed with its content if not.

    `folder` must not exist, or be an empty folder. For the arguments see `writing`.
    """
    folder = Path(folder)
    part = folder.with_name(f".{folder.name}.part-{os.getpid()}")
    with writing(folder, raises, failures), _parents(folder):
        try:
            shutil.rmtree(part, ignore_errors=True)  # left by a killed process with this id
            part.mkdir()
            yield part
            if folder.exists():
                folder.rmdir()
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def filling(
    folder: str | Path, raises: Callable[[str], Exception], failures: tuple[type[Exception], ...] = (OSError,)
) -> Iterator[Path]:
    """A temporary folder whose files replace those of the same names in `folder` when the block ends well.

    For libraries that write several files by themselves. For the arguments see `writing`.
    """
    folder = Path(folder)
    part = folder / ".new.part"
    with writing(folder, raises, failures), _parents(part):
        try:
            shutil.rmtree(part, ignore_errors=True)  # of a killed run
            part.mkdir()
            yield part
            files = sorted(path.relative_to(part) for path in part.rglob("*") if path.is_file())
            for file in files:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
            for file in files:
                os.replace(part / file, folder / file)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def append(path: str | Path, text: str, raises: Callable[[str], Exception], sync: bool = False) -> None:
    """Add text to a file; if that fails, the file is unchanged.

    Args:
        path: the file; created if absent.
        text: what to add, as UTF-8.
        raises: makes the error from the line.
        sync: wait until it is on disk, so that it survives a power cut.
    """
    path, data = Path(path), text.encode("utf-8")
    with writing(path, raises):
        before = path.stat().st_size if path.exists() else None
        try:
            with path.open("ab", buffering=0) as file:
                while data:
                    data = data[file.write(data) :]
                if sync:
                    os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                if before is None:
                    path.unlink(missing_ok=True)
                else:
                    os.truncate(path, before)
            raise


@contextmanager
def _parents(path: Path) -> Iterator[None]:
    """Create the folders of a path; those created are removed if the block fails and they are empty."""
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in made:  # the innermost first
            with suppress(OSError):
                folder.rmdir()
        raise


def _read_umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value


_UMASK = _read_umask()

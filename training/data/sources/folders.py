"""Folders of videos, and folders of folders of pictures, with instructions in a file beside them."""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...errors import TrainingError
from . import pictures, video
from .base import Entry, Source, choose_camera, safe_id
from .instructions import NAMES, read_instructions


class VideosSource(Source):
    """Video files under a folder; with several cameras, a folder a camera."""

    format = "videos"

    @classmethod
    def open(cls, path: Path, camera: str = "", instructions: Path | None = None) -> "VideosSource":
        """Find the videos and index each one.

        Raises:
            TrainingError: there is none, one is broken, or there is no such camera.
        """
        folder, camera, cameras = _camera_folder(path, camera, video.SUFFIXES)
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in video.SUFFIXES and file.is_file())
        texts = read_instructions(path, instructions)
        entries = []
        for file in files:
            name = file.relative_to(folder).as_posix()
            length = len(video.VideoFile(file).times)
            entries.append(Entry(_episode_id(name), _text_of(file, name, texts), length, str(file)))
        if not entries:
            raise TrainingError(f"videos data set {folder} contains no {', '.join(video.SUFFIXES)} file")
        _check_names(texts, {entry.file for entry in entries}, folder)
        return cls(path, entries, camera, cameras)

    def frames(self, entry: Entry, indices: Sequence[int]) -> np.ndarray:
        """See `Source.frames`."""
        return video.open_video(Path(entry.file)).at(indices)

    def thumbnails(self, entry: Entry) -> np.ndarray:
        """See `Source.thumbnails`."""
        return video.open_video(Path(entry.file)).thumbnails(0, entry.length)


class FramesSource(Source):
    """Folders of numbered pictures, one an episode."""

    format = "frames"

    @classmethod
    def open(cls, path: Path, camera: str = "", instructions: Path | None = None) -> "FramesSource":
        """Find the folders with pictures.

        Raises:
            TrainingError: there is none, or there is no such camera.
        """
        texts = read_instructions(path, instructions)
        found = sorted({file.parent for file in path.rglob("*") if file.suffix.lower() in pictures.SUFFIXES})
        # episode/camera/picture: the last folder is a camera if every episode has folders of the same names
        names = sorted({folder.name for folder in found})
        parents = {folder.parent for folder in found}
        several = all(len([folder for folder in found if folder.parent == parent]) == len(names) for parent in parents)
        by_camera = several and path not in parents and len(found) == len(names) * len(parents)
        chosen = choose_camera(names, camera, path) if by_camera else ""
        if camera and not by_camera:
            raise TrainingError(f"{path} has a single camera: camera must be left out, got {camera!r}")
        entries = []
        for folder in found:
            if by_camera and folder.name != chosen:
                continue
            home = folder.parent if by_camera else folder
            name = home.relative_to(path).as_posix()
            entries.append(
                Entry(_episode_id(name), _text_of(home, name, texts), len(_pictures_in(folder)), str(folder))
            )
        if entries:
            _check_names(texts, {str(Path(e.file).parent if by_camera else e.file) for e in entries}, path)
        return cls(path, entries, chosen, names if by_camera else ())

    def frames(self, entry: Entry, indices: Sequence[int]) -> np.ndarray:
        """See `Source.frames`."""
        files = _pictures_in(Path(entry.file))
        return pictures.stack_frames(
            [pictures.read_picture(files[index], f"picture {files[index]}") for index in indices],
            f"folder {entry.file}",
        )


def _camera_folder(path: Path, camera: str, suffixes: tuple[str, ...]) -> tuple[Path, str, list[str]]:
    """Folder of the chosen camera. Folders are cameras when the same files lie in each of two or more of them."""
    held = {
        folder.name: {
            file.relative_to(folder).with_suffix("") for file in folder.rglob("*") if file.suffix.lower() in suffixes
        }
        for folder in sorted(path.iterdir())
        if folder.is_dir()
    }
    held = {name: files for name, files in held.items() if files}
    here = any(file.suffix.lower() in suffixes for file in path.iterdir())
    if here or len(held) < 2 or len({frozenset(files) for files in held.values()}) > 1:
        if camera:
            raise TrainingError(f"{path} has a single camera: camera must be left out, got {camera!r}")
        return path, "", []
    chosen = choose_camera(list(held), camera, path)
    return path / chosen, chosen, list(held)


def _episode_id(name: str) -> str:
    return safe_id(re.sub(r"\.\w{2,4}$", "", name).replace("/", "__"))


def _text_of(file: Path, name: str, texts: dict[str, str]) -> str:
    """Instruction of an episode: its line, a text file beside it, or the one that holds for all."""
    plain = name if file.is_dir() else Path(name).with_suffix("").as_posix()
    for key in (name, plain, Path(name).name, Path(plain).name):
        if key in texts:
            return texts[key]
    beside = file / "instruction.txt" if file.is_dir() else file.with_suffix(".txt")
    if beside.is_file() and beside.name not in NAMES:
        return beside.read_text(encoding="utf-8").strip()
    return texts.get("*", "")


def _check_names(texts: dict[str, str], files: set[str], folder: Path) -> None:
    """A line that names no file is a slip of the pen and would lose an instruction."""
    known = set()
    for file in files:
        path = Path(file)
        for form in (path, path.with_suffix("")):
            known |= {form.name, form.relative_to(folder).as_posix()}
    unknown = [name for name in texts if name not in known and name != "*"]
    if unknown:
        raise TrainingError(
            f"instructions name {len(unknown)} files that do not exist in {folder}: {', '.join(unknown[:5])}"
        )


@lru_cache(maxsize=64)
def _pictures_in(folder: Path) -> tuple[Path, ...]:
    """Pictures in the order of the numbers in their names."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in pictures.SUFFIXES]

    def natural(file: Path) -> list:
        return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.stem)]

    return tuple(sorted(files, key=natural))

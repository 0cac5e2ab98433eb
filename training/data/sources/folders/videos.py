"""Folders of video files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ....errors import TrainingError
from .. import video
from ..base import Entry, Source
from ..names import unique_ids, visible_files
from .instructions import NAMES, read_instructions
from .layout import read_layout, scenes_of
from .told import check_names, names_hint, text_of


class VideosSource(Source):
    """Video files under a folder; with several cameras, one folder per camera."""

    format = "videos"

    @classmethod
    def open(
        cls, path: Path, camera: str = "", instructions: Path | None = None, folders: str = "auto"
    ) -> "VideosSource":
        """Find the videos and index each one.

        Raises:
            TrainingError: there is none, what the folders are is not clear, or there is no such camera. A video that
                cannot be read is a problem of its episode.
        """
        files = {file.relative_to(path).as_posix(): file for file in visible_files(path, video.SUFFIXES)}
        if not files:
            raise TrainingError(f"videos data set {path} contains no {', '.join(video.SUFFIXES)} file")
        texts = read_instructions(path, instructions)
        whole = {name.removesuffix(file.suffix): name for name, file in files.items()}
        if len(whole) < len(files):  # one name in two containers: each is an episode, and both show the same scene
            whole = {name: name for name in files}
        hint = names_hint(texts, whole) if any("/" in name for name in texts) else ""
        layout = read_layout(list(whole), path, camera, folders, camera_last=False, hint=hint)
        check_names(texts, [*files, *layout.items.values(), *layout.absent], path)
        names = [*layout.items.values(), *layout.absent]
        ids = unique_ids([name.replace("/", "__") for name in names])
        scenes = scenes_of(layout.items) if not layout.camera and folders != "episodes" else {}
        entries = [
            _entry(name, files[whole[item]], texts, item, episode, scenes.get(item, ""))
            for name, (item, episode) in zip(ids, layout.items.items(), strict=False)
        ]
        for name, episode in zip(ids[len(entries) :], layout.absent, strict=True):
            text = f"episode {episode} of {path} has no video of camera {layout.camera}"
            entries.append(Entry(name, "", 0, str(path / episode), problem=text))
        return cls(path, entries, layout.camera, layout.cameras, layout.notes)

    def frames(self, entry: Entry, indices: Sequence[int]) -> np.ndarray:
        """See `Source.frames`."""
        return video.open_video(Path(entry.file)).at(indices)

    def thumbnails(self, entry: Entry) -> np.ndarray:
        """See `Source.thumbnails`."""
        return video.open_video(Path(entry.file)).thumbnails(range(entry.length))

    def times(self, entry: Entry) -> np.ndarray | None:
        """See `Source.times`."""
        return video.open_video(Path(entry.file)).times


def _entry(name: str, file: Path, texts: dict[str, str], item: str, episode: str, scene: str) -> Entry:
    text, length, problem = "", 0, ""
    try:
        text = text_of(texts, f"{episode}{file.suffix}", f"{item}{file.suffix}", _beside(file))
        length = len(video.VideoFile(file).times)
    except TrainingError as error:
        problem = str(error)
    return Entry(name, text, length, str(file), problem=problem, scene=scene)


def _beside(file: Path) -> tuple[Path, ...]:
    """Where a text file for this video alone may be."""
    return tuple(place for end in (".txt", ".TXT") if (place := file.with_suffix(end)).name.lower() not in NAMES)

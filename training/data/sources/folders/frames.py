"""Folders of picture folders, one per episode."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from ....errors import TrainingError
from .. import pictures
from ..base import Entry, Source
from ..names import is_hidden, unique_ids, visible_files
from .instructions import read_instructions
from .layout import Layout, read_layout, scenes_of
from .told import check_names, names_hint, text_of

_STAMP_UNITS = {10: 1.0, 13: 1e3, 16: 1e6, 19: 1e9}
"Digits of a time stamp since 1970 -> its units per second."
_CLOCK = re.compile(r"(\D*)(1\d{9})[_-](\d{9})(\D*)")
"Seconds since 1970 and nanoseconds, as ROS writes them."


class FramesSource(Source):
    """Folders of numbered pictures, one per episode; names that are time stamps are read as times."""

    format = "frames"

    @classmethod
    def open(
        cls, path: Path, camera: str = "", instructions: Path | None = None, folders: str = "auto"
    ) -> "FramesSource":
        """Find the folders with pictures.

        Raises:
            TrainingError: there is none, what the folders are is not clear, or there is no such camera.
        """
        texts = read_instructions(path, instructions)
        items, strays = _picture_folders(path)
        hint = names_hint(texts, items) or _texts_beside(path, items)
        layout = read_layout(items, path, camera, folders, camera_last=True, hint=hint)
        check_names(texts, [*items, *layout.items.values(), *layout.absent], path)
        scenes = scenes_of(layout.items) if not layout.camera and folders != "episodes" else {}
        entries = _entries(path, layout, texts, scenes)
        return cls(path, entries, layout.camera, layout.cameras, [*strays, *layout.notes])

    def frames(self, entry: Entry, indices: Sequence[int]) -> np.ndarray:
        """See `Source.frames`."""
        files = pictures_in(Path(entry.file))
        return pictures.stack_frames(
            [pictures.read_picture(files[index], f"picture {files[index]}") for index in indices],
            f"folder {entry.file}",
        )

    def times(self, entry: Entry) -> np.ndarray | None:
        """See `Source.times`."""
        values = stamps_of([file.stem for file in pictures_in(Path(entry.file))])
        return None if values is None else np.array(values)


def _entries(path: Path, layout: Layout, texts: dict[str, str], scenes: dict[str, str]) -> list[Entry]:
    names = [*layout.items.values(), *layout.absent]
    ids = dict(zip(names, unique_ids([name.replace("/", "__") for name in names]), strict=True))
    entries = []
    for item, name in layout.items.items():
        folder, length, text, problem = path / item, 0, "", ""
        try:
            text = text_of(texts, name, item, (path / name / "instruction.txt", folder / "instruction.txt"))
            length = len(pictures_in(folder))
        except TrainingError as error:
            problem = str(error)
        entries.append(Entry(ids[name], text, length, str(folder), problem=problem, scene=scenes.get(item, "")))
    for name in layout.absent:
        text = f"episode {name} of {path} has no pictures of camera {layout.camera}"
        entries.append(Entry(ids[name], "", 0, str(path / name), problem=text))
    return entries


def _texts_beside(path: Path, items: Sequence[str]) -> str:
    """Whether instruction.txt is in the innermost folders or in those above them."""
    above = any((path / item).parent.joinpath("instruction.txt").is_file() for item in items if "/" in item)
    below = any((path / item / "instruction.txt").is_file() for item in items)
    return "" if above == below else "cameras" if above else "episodes"


def _picture_folders(path: Path) -> tuple[list[str], list[str]]:
    """Folders of pictures relative to the source, and what was left out.

    Raises:
        TrainingError: pictures lie directly in the source, or as many beside picture folders as inside them.
    """
    counts = Counter(file.parent for file in visible_files(path, pictures.SUFFIXES))
    notes = []
    for folder, count in sorted(counts.items()):
        below = [held for other, held in counts.items() if folder in other.parents]
        if below and count <= min(below) // 2:
            notes.append(f"{count} pictures beside the folders in {folder} are left out")
            del counts[folder]
        elif below:
            raise TrainingError(
                f"{folder} must hold pictures or folders of pictures, got {count} pictures and {len(below)} folders: "
                "move one or the other"
            )
    if path in counts:
        raise TrainingError(
            f"frames data set {path} must have a folder per episode (EPISODE/0.png), got {counts[path]} pictures "
            "directly in it"
        )
    return [folder.relative_to(path).as_posix() for folder in sorted(counts)], notes


@lru_cache(maxsize=64)
def pictures_in(folder: Path) -> tuple[Path, ...]:
    """Pictures of a folder in the order of their times, or of the numbers in their names.

    Raises:
        TrainingError: it holds several series of pictures.
    """
    files = [f for f in folder.iterdir() if f.suffix.lower() in pictures.SUFFIXES and not is_hidden(f.name)]
    series = defaultdict(list)
    for file in files:
        series[re.sub(r"\d+", "#", file.stem)].append(file)
    sizes = {name: len(group) for name, group in series.items()}
    large = [name for name, size in sizes.items() if size > 1 and size * 4 >= len(files) and "#" in name]
    several = len(large) > 1 and sum(sizes[name] for name in large) == len(files)
    if several and stamps_of([file.stem for file in files]) is None:
        shown = ", ".join(f"{name} ({sizes[name]})" for name in sorted(large))
        raise TrainingError(
            f"folder {folder} must hold one series of pictures, got {shown}: move each to its own folder"
        )
    twice = [stem for stem, count in Counter(file.stem for file in files).items() if count > 1]
    if twice:
        raise TrainingError(f"folder {folder} must hold each frame once, got {twice[0]} in several formats")
    numbered = [file for file in files if re.search(r"\d", file.stem)]
    if len(numbered) > 1:
        files = numbered  # a title or a mask among them is not a frame
    stamps = stamps_of([file.stem for file in files])
    if stamps is not None:
        order = sorted(range(len(files)), key=lambda number: stamps[number])
        return tuple(files[number] for number in order)
    return tuple(sorted(files, key=lambda file: _natural(file.stem)))


def _natural(stem: str) -> list:
    return [int(part) if number % 2 else part for number, part in enumerate(re.split(r"(\d+)", stem))]


def stamps_of(stems: Sequence[str]) -> list[float] | None:
    """Times [s] that names stand for; None if they are plain numbers.

    Seconds have a decimal point or comma, which a whole number among them may lack. Stamps since 1970 are whole numbers
    of seconds or of a smaller unit, or seconds and nanoseconds side by side.
    """
    parts = [_CLOCK.fullmatch(stem) for stem in stems]
    if all(parts) and len({(part[1], part[4]) for part in parts}) == 1:
        start = min(int(part[2]) for part in parts)
        return [int(part[2]) - start + int(part[3]) / 1e9 for part in parts]
    parts = [re.fullmatch(r"(\D*)(\d+)(?:[.,](\d+))?(\D*)", stem) for stem in stems]
    if not all(parts) or len({(part[1], part[4]) for part in parts}) > 1:
        return None
    if 2 * sum(part[3] is not None for part in parts) > len(parts):
        values = [float(f"{part[2]}.{part[3] or 0}") for part in parts]
        # 1.1, 1.2, .., 1.10: the last is number ten of the first series, not a time
        counted = len({part[2] for part in parts}) == 1 and _counts([part[3] or "0" for part in parts])
        return None if counted or len(set(values)) < len(values) else values
    digits = {len(part[2]) for part in parts}
    unit = _STAMP_UNITS.get(next(iter(digits))) if len(digits) == 1 and not any(part[3] for part in parts) else None
    if unit is None or not all(part[2].startswith("1") for part in parts):
        return None
    start = min(int(part[2]) for part in parts)
    return [(int(part[2]) - start) / unit for part in parts]


def _counts(texts: Sequence[str]) -> bool:
    """Whether texts are the whole numbers from 0 or 1 on, without leading zeros."""
    numbers = sorted(int(text) for text in texts)
    return numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers))) and all(
        text == str(int(text)) for text in texts
    )  # fmt: skip

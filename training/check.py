"""Preflight: what is wrong with a folder of pairs, all at once, before a model is loaded."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from visual_planner.spec import PlannerSpec

from .cache_reader import Cache
from .data_config import CacheSection
from .errors import TrainingError
from .files import read_json
from .pairs_folder import read_pairs
from .prepare import MANIFEST
from .sources.base import inside
from .sources.pictures import read_picture
from .splits import find_leaks

_LATENT_BYTES = 16 * 2  # 16 channels of float16, one value in 8x8 px
_ROOM = 1.05
"""Share by which the disk must have more than the cache's own size."""


def check(data: Path, section: CacheSection | None = None) -> list[str]:
    """Problems of a folder of pairs, each with its file; none is an empty list.

    Looks at every line and every picture: missing or broken files, sizes, checksums, captions, modes, conditions that
    do not belong to their targets, overlays that are absent or stray, duplicate ids and pictures, and leaks between
    training and validation. With a cache section also at the room for the cache.

    Raises:
        TrainingError: it is no folder of pairs at all.
    """
    spec, pairs = read_pairs(data)
    problems = [*_line_problems(data, spec, pairs), *_leaks(data, pairs)]
    manifest = read_json(data / MANIFEST, "manifest")["files"] if (data / MANIFEST).is_file() else {}
    targets: dict[str, str] = {}
    for pair in tqdm(pairs, desc="pairs"):
        problems += _pair_problems(data, spec, pair, manifest, targets)
    if section is not None:
        problems += _space_problems(section, spec, pairs)
    return list(dict.fromkeys(problems))


def quick_check(section: CacheSection, spec: PlannerSpec, pairs: list[dict]) -> None:
    """What can be known before a model is loaded, without decoding pictures.

    Raises:
        TrainingError: lines, headers of pictures or the room on the disk have problems; the message has the first ones.
    """
    problems = list(_line_problems(section.data, spec, pairs))
    for name in dict.fromkeys(pair[key] for pair in pairs for key in ("source", "target")):
        problems += _header_problems(section.data / name, spec)
    problems += _space_problems(section, spec, pairs)
    if problems:
        raise TrainingError(
            f"{len(problems)} problems in {section.data}: {'; '.join(problems[:5])}"
            f"{' ...' if len(problems) > 5 else ''} (python -m training check --data {section.data} lists all)"
        )


def cache_bytes(section: CacheSection, spec: PlannerSpec, pairs: list[dict]) -> int:
    """Size that the cache of these pairs will have [bytes], from the base's configuration files alone.

    Raises:
        TrainingError: the base lacks a configuration file.
    """
    base = Path(section.base)
    t5 = read_json(base / "text_encoder_2" / "config.json", "configuration of the text encoder")
    clip = read_json(base / "text_encoder" / "config.json", "configuration of the text encoder")
    tokens = section.text_tokens
    if not tokens:
        settings = read_json(base / "tokenizer_2" / "tokenizer_config.json", "configuration of the tokenizer")
        tokens = int(settings["model_max_length"])
    height, width = spec.grid_size
    grid = height * width // 64 * _LATENT_BYTES
    condition = spec.cell_height * spec.cell_width // 64 * _LATENT_BYTES if spec.condition_is_cell else grid
    number = 4 if section.dtype == "float32" else 2
    text = (tokens * t5["d_model"] + clip["hidden_size"]) * number
    counts = [len({pair[key] for pair in pairs}) for key in ("target", "source", "text")]
    return counts[0] * grid + counts[1] * condition + (counts[2] + 1) * text


def _line_problems(data: Path, spec: PlannerSpec, pairs: list[dict]) -> Iterator[str]:
    file = data / "pairs.jsonl"
    if not pairs:
        yield f"{file} holds no pair"
    for name, count in Counter(pair["id"] for pair in pairs).items():
        if count > 1:
            yield f"{file}: id {name!r} stands {count} times"
    for pair in pairs:
        if not pair["text"].strip():
            yield f"{file}: pair {pair['id']!r} has an empty caption"
        if pair["mode"] not in spec.modes:
            yield f"{file}: pair {pair['id']!r} has mode {pair['mode']!r}, the spec has {', '.join(spec.modes)}"
        for key in ("source", "target"):
            try:
                inside(data, pair[key], f"{key} of pair {pair['id']!r}")
            except TrainingError as error:
                yield str(error)


def _leaks(data: Path, pairs: list[dict]) -> list[str]:
    firsts = read_json(data / "dataset.json", "folder of pairs").get("first_frames", {})
    return [f"{data / 'pairs.jsonl'}: {leak}" for leak in find_leaks(pairs, firsts)]


def _header_problems(file: Path, spec: PlannerSpec) -> list[str]:
    try:
        with Image.open(file) as image:
            size = image.size[::-1]
    except FileNotFoundError:
        return []  # its line says so already
    except (OSError, SyntaxError) as error:
        return [f"picture {file} cannot be read: {error}"]
    expected = spec.grid_size
    return [] if size == expected else [f"picture {file} is {size} (height, width), the spec's grid is {expected}"]


def _pair_problems(data: Path, spec: PlannerSpec, pair: dict, manifest: dict, targets: dict[str, str]) -> Iterator[str]:
    pictures = {}
    for key in ("source", "target"):
        file = data / pair[key]
        if not file.is_file():
            return  # its line says so already
        content = file.read_bytes()
        if pair[key] in manifest and hashlib.sha256(content).hexdigest() != manifest[pair[key]][1]:
            yield f"picture {file} has changed since it was prepared (checksum)"
        try:
            pictures[key] = read_picture(content, f"picture {file}")
        except TrainingError as error:
            yield str(error)
            return
        if pictures[key].shape[:2] != spec.grid_size:
            yield (f"picture {file} is {pictures[key].shape[:2]} (height, width), the spec's grid is {spec.grid_size}")
            return
    yield from _content_problems(data, spec, pair, pictures["source"], pictures["target"])
    digest = hashlib.sha256(pictures["target"].tobytes()).hexdigest()
    other = targets.setdefault(digest, pair["target"])
    if other != pair["target"]:
        yield f"picture {data / pair['target']} is identical with {data / other}"


def _content_problems(
    data: Path, spec: PlannerSpec, pair: dict, condition: np.ndarray, target: np.ndarray
) -> Iterator[str]:
    """Whether condition and target belong together and the overlay is as the mode says."""
    file = data / pair["source"]
    top, left, bottom, right = spec.layout.cell_box(0, spec.cell_height, spec.cell_width)
    cell, first = condition[top:bottom, left:right], target[top:bottom, left:right]
    rest = condition.copy()
    rest[top:bottom, left:right] = 0
    # pictures of others may have been through JPEG
    if (rest > 16).mean() > 0.01:
        yield f"picture {file}: the cells beside the first frame's must be black"
    changed = np.abs(cell.astype(np.int16) - first).max(axis=2) > 48
    share = float(changed.mean())
    if pair["mode"] == "text" and share > 0.002:
        yield f"picture {file}: mode text shows the first frame of {pair['target']}, but {share:.1%} of it differ"
    if pair["mode"] != "text" and not changed.any():
        yield f"picture {file}: mode {pair['mode']} must show a path on the first frame, and it shows none"
    if share > 0.5:
        yield f"picture {file}: its first frame is not that of {data / pair['target']} ({share:.0%} differ)"
    height, width = spec.cell_height, spec.cell_width
    cells = target.reshape(spec.rows, height, spec.cols, width, 3).swapaxes(1, 2).reshape(-1, height, width, 3)
    if len(cells) > 1 and all(np.array_equal(part, cells[0]) for part in cells):
        yield f"picture {data / pair['target']}: all its frames are the same, nothing moves"


def _space_problems(section: CacheSection, spec: PlannerSpec, pairs: list[dict]) -> list[str]:
    if "://" in str(section.out):
        return []
    needed = int(cache_bytes(section, spec, pairs) * _ROOM)
    folder = Path(section.out).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free >= needed:
        return []
    return [f"{folder} has {free / 1e9:.2f} GB free, the cache {section.out} needs {needed / 1e9:.2f} GB"]


def report(data: Path, section: CacheSection | None, cache_folder: str | None) -> int:
    """Print what is wrong, a line a problem; returns the exit code: 0, or 1 with problems."""
    problems = check(data, section) if data is not None else []
    if cache_folder is not None:
        problems += Cache(cache_folder).verify()
    for problem in problems:
        print(problem)
    if data is not None and section is not None:
        spec, pairs = read_pairs(data)
        print(f"the cache {section.out} will take {cache_bytes(section, spec, pairs) / 1e9:.3f} GB")
    print(f"{len(problems)} problems" if problems else "no problem found")
    return 1 if problems else 0

"""`python -m training check`, and the checks that are made before a cache is written."""

import argparse
import math
import shutil
from collections.abc import Collection
from pathlib import Path

from visual_planner.planner.spec import PlannerSpec

from ..data.check import check_pairs, header_problems, line_problems, picture_file, picture_sizes
from ..data.pairs_folder import read_pairs
from ..errors import TrainingError, WritingError
from ..files import as_record, size_text
from ..model.bases.registry import base_of, base_of_autoencoder, require_base
from ..sections.config import load_config
from ..sections.data import CacheSection
from .read import Cache

_LATENT_BYTES = 2
"Latents are kept in float16."
_ROOM = 1.05
"Fraction by which the free disk space must exceed the cache's size."


def check_command(arguments: list[str]) -> int:
    """Check pairs and caches; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m training check",
        description="Report every problem of prepared data at once, before a model is loaded.",
    )
    parser.add_argument(
        "--config", help="YAML file whose section cache names the pairs and determines the disk space that they need"
    )
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="change one value")
    parser.add_argument("--data", type=Path, help="folder of pairs")
    parser.add_argument("--cache", help="finished cache whose checksums to verify: folder or URL")
    options = parser.parse_args(arguments)
    if not (options.config or options.data or options.cache):
        parser.error("one of --config, --data and --cache is required")
    section = load_config(options.config, options.set).section("cache") if options.config else None
    return report(options.data or (section.data if section else None), section, options.cache)


def check(data: Path, section: CacheSection | None = None) -> list[str]:
    """Problems of a folder of pairs (see `check_pairs`) and, with a cache section, of the disk space for its cache.

    Raises:
        TrainingError: it is not a folder of pairs at all.
    """
    problems = check_pairs(data)
    if section is not None:
        problems += _space_problems(section, *read_pairs(data))
    return list(dict.fromkeys(problems))


def quick_check(
    section: CacheSection, spec: PlannerSpec, pairs: list[dict], pictures: Collection[str] | None = None
) -> None:
    """Check what can be checked before a model is loaded, without decoding pictures.

    Args:
        section: settings of the cache.
        spec: the planner.
        pairs: all lines.
        pictures: names of those whose headers are read; None: all.

    Raises:
        TrainingError: lines or headers of pictures have problems; the message has the first ones.
        WritingError: the disk has too little space.
    """
    problems = list(line_problems(section.data, spec, pairs))
    named = {pair[key]: key for pair in pairs for key in ("source", "target")}
    for name, key in named.items() if pictures is None else ((name, named[name]) for name in sorted(pictures)):
        if (file := picture_file(section.data, name)) is not None:
            problems += header_problems(file, spec, picture_sizes(key, spec))
    if problems:
        raise TrainingError(
            f"{counted(len(problems))} in {section.data}: {'; '.join(problems[:5])}"
            f"{' ...' if len(problems) > 5 else ''} (python -m training check --data {section.data} lists all)"
        )
    for problem in _space_problems(section, spec, pairs):
        raise WritingError(problem)


def counted(problems: int) -> str:
    """A number of problems in words."""
    return "1 problem" if problems == 1 else f"{problems} problems"


def cache_bytes(section: CacheSection, spec: PlannerSpec, pairs: list[dict]) -> int:
    """Size that the cache of these pairs will have [bytes], from the base's configuration files alone.

    Raises:
        TrainingError: the base lacks a configuration file, or is of another family than the spec.
    """
    base = Path(section.base)
    family = base_of(spec)
    if (base / "transformer").is_dir():  # the encoders alone are enough here
        require_base(base, family.family)
    if (base / "vae" / "config.json").is_file():
        base_of_autoencoder(base / "vae", family.family)
    with as_record(f"configuration of a text encoder of {base}"):
        width, pooled = family.text_widths(base)
    with as_record(f"configuration of the tokenizer of {base}"):
        tokens = section.text_tokens or family.text_length(base)
    grid, condition = (math.prod(shape) * _LATENT_BYTES for shape in (spec.latent_shape, spec.condition_latent_shape))
    text = (tokens * width + pooled) * (4 if section.dtype == "float32" else 2)
    counts = [len({pair[key] for pair in pairs}) for key in ("target", "source", "text")]
    return counts[0] * grid + counts[1] * condition + (counts[2] + 1) * text


def report(data: Path, section: CacheSection | None, cache_folder: str | None) -> int:
    """Print what is wrong, one problem per line; returns the exit code: 0, or 1 with problems."""
    problems = check(data, section) if data is not None else []
    if cache_folder is not None:
        problems += Cache(cache_folder).verify()
    for problem in problems:
        print(problem)
    if data is not None and section is not None:
        spec, pairs = read_pairs(data)
        print(f"the cache {section.out} will take {size_text(cache_bytes(section, spec, pairs))}")
    print(counted(len(problems)) if problems else "no problem found")
    return 1 if problems else 0


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
    return [f"cache {section.out} cannot be written: {folder} has {size_text(free)} free, it needs {size_text(needed)}"]

"""Read a cache of latents and text embeddings: checked against its manifest, each shard opened when needed."""

import hashlib
from pathlib import Path
from typing import Annotated

import torch
from pydantic import AfterValidator, Field, model_validator
from safetensors import SafetensorError, safe_open

from runtime.names import is_file_name
from visual_planner.errors import brief
from visual_planner.planner.spec import PlannerSpec

from ..data.pairs_folder import END_EFFECTOR, Places, spec_from
from ..data.sources.records import Count, Index, Record, Text, checked
from ..errors import TrainingError
from ..files import file_name, json_object, tensor_digest
from ..model.bases.registry import base_of
from .storage import Folder

FORMAT = "visual_planner.cache"
_ANY = 2**31
MANIFEST, PAIRS = "manifest.json", "pairs.jsonl"


def _plain_name(name: str) -> str:
    if not is_file_name(name):
        raise ValueError("must lie inside the cache and be the plain name of a file")
    return name


_Name = Annotated[str, AfterValidator(_plain_name)]


class _Manifest(Record):
    """The part of a cache's manifest.json that is read again."""

    spec: dict
    shards: dict[str, list[_Name]]
    shard_size: Count
    text_shard_size: Count | None = None
    empty_prompt: Index
    encoders: dict[Text, Text] = Field(default_factory=dict)
    files: dict[_Name, Annotated[list[Annotated[int, Field(ge=0)] | Text], Field(min_length=2, max_length=2)]] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _has_all_kinds(self) -> "_Manifest":
        if lacking := {"targets", "conditions"} - self.shards.keys():
            raise ValueError(f"shards must have {' and '.join(sorted(lacking))}")
        return self


class _Pair(Record):
    """A line of a cache's pairs.jsonl."""

    id: Text
    mode: Text
    split: Text
    target: Index
    condition: Index
    text: Index
    rank: Index = 0
    first_frame: Text = ""
    end_effector: Places | None = None


class Cache:
    """A finished cache, read shard by shard from memory-mapped files.

    Args:
        folder: where it is: a path, or a URL for fsspec, whose shards are copied here when they are first needed.
        keep: number of a URL's shards that stay on this machine; None keeps all.

    Raises:
        TrainingError: it is unfinished, broken, or lacks a shard.
    """

    def __init__(self, folder: str | Path, keep: int | None = None) -> None:
        self._store = Folder(folder, keep)
        self.folder = folder
        name = self._store.name(MANIFEST)
        what = f"cache manifest {self._store.name(MANIFEST)}"
        self.manifest = json_object(self._store.read(MANIFEST, "cache manifest"), what)
        if self.manifest.get("format") != FORMAT:
            raise TrainingError(f"{what}: format must be {FORMAT!r}, got {brief(self.manifest.get('format'))}")
        held = checked(_Manifest, self.manifest, what)
        self.spec = spec_from(held.spec)
        # caches of version 1 have their text in one file, and no checksums
        self._shards = {"text": ["text.safetensors"], **held.shards}
        self._files: dict[str, safe_open] = {}
        self._room = {kind: len(names) * held.shard_size for kind, names in self._shards.items()}
        self._text_shard_size = held.text_shard_size
        self._room["text"] = len(self._shards["text"]) * (held.text_shard_size or _ANY)
        self._check_place("text", held.empty_prompt, f"{what}: empty_prompt")
        self.pairs = [self._pair(number, line) for number, line in self._lines()]
        if "://" not in str(folder):
            for name in (name for names in self._shards.values() for name in names):
                self._open(name)

    def _lines(self) -> list[tuple[int, bytes]]:
        lines = self._store.read(PAIRS, "cache pairs").split(b"\n")
        return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]

    def _pair(self, number: int, line: bytes) -> dict:
        what = f"cache pairs {self._store.name(PAIRS)} line {number}"
        pair = json_object(line, what)
        checked(_Pair, pair, what)
        file_name(pair["id"], f"{what}: id")
        for kind, key in (("targets", "target"), ("conditions", "condition"), ("text", "text")):
            self._check_place(kind, pair[key], f"{what}: {key}")
        frames = self.spec.layout.frames
        if (places := pair.get(END_EFFECTOR)) is not None and len(places) != frames:
            raise TrainingError(f"{what}: {END_EFFECTOR} must have {frames} places, one a frame, got {len(places)}")
        return pair

    def _check_place(self, kind: str, index: int, what: str) -> None:
        if index >= self._room[kind]:
            raise TrainingError(
                f"{what} must be below {self._room[kind]}, the places of the cache's shards, got {index}"
            )

    def check_encoders(self, base: Path) -> None:
        """Raise TrainingError if the cache was made with other encoders than those of `base`."""
        digests = encoder_digests(base, self.spec)
        for part in ("vae", *base_of(self.spec).text_folders):
            if not any(name.startswith(f"{part}/") for name in digests):
                raise TrainingError(f"{base / part} must have weights as safetensors, so that caches can be told apart")
        for name, value in digests.items():
            if self.manifest.get("encoders", {}).get(name) != value:
                raise TrainingError(
                    f"cache {self.folder} was made with a {name} that differs from that of {base}: create it again"
                )

    def verify(self) -> list[str]:
        """Read every shard again; returns what is wrong, one line per file."""
        problems = []
        for name, (size, digest) in self.manifest.get("files", {}).items():
            data = self._store.read(name, "cache file") if self._store.exists(name) else None
            if data is None:
                problems.append(f"cache file {self._store.name(name)} does not exist")
            elif len(data) != size or hashlib.sha256(data).hexdigest() != digest:
                problems.append(f"cache file {self._store.name(name)} does not match the checksum in its manifest")
        return problems

    def latents(self, kind: str, index: int) -> torch.Tensor:
        """Normalised latents (C, h, w) of picture `index` of kind "targets" or "conditions"."""
        shard, row = divmod(index, self.manifest["shard_size"])
        return self._row(self._shards[kind][shard], "latents", row, 3)

    def text(self, index: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Text embeddings (T, D) of prompt `index`, and pooled text (P,) where the spec's family has one."""
        shard, row = divmod(index, self._text_shard_size or index + 1)
        file = self._shards["text"][shard]
        states = self._row(file, "states", row, 2)
        return states, self._row(file, "pooled", row, 1) if self.spec.base_family.pooled else None

    def _row(self, name: str, key: str, row: int, dimensions: int) -> torch.Tensor:
        """One row of a tensor in a shard.

        Raises:
            TrainingError: there is none with so many dimensions, or it has values that are not finite.
        """
        file = self._open(name)
        try:
            values = file.get_slice(key)[row]
        except (SafetensorError, IndexError, TypeError) as error:
            raise TrainingError(f"cache file {self._store.name(name)} has no row {row} of {key}: {error}") from error
        if values.ndim != dimensions or not torch.isfinite(values).all():
            what = f"{dimensions} dimensions, got {values.ndim}" if values.ndim != dimensions else "finite values"
            raise TrainingError(f"cache file {self._store.name(name)}: row {row} of {key} must have {what}")
        return values

    def _open(self, name: str) -> safe_open:
        if name not in self._files:
            size, digest = self.manifest.get("files", {}).get(name, (None, None))
            try:
                path = self._store.local(name, digest)
                if size is not None and path.stat().st_size != size:
                    raise TrainingError(f"it has {path.stat().st_size} bytes, its manifest says {size}")
                self._files[name] = safe_open(path, "pt")
            except (OSError, SafetensorError, TrainingError) as error:
                raise TrainingError(f"cache file {self._store.name(name)} cannot be read: {error}") from error
            while self._store.keep is not None and len(self._files) > self._store.keep:
                del self._files[next(iter(self._files))]
        return self._files[name]


def encoder_digests(base: Path, spec: PlannerSpec) -> dict[str, str]:
    """SHA-256 of each weight file of the encoders, by its path in the base folder; decoders do not count."""
    files = [
        file
        for name in ("vae", *base_of(spec).text_folders)
        for file in sorted((base / name).glob("[!.]*.safetensors"))
    ]
    return {
        str(file.relative_to(base)): tensor_digest(file, leave_out=("decoder.", "post_quant_conv.")) for file in files
    }

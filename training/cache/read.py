"""Reading a cache of latents and text embeddings: it is checked against its manifest, a shard opened when needed."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from visual_planner.errors import brief

from ..data.pairs_folder import spec_from
from ..errors import TrainingError
from ..files import json_object, tensor_digest
from .storage import Folder

FORMAT = "visual_planner.cache"
MANIFEST, PAIRS = "manifest.json", "pairs.jsonl"


class Cache:
    """A finished cache, read shard by shard from memory-mapped files.

    Args:
        folder: where it is: a path, or a URL for fsspec, whose shards are copied here when they are first needed.
        keep: of a URL's shards, how many stay on this machine; None keeps all.

    Raises:
        TrainingError: it is unfinished, broken, or lacks a shard.
    """

    def __init__(self, folder: str | Path, keep: int | None = None) -> None:
        self._store = Folder(folder, keep)
        self.folder = folder
        name = self._store.name(MANIFEST)
        self.manifest = json_object(self._store.read(MANIFEST, "cache manifest"), f"cache manifest {name}")
        if self.manifest.get("format") != FORMAT:
            raise TrainingError(f"{name}: format must be {FORMAT!r}, got {brief(self.manifest.get('format'))}")
        self.spec = spec_from(self.manifest["spec"])
        lines = self._store.read(PAIRS, "cache pairs").decode().splitlines()
        self.pairs = [json.loads(line) for line in lines]
        # caches of version 1 have their text in one file, and no checksums
        self._shards = {"text": ["text.safetensors"], **self.manifest["shards"]}
        self._files: dict[str, safe_open] = {}
        if "://" not in str(folder):
            for name in (name for names in self._shards.values() for name in names):
                self._open(name)

    def check_encoders(self, base: Path) -> None:
        """Raise TrainingError if the cache was made with other encoders than those of `base`."""
        for name, value in encoder_digests(base).items():
            if self.manifest["encoders"].get(name) != value:
                raise TrainingError(
                    f"cache {self.folder} was made with a {name} that differs from that of {base}: create it again"
                )

    def verify(self) -> list[str]:
        """Read every shard again; returns what is wrong, a line a file."""
        problems = []
        for name, (size, digest) in self.manifest.get("files", {}).items():
            data = self._store.read(name, "cache file") if self._store.exists(name) else None
            if data is None:
                problems.append(f"cache file {self._store.name(name)} does not exist")
            elif len(data) != size or hashlib.sha256(data).hexdigest() != digest:
                problems.append(f"cache file {self._store.name(name)} does not match the checksum in its manifest")
        return problems

    def latents(self, kind: str, index: int) -> torch.Tensor:
        """Normalised latents (16, h, w) of picture `index` of kind "targets" or "conditions"."""
        shard, row = divmod(index, self.manifest["shard_size"])
        return self._open(self._shards[kind][shard]).get_slice("latents")[row]

    def text(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """T5 states (T, D) and pooled CLIP state (P,) of prompt `index`."""
        shard, row = divmod(index, self.manifest.get("text_shard_size", index + 1))
        file = self._open(self._shards["text"][shard])
        return file.get_slice("states")[row], file.get_slice("pooled")[row]

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


def encoder_digests(base: Path) -> dict[str, str]:
    """SHA-256 of each weight file of the encoders, by its path in the base folder; decoders do not count."""
    files = [
        file
        for name in ("vae", "text_encoder", "text_encoder_2")
        for file in sorted((base / name).glob("*.safetensors"))
    ]
    return {
        str(file.relative_to(base)): tensor_digest(file, leave_out=("decoder.", "post_quant_conv.")) for file in files
    }

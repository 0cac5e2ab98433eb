"""The caches that a run trains on, combined: their pairs, and how often each cache is drawn from."""

from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path

import torch

from ..errors import TrainingError
from .read import Cache


class Mixture:
    """One cache or several of the same spec.

    Args:
        caches: finished ones.
        shares: how often each is drawn from; None: all pairs equally often.

    Attributes:
        spec: the spec of all caches.
        name: their folders.
        shares: as given.
        pairs: those of all caches, each with its cache's number as "source"; if there are several, ids begin with it.

    Raises:
        TrainingError: they differ in spec or in the shape of their text, or one trains on what another validates on.
    """

    def __init__(self, caches: Sequence[Cache], shares: Sequence[float] | None = None) -> None:
        self.caches, self.shares = list(caches), list(shares) if shares is not None else None
        self.spec = self.caches[0].spec
        self.name = ", ".join(str(cache.folder) for cache in self.caches)
        shapes = [[None if part is None else tuple(part.shape) for part in cache.text(0)] for cache in self.caches]
        for cache, shape in zip(self.caches, shapes, strict=True):
            different = cache.spec.differences(self.spec)
            if different or shape != shapes[0]:
                what = "spec" if different else "text of the shape"
                raise TrainingError(
                    f"caches that are trained on together must have the same {what}: {cache.folder} differs from "
                    f"{self.caches[0].folder}"
                )
        several = len(self.caches) > 1
        if several:
            self._check_leaks()
        self.pairs = [
            {**pair, "source": number, "id": f"{number}_{pair['id']}" if several else pair["id"]}
            for number, cache in enumerate(self.caches)
            for pair in cache.pairs
        ]

    @classmethod
    def open(cls, where: str | Path | Sequence[str | Path] | Mapping[str | Path, float]) -> "Mixture":
        """The caches that a `train` section names: one, several, or several with their shares.

        Raises:
            TrainingError: one cannot be read, or they do not belong together.
        """
        folders = [where] if isinstance(where, (str, Path)) else list(where)
        shares = list(where.values()) if isinstance(where, Mapping) else None
        return cls([Cache(folder) for folder in folders], shares)

    def _check_leaks(self) -> None:
        """Raise TrainingError if a first frame is trained on in one cache and kept out of training in another."""
        sides = [
            [{pair.get("first_frame") for pair in cache.pairs if (pair["split"] == "train") == trained} - {None}
             for trained in (True, False)]
            for cache in self.caches
        ]  # fmt: skip
        for (one, (trained, _)), (other, (_, kept)) in permutations(zip(self.caches, sides, strict=True), 2):
            if shared := trained & kept:
                raise TrainingError(
                    f"{len(shared)} first frames that {other.folder} keeps for validation are training data in "
                    f"{one.folder}: split both data sets alike, or leave one cache out"
                )

    def check_encoders(self, base: Path) -> None:
        """Raise TrainingError if a cache was made with other encoders than those of `base`."""
        for cache in self.caches:
            cache.check_encoders(base)

    def target(self, pair: dict) -> torch.Tensor:
        """Normalised latents (C, h, w) of a pair's true grid."""
        return self.caches[pair["source"]].latents("targets", pair["target"])

    def condition(self, pair: dict) -> torch.Tensor:
        """Normalised latents (C, h, w) of what the planner is given."""
        return self.caches[pair["source"]].latents("conditions", pair["condition"])

    def text(self, pair: dict, dropped: bool = False) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Text embeddings (T, D) of a pair's prompt or of the empty one, and pooled text (P,) in families with one."""
        cache = self.caches[pair["source"]]
        return cache.text(cache.manifest["empty_prompt"] if dropped else pair["text"])

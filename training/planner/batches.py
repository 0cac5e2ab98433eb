"""Draw the cached pairs that a step sees."""

import math

import torch

from ..cache.mixture import Mixture
from ..data.pairs_folder import END_EFFECTOR
from ..errors import TrainingError
from ..loop.randomness import step_generator
from ..sections.planner import TrainSection
from .objective import Batch


class CachedPairs:
    """Draws batches of cached pairs, as a function of (seed, index, place in the batch) only.

    Args:
        mixture: the caches.
        section: batch size, seed, weights of the modes, dropout.
        split: "train" or "validation".
        share: number of this process and count of processes; together they draw one large batch.
    """

    def __init__(
        self, mixture: Mixture, section: TrainSection, split: str = "train", share: tuple[int, int] = (0, 1)
    ) -> None:
        self.mixture, self.section, self.share = mixture, section, share
        self.by_mode: dict[str, dict[int, list[dict]]] = {}  # mode -> number of the cache -> its pairs
        for pair in mixture.pairs:
            if pair["split"] == split:
                self.by_mode.setdefault(pair["mode"], {}).setdefault(pair["source"], []).append(pair)
        weights = section.mode_weights or dict.fromkeys(self.by_mode, 1.0)
        absent = [mode for mode, weight in weights.items() if weight and mode not in self.by_mode]
        if absent:
            raise TrainingError(
                f"train.mode_weights asks for {', '.join(absent)}, but cache {mixture.name} has only "
                f"{', '.join(self.by_mode)}"
            )
        self.modes = [mode for mode in self.by_mode if weights.get(mode)]
        if not self.modes:
            raise TrainingError(f"cache {mixture.name} has no pair of split {split!r} whose mode has a weight")
        if section.objective.end_effector_weight and not any(pair.get(END_EFFECTOR) for pair in mixture.pairs):
            raise TrainingError(
                f"train.objective.end_effector_weight must be 0 for cache {mixture.name}: none of its pairs says where "
                "the end effector is (prepare and cache again, from a source with paths)"
            )
        self.weights = torch.tensor([weights[mode] for mode in self.modes])

    def __len__(self) -> int:
        """Number of pairs that can be drawn."""
        return sum(len(pairs) for mode in self.modes for pairs in self.by_mode[mode].values())

    def batch(self, index: int, device: torch.device) -> Batch:
        """This process's part of the batch with an index."""
        section, mixture = self.section, self.mixture
        process, processes = self.share
        draw = step_generator(section.seed + 1, index)
        total = section.batch_size * processes
        modes = torch.multinomial(self.weights, total, replacement=True, generator=draw)
        pairs = []
        for mode in modes.tolist():
            group = self._draw_source(self.modes[mode], draw)
            pairs.append(group[int(torch.randint(len(group), (), generator=draw))])
        own = slice(section.batch_size * process, section.batch_size * (process + 1))
        pairs, chance = pairs[own], torch.rand(2, total, generator=draw)[:, own]
        dropped = (chance[0] < section.objective.caption_dropout).tolist()
        condition = torch.stack([mixture.condition(pair).float() for pair in pairs])
        condition[chance[1] < section.objective.condition_dropout] = 0.0
        states, pooled = zip(*map(mixture.text, pairs, dropped), strict=True)
        return Batch(
            torch.stack([mixture.target(pair).float() for pair in pairs]).to(device),
            condition.to(device),
            torch.stack(states).to(device),
            None if pooled[0] is None else torch.stack(pooled).to(device),
            self._end_effector(pairs, device),
        )

    def _end_effector(self, pairs: list[dict], device: torch.device) -> torch.Tensor | None:
        """See `Batch.end_effector`."""
        if not self.section.objective.end_effector_weight:
            return None
        unknown = [[math.nan, math.nan]] * self.mixture.spec.layout.frames
        return torch.tensor([pair.get(END_EFFECTOR) or unknown for pair in pairs], device=device)

    def _draw_source(self, mode: str, draw: torch.Generator) -> list[dict]:
        """The pairs of one cache with the mode, drawn by the caches' weights; nothing is drawn if there is only one."""
        sources = self.by_mode[mode]
        if len(sources) == 1:
            return next(iter(sources.values()))
        shares = self.mixture.shares
        weights = [len(pairs) if shares is None else shares[number] for number, pairs in sources.items()]
        chosen = int(torch.multinomial(torch.tensor(weights, dtype=torch.float64), 1, generator=draw))
        return list(sources.values())[chosen]

"""Which cached pairs a step sees."""

import torch

from .cache_reader import Cache
from .errors import TrainingError
from .loop import step_generator
from .objective import Batch
from .train_config import TrainSection


class CachedPairs:
    """Draws batches of cached pairs; which ones depends on (seed, index, place in the batch) only.

    Args:
        cache: the finished cache.
        section: batch size, seed, weights of the modes, dropout.
        split: "train" or "validation".
        share: number of this process and count of processes; together they draw one large batch.
    """

    def __init__(
        self, cache: Cache, section: TrainSection, split: str = "train", share: tuple[int, int] = (0, 1)
    ) -> None:
        self.cache, self.section, self.share = cache, section, share
        self.by_mode: dict[str, list[dict]] = {}
        for pair in cache.pairs:
            if pair["split"] == split:
                self.by_mode.setdefault(pair["mode"], []).append(pair)
        weights = section.mode_weights or dict.fromkeys(self.by_mode, 1.0)
        absent = [mode for mode, weight in weights.items() if weight and mode not in self.by_mode]
        if absent:
            raise TrainingError(
                f"train.mode_weights asks for {', '.join(absent)}, but cache {cache.folder} has only "
                f"{', '.join(self.by_mode)}"
            )
        self.modes = [mode for mode in self.by_mode if weights.get(mode)]
        if not self.modes:
            raise TrainingError(f"cache {cache.folder} has no pair of split {split!r} whose mode has a weight")
        self.weights = torch.tensor([weights[mode] for mode in self.modes])

    def __len__(self) -> int:
        """Number of pairs that can be drawn."""
        return sum(len(self.by_mode[mode]) for mode in self.modes)

    def batch(self, index: int, device: torch.device) -> Batch:
        """This process's share of the batch of one index."""
        section, cache = self.section, self.cache
        process, processes = self.share
        draw = step_generator(section.seed + 1, index)
        total = section.batch_size * processes
        modes = torch.multinomial(self.weights, total, replacement=True, generator=draw)
        pairs = []
        for mode in modes.tolist():
            group = self.by_mode[self.modes[mode]]
            pairs.append(group[int(torch.randint(len(group), (), generator=draw))])
        own = slice(section.batch_size * process, section.batch_size * (process + 1))
        pairs, chance = pairs[own], torch.rand(2, total, generator=draw)[:, own]
        texts = [
            cache.manifest["empty_prompt"] if chance[0, i] < section.objective.caption_dropout else pair["text"]
            for i, pair in enumerate(pairs)
        ]
        condition = torch.stack([cache.latents("conditions", pair["condition"]).float() for pair in pairs])
        condition[chance[1] < section.objective.condition_dropout] = 0.0
        states, pooled = zip(*(cache.text(text) for text in texts), strict=True)
        return Batch(
            torch.stack([cache.latents("targets", pair["target"]).float() for pair in pairs]).to(device),
            condition.to(device),
            torch.stack(states).to(device),
            torch.stack(pooled).to(device),
        )

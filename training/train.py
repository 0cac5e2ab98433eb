"""Training a planner LoRA on a frozen base, from a cache."""

from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel

from .cache import Cache
from .config import Config, TrainSection, save_config
from .errors import TrainingError
from .loop import Loop, make_accelerator, step_generator
from .lora import add_lora
from .objective import Batch, InContext, flow_matching_loss


class CachedPairs:
    """Draws batches of cached pairs; which ones depends on (seed, index, process) only.

    Args:
        cache: the finished cache.
        section: batch size, seed, weights of the modes, dropout.
        split: "train" or "validation".
    """

    def __init__(self, cache: Cache, section: TrainSection, split: str = "train") -> None:
        self.cache, self.section = cache, section
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

    def batch(self, index: int, process: int, device: torch.device) -> Batch:
        """The batch of one index on one process."""
        section, cache = self.section, self.cache
        draw = step_generator(section.seed + 1, index, process)
        modes = torch.multinomial(self.weights, section.batch_size, replacement=True, generator=draw)
        pairs = []
        for mode in modes.tolist():
            group = self.by_mode[self.modes[mode]]
            pairs.append(group[int(torch.randint(len(group), (), generator=draw))])
        chance = torch.rand(2, section.batch_size, generator=draw)
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


def load_transformer(base: str | Path, dtype: str = "float32") -> FluxTransformer2DModel:
    """The transformer of a diffusers folder.

    Raises:
        TrainingError: the folder has none.
    """
    folder = Path(base) / "transformer"
    if not (folder / "config.json").is_file():
        raise TrainingError(
            f"base model {base} has no transformer/config.json: it must be a FLUX pipeline in diffusers layout"
        )
    return FluxTransformer2DModel.from_pretrained(folder, torch_dtype=getattr(torch, dtype))


def train(config: Config) -> None:
    """Train (or go on training) a LoRA; checkpoints and log are in `train.out`."""
    section: TrainSection = config.section("train")
    cache = Cache(section.cache)
    if config.planner_spec() != cache.spec:
        raise TrainingError(
            f"the configuration's spec is not the one cache {cache.folder} was made with: make the cache anew"
        )
    cache.check_encoders(Path(section.base))
    accelerator = make_accelerator(section, section.device)
    transformer = load_transformer(section.base, section.base_dtype)
    if section.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    add_lora(transformer, section.lora)
    pairs = CachedPairs(cache, section)
    in_context = InContext(cache.spec, accelerator.device)
    guidance = transformer.config.guidance_embeds

    def loss_of(model: torch.nn.Module, index: int, generator: torch.Generator) -> torch.Tensor:
        batch = pairs.batch(index, accelerator.process_index, accelerator.device)
        return flow_matching_loss(model, in_context, batch, section.objective, generator, guidance)

    loop = Loop(section, transformer, loss_of, accelerator)
    loop.resume()
    if accelerator.is_main_process:
        save_config(config, Path(section.out) / "config.yaml")
    finished = loop.run()
    print(f"{'finished' if finished else 'stopped'} at step {loop.step} of {section.max_steps}: {section.out}")

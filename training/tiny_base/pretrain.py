"""Train the tiny base: a text-to-picture model of the table world that has never seen a task.

It learns grids in which arm and objects move at random, each with a caption of the scene. It sees no condition picture
and no instruction: only the LoRA learns to plan.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from tqdm import tqdm

from visual_planner.planner.spec import PlannerSpec

from ..data.episodes import EpisodeSet
from ..errors import TrainingError
from ..files import write_tensors
from ..loop.checkpoints import latest_checkpoint
from ..loop.loop import Loop, make_accelerator
from ..loop.randomness import step_generator
from ..loop.record import make_record
from ..model.autoencoder import encode_cells, load_vae
from ..model.in_context import InContext
from ..model.text import TextEncoders
from ..model.transformer import load_transformer
from ..planner.objective import Batch, flow_matching_loss
from ..sections.config import Config
from ..sections.planner import PretrainSection
from .parts import make_clip, make_t5, make_transformer, write_pipeline
from .tokenizers import vocabulary_sizes, write_clip_tokenizer, write_t5_tokenizer
from .words import planner_texts, prompts_of


class Base(nn.Module):
    """Transformer and text encoders, trained together."""

    def __init__(self, transformer: nn.Module, encoders: TextEncoders) -> None:
        super().__init__()
        self.transformer, self.encoders = transformer, encoders

    def forward(self, in_context: InContext, batch: Batch, ids: tuple, objective, generator: torch.Generator):
        """Flow-matching loss of a batch whose prompts are given as token ids (CLIP, T5)."""
        batch.text, batch.pooled = self.encoders.encode(*ids)
        return flow_matching_loss(self.transformer, in_context, batch, objective, generator, guidance_embedded=True)


def pretrain(config: Config) -> None:
    """Train (or resume training) the base and write it as the folder of a FLUX pipeline."""
    section: PretrainSection = config.section("pretrain")
    spec = config.planner_spec()
    accelerator = make_accelerator(section)
    data = EpisodeSet.open(section.source)
    if data.info.get("kind") != "play":
        raise TrainingError(
            f"{section.source} is of kind {data.info.get('kind')!r}: the base must see no task, only 'play'"
        )
    captions = [episode.record["caption"] for episode in data.episodes]
    base = Path(section.base)
    told = [EpisodeSet.open(folder).instructions() for folder in section.instructions]
    texts = prompts_of(spec, sorted(set().union(*told))) if told else planner_texts(spec)
    model = _make_model(section, base, [*captions, *texts])
    latents = _grid_latents(data, spec, section, accelerator.device)
    clip_ids, t5_ids = model.encoders.tokenize([*captions, ""])
    in_context = InContext(spec, accelerator.device)
    empty = len(captions)

    def loss_of(model: nn.Module, index: int, generator: torch.Generator) -> torch.Tensor:
        draw = step_generator(section.seed + 1, index, accelerator.process_index)
        rows = torch.randint(len(latents), (section.batch_size,), generator=draw)
        dropped = torch.rand(len(rows), generator=draw) < section.objective.caption_dropout
        texts = torch.where(dropped, empty, rows)
        batch = Batch(latents[rows].float().to(accelerator.device), None, None, None)
        return model(in_context, batch, (clip_ids[texts], t5_ids[texts]), section.objective, generator)

    inputs = {"source": section.source, "vae": section.vae, "instructions": section.instructions or None}
    record = make_record("pretrain", section, inputs, spec, accelerator.num_processes)
    loop = Loop(section, model, loss_of, accelerator, record=record)
    loop.resume()
    finished = loop.run()
    if accelerator.is_main_process and finished:
        loop.use_averaged()
        encoders = model.encoders
        write_pipeline(base, section, model.transformer, encoders.clip, encoders.t5, spec.mu())
        print(f"base: {base}")


def _make_model(section: PretrainSection, base: Path, texts: list[str]) -> Base:
    distinct = sorted(set(texts))
    if latest_checkpoint(Path(section.out)) is None:  # learning a vocabulary again could number its words differently
        write_clip_tokenizer(distinct, base / "tokenizer")
        write_t5_tokenizer(distinct, base / "tokenizer_2", section.text_tokens)
    clip_words, t5_words = vocabulary_sizes(base)
    clip, t5 = make_clip(clip_words), make_t5(t5_words)
    transformer = make_transformer(section.heads, section.double_blocks, section.single_blocks)
    if section.init is not None:
        _start_from(transformer, section.init)
    encoders = TextEncoders(base, clip, t5)
    longest = max(distinct, key=encoders.count_tokens)
    if encoders.count_tokens(longest) > section.text_tokens:
        raise TrainingError(
            f"pretrain.text_tokens is {section.text_tokens}, but {longest!r} takes {encoders.count_tokens(longest)}"
        )
    return Base(transformer, encoders)


def _start_from(transformer: nn.Module, init: Path) -> None:
    weights = load_transformer(init).state_dict()
    own = transformer.state_dict()
    different = sorted(name for name in own.keys() | weights.keys() if _shape(own, name) != _shape(weights, name))
    if different:
        name = different[0]
        raise TrainingError(
            f"pretrain.init {init} must have the sizes of this base, but {name} is {_shape(weights, name)} "
            f"instead of {_shape(own, name)}"
        )
    transformer.load_state_dict(weights)


def _shape(weights: dict, name: str) -> tuple[int, ...] | None:
    return tuple(weights[name].shape) if name in weights else None


def _grid_latents(data: EpisodeSet, spec: PlannerSpec, section: PretrainSection, device: torch.device) -> torch.Tensor:
    """Latents (N, 16, H/8, W/8) float16 on the CPU of every episode's grid, kept in the run's folder."""
    file = Path(section.out) / "latents.safetensors"
    if file.is_file():
        return load_file(file)["latents"]
    vae = load_vae(section.vae, device=device)
    latents = []
    for start in tqdm(range(0, len(data.episodes), 8), desc="latents"):
        frames = np.concatenate([episode.load_frames() for episode in data.episodes[start : start + 8]])
        latents.append(encode_cells(vae, frames, spec.layout).half().cpu())
    latents = torch.cat(latents)
    write_tensors(file, {"latents": latents})
    return latents

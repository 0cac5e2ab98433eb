"""A checkpoint → one LoRA file that stock ComfyUI, diffusers and the planner's own loader read alike."""

from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel

from .checkpoints import latest_checkpoint, load_checkpoint
from .config import Config, ExportSection
from .errors import TrainingError
from .files import write_tensors
from .lora import PREFIX, check_exported, fold_alpha
from .train import load_transformer


def export(config: Config) -> None:
    """Write `export.out` from the newest checkpoint of `export.run`."""
    section: ExportSection = config.section("export")
    train = config.section("train")
    checkpoint = latest_checkpoint(Path(section.run))
    if checkpoint is None:
        raise TrainingError(f"export.run {section.run} has no finished checkpoint")
    parts, record = load_checkpoint(checkpoint)
    source = parts["averaged"] if section.averaged and "averaged" in parts else parts["weights"]
    # peft puts the adapter's name into parameter names; files do not have it
    tensors = {PREFIX + name.replace(".planner.weight", ".weight"): tensor for name, tensor in source.items()}
    tensors = fold_alpha({name: tensor.float() for name, tensor in tensors.items()}, train.lora)
    transformer = load_transformer(train.base)
    check_exported(tensors, transformer)
    spec = config.planner_spec()
    height, width = spec.grid_size
    metadata = {
        **spec.to_metadata(),
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": architecture(transformer),
        "modelspec.title": section.title,
        "modelspec.resolution": f"{width}x{height}",
        "modelspec.trigger_phrase": spec.text_prompt,
        "modelspec.prediction_type": "flow",
        "ss_base_model_version": "flux1",
        "visual_planner.steps": str(record["step"]),
    }
    dtype = getattr(torch, section.dtype)
    write_tensors(section.out, {name: tensor.to(dtype) for name, tensor in tensors.items()}, metadata)
    print(f"{section.out}: {len(tensors)} tensors, rank {train.lora.rank}, step {record['step']}")


def architecture(transformer: FluxTransformer2DModel) -> str:
    """The architecture's name in model-spec metadata."""
    return f"flux-1-{'dev' if transformer.config.guidance_embeds else 'schnell'}/lora"

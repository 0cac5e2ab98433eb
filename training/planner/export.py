"""A checkpoint -> one LoRA file that stock ComfyUI, diffusers and the planner's own loader can all read."""

import base64
import io
import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from visual_planner.errors import PlannerError
from visual_planner.planner.spec import NOT_TRAINED, PlannerSpec

from ..data.sources.pictures import read_picture
from ..errors import TrainingError
from ..files import as_record, replacing, save_sorted
from ..loop.checkpoints import latest_checkpoint, load_checkpoint
from ..loop.record import FREE, RUN, content_digest, describe, differences, plain_settings, with_current_spec
from ..loop.runlog import BESIDE, PLANS
from ..model.bases.registry import base_of
from ..model.key_map import check_loads
from ..model.lora import file_tensors, stack
from ..model.lora_files import read_lora
from ..model.transformer import from_shape
from ..sections.config import Config
from ..sections.output import hold
from ..sections.planner import LoraSection
from ..sections.result import ExportSection
from .distill import student_spec
from .train import DECIDES_NOTHING

_THUMBNAIL_PX = 256


def export(config: Config, install: str | Path | None = None) -> Path:
    """Write `export.out` from the newest checkpoint of `export.run` and the record in it.

    Args:
        config: section export; if there is a spec or a section train, they must be those of the run, except for fields
            that do not affect training: `spec.execution_steps` replaces the run's.
        install: folder of a ComfyUI; the file is also copied into its models/loras.

    Returns:
        The file.

    Raises:
        TrainingError: there is no checkpoint, the file would not load in ComfyUI, or the folder is not a ComfyUI.
    """
    section: ExportSection = config.section("export")
    loras = None if install is None else loras_folder(install)
    checkpoint = latest_checkpoint(Path(section.run))
    if checkpoint is None:
        raise TrainingError(f"export.run {section.run} has no finished checkpoint")
    parts, state = load_checkpoint(checkpoint)
    record = run_record(state, checkpoint)
    check_configuration(config, record, checkpoint)
    with as_record(f"checkpoint record {checkpoint / 'state.json'}"):
        lora, spec = LoraSection(**record["settings"]["lora"]), PlannerSpec(**record["spec"])
    if record["kind"] == "train":  # a student's steps are those that it was distilled for
        spec = replace(spec, **{name: config.spec[name] for name in NOT_TRAINED if config.spec.get(name) is not None})
    averaged = section.averaged and "averaged" in parts
    tensors = file_tensors(parts["averaged" if averaged else "weights"], lora)
    with as_record(f"checkpoint record {checkpoint / 'state.json'}"):
        transformer = from_shape(record["model"], spec)
    if "lora.base" in record["inputs"]:  # include the LoRA that was fused into the base during training
        tensors = stack(_base_lora(config.section(record["kind"]).lora.base, record, checkpoint, transformer), tensors)
    dtype = getattr(torch, section.dtype)
    tensors = {name: tensor.to(dtype).contiguous() for name, tensor in tensors.items()}
    metadata = {
        **spec.to_metadata(),
        **model_spec(section, spec, transformer, _thumbnail(section)),
        "modelspec.date": state["date"],
        "visual_planner.steps": str(state["step"]),
        "visual_planner.weights": "averaged" if averaged else "last",
    }
    layers = write_lora(Path(section.out), tensors, metadata, transformer)
    print(f"{section.out}: {layers} layers, {len(tensors)} tensors, rank {lora.rank}, step {state['step']}")
    if loras is not None:
        print(f"installed: {_install(Path(section.out), loras)}")
    return Path(section.out)


def run_record(state: dict, checkpoint: Path) -> dict:
    """The run's own record in a checkpoint's state.

    Raises:
        TrainingError: an older version wrote the checkpoint, or it belongs to another training.
    """
    record = state.get(RUN)
    if record is None:
        raise TrainingError(
            f"checkpoint {checkpoint} has no record of its settings (an older version wrote it): "
            "run train once more with train.changes=[record], then export"
        )
    if record["kind"] not in ("train", "distill"):
        raise TrainingError(f"export.run must be the run of a planner LoRA, but {checkpoint} is of {record['kind']}")
    return with_current_spec(record)


def check_configuration(config: Config, record: dict, checkpoint: Path) -> None:
    """Refuse a configuration that differs from what the run was trained with; missing sections are not compared.

    Raises:
        TrainingError: a field differs; the message names it.
    """
    now = {**record}
    section = getattr(config, record["kind"])
    if config.spec:
        spec = config.planner_spec()
        if record["kind"] == "distill" and section is not None:
            spec = student_spec(spec, section)
        now["spec"] = json.loads(json.dumps(asdict(spec)))
    if section is not None:
        settings = plain_settings(section, FREE | {*DECIDES_NOTHING, "batch_size"})
        now["settings"] = {"batch_size": record["settings"]["batch_size"], **settings}
    for name, (before, after) in differences(record, now).items():
        raise TrainingError(describe(name, before, after, checkpoint))


def _base_lora(
    file: Path | None, record: dict, checkpoint: Path, transformer: torch.nn.Module
) -> dict[str, torch.Tensor]:
    if file is None or not file.is_file() or content_digest(file) != record["inputs"]["lora.base"]:
        raise TrainingError(f"{record['kind']}.lora.base must be the LoRA that {checkpoint} was trained on, got {file}")
    return read_lora(file, transformer)


def write_lora(
    file: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str], transformer: torch.nn.Module
) -> int:
    """Write a LoRA, read it back, check it against ComfyUI's key map, and only then give it its final name.

    Returns:
        Number of layers that it changes.
    """
    with replacing(file) as temporary:
        save_sorted(tensors, temporary, {"format": "pt", **metadata})
        layers = check_loads(load_file(temporary), transformer)
        with safe_open(temporary, "pt") as opened:
            PlannerSpec.from_metadata(opened.metadata())
    return layers


def model_spec(
    section: ExportSection, spec: PlannerSpec, transformer: torch.nn.Module, thumbnail: str | None
) -> dict[str, str]:
    """Header entries by which model browsers know a file (ModelSpec 1.0.0)."""
    height, width = spec.grid_size
    entries = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": base_of(spec).architecture(transformer),
        "modelspec.implementation": "diffusers",
        "modelspec.title": section.title,
        "modelspec.description": f"{spec.rows}x{spec.cols} frames of a robot's plan; modes {', '.join(spec.modes)}",
        "modelspec.resolution": f"{width}x{height}",
        "modelspec.trigger_phrase": spec.text_prompt,
        "modelspec.prediction_type": "flow",
        "ss_base_model_version": base_of(spec).model_version,
    }
    return entries if thumbnail is None else {**entries, "modelspec.thumbnail": thumbnail}


def loras_folder(comfyui: str | Path) -> Path:
    """Folder of LoRAs of a ComfyUI (or of its base directory).

    Raises:
        TrainingError: the folder is not a ComfyUI.
    """
    comfyui = Path(comfyui)
    loras = comfyui / "models" / "loras"
    if not loras.is_dir():
        raise TrainingError(f"--install must name the folder of a ComfyUI, but {comfyui} has no folder models/loras")
    return loras


def _install(file: Path, loras: Path) -> Path:
    """Copy a planner LoRA into ComfyUI; only another planner LoRA of that name is replaced."""
    target = loras / re.sub(r"[^\w.-]", "_", file.name)
    if target.exists():
        try:
            with safe_open(target, "pt") as opened:
                planner = PlannerSpec.from_metadata(opened.metadata()) is not None
        except (OSError, SafetensorError, PlannerError):
            planner = False
        if not planner:
            raise TrainingError(f"{target} exists and is not a planner LoRA: choose another name for export.out")
    data = file.read_bytes()
    with hold(target, "export"), replacing(target) as temporary:
        temporary.write_bytes(data)
    return target


def _thumbnail(section: ExportSection) -> str | None:
    """A small JPEG as a data URI: the given picture, or the newest plan from validation."""
    file = section.thumbnail
    if file is None:
        plans = sorted(Path(section.run).glob(f"{PLANS}/[0-9]*/*.png"))
        plans = [plan for plan in plans if not plan.stem.endswith(BESIDE)]
        newest = plans[-1].parent if plans else None
        file = next((plan for plan in plans if plan.parent == newest), None)
    if file is None:
        return None
    small = Image.fromarray(read_picture(Path(file), f"export.thumbnail {file}"))
    small.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    held = io.BytesIO()
    small.save(held, "jpeg", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode('ascii')}"

"""The configuration of a run: one YAML file, one section per command, unknown keys refused.

Every field has a range and a description; `python -m training describe` prints them. A command saves the
configuration as it was resolved beside its results.
"""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from visual_planner.prompts import MODES
from visual_planner.readout import ReadoutSpec
from visual_planner.spec import PlannerSpec

from .data_config import CacheSection, Location, Positive, PrepareSection, Section
from .errors import TrainingError
from .files import write_text

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
ModeWeights = dict[Literal[MODES], Annotated[float, Field(ge=0.0)]]


class OptimizerSection(Section):
    """How weights follow gradients."""

    name: Literal["adamw", "adamw8bit", "prodigy", "muon"] = Field(
        "adamw",
        description="adamw8bit: state in 8 bits (bitsandbytes); prodigy: finds its own rate (prodigyopt, "
        "learning_rate 1); muon: Muon for hidden matrices, AdamW for the rest",
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-4, description="of all but Muon")
    muon_learning_rate: Annotated[float, Field(gt=0)] = Field(0.02, description="of Muon, per unit spectral norm")
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.999), description="of AdamW")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="decoupled")
    max_grad_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="gradients are scaled down to this norm")
    warmup_steps: Annotated[int, Field(ge=0)] = Field(0, description="steps of linear warm-up")
    decay_steps: Annotated[int, Field(ge=0)] = Field(0, description="last steps, over which the rate falls to zero")


class ObjectiveSection(Section):
    """Flow matching: which noise levels, which weights."""

    timesteps: Literal["uniform", "logit_normal", "shifted"] = Field(
        "uniform", description="distribution of the noise level s"
    )
    shift: Annotated[float, Field(gt=0)] = Field(
        3.0, description="shifted: s = shift u / (1 + (shift - 1) u), u uniform: more noise the larger it is"
    )
    logit_mean: float = Field(0.0, description="logit_normal: s = sigmoid(N(mean, std))")
    logit_std: Annotated[float, Field(gt=0)] = Field(1.0, description="logit_normal: s = sigmoid(N(mean, std))")
    motion_weight: Annotated[float, Field(ge=0)] = Field(
        0.0, description="extra loss weight of latents that differ from the first frame's (0: plain mean squared error)"
    )
    guidance: tuple[float, float] = Field(
        (1.0, 1.0), description="guidance embedded in training: range, drawn uniformly"
    )
    caption_dropout: Fraction = Field(0.0, description="share of examples whose prompt is replaced by the empty one")
    condition_dropout: Fraction = Field(
        0.0, description="share of examples whose condition latent is replaced by zeros"
    )


class RunSection(Section):
    """The loop: how long, how often saved."""

    out: Path = Field(description="folder of the run: checkpoints, log, resolved configuration")
    seed: int = Field(0, description="of weights, data order and noise")
    batch_size: Positive = Field(1, description="examples a step and process")
    max_steps: Positive = Field(1000, description="steps of the whole run")
    max_hours: Annotated[float, Field(gt=0)] | None = Field(None, description="stop (and save) after this time")
    save_every: Positive = Field(500, description="steps between checkpoints")
    log_every: Positive = Field(10, description="steps between lines of the log")
    keep: Positive = Field(2, description="checkpoints kept")
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="decay of the averaged weights (0: none)")
    mixed_precision: Literal["no", "bf16", "fp16"] = Field("no", description="autocast of the forward pass")
    gradient_accumulation: Positive = Field(1, description="batches to a step")
    threads: Annotated[int, Field(ge=0)] = Field(0, description="CPU threads (0: torch's choice)")
    tensorboard: bool = Field(False, description="also write TensorBoard events to the run's folder")
    optimizer: OptimizerSection = Field(default_factory=OptimizerSection)
    objective: ObjectiveSection = Field(default_factory=ObjectiveSection)


class VaeSection(RunSection):
    """Training the tiny base's image autoencoder."""

    source: list[Path] = Field(description="folders of episode data sets")
    init: Path | None = Field(None, description="autoencoder to start from (diffusers folder); none: from scratch")
    latent_noise: Annotated[float, Field(ge=0)] = Field(0.05, description="noise added to latents before decoding")
    channels: tuple[Positive, Positive, Positive, Positive] = Field(
        (32, 32, 64, 64), description="widths, from full to 1/8"
    )


class DecoderSection(RunSection):
    """Training the autoencoder's decoder alone on whole grids."""

    source: list[Path] = Field(description="folders of episode data sets")
    vae: Path = Field(description="diffusers folder of the autoencoder, replaced by the result")
    latent_noise: Annotated[float, Field(ge=0)] = Field(0.05, description="noise added to latents before decoding")


class PretrainSection(RunSection):
    """Training the tiny base (transformer and text encoders) from scratch on pictures that show no task."""

    source: Path = Field(description="folder of an episode data set of kind play")
    vae: Path = Field(description="diffusers folder of the trained autoencoder")
    base: Path = Field(description="diffusers pipeline folder to write")
    heads: Positive = Field(2, description="attention heads of 128")
    double_blocks: Positive = 3
    single_blocks: Positive = 6
    text_tokens: Positive = Field(32, description="fixed length of the T5 prompt")


class LoraSection(Section):
    """The adapter."""

    rank: Positive = 128
    alpha: Annotated[float, Field(gt=0)] = 128
    targets: Literal["attention", "paper", "blocks", "all_linear"] = Field(
        "paper", description="which linear layers get an adapter; paper: attention, and feed-forwards of double blocks"
    )
    merged_forward: bool = Field(False, description="compute with W + s B A in one product (cheaper for small models)")
    base: Path | None = Field(None, description="LoRA that is fused into the frozen base first and trained on top of")


class ValidationSection(Section):
    """Plans of scenes that are not trained on, made before the first step and while training."""

    every: Annotated[int, Field(ge=0)] = Field(0, description="steps between validations (0: none)")
    scenes: Positive = Field(3, description="plans, spread over the modes")
    seed: int = Field(0, description="of the first plan's noise; the next plan has the next seed")
    batches: Annotated[int, Field(ge=0)] = Field(4, description="batches over which the validation loss is taken")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="number type of the autoencoder")


class TrainSection(RunSection):
    """Training a planner LoRA on a frozen base."""

    base: Path = Field(description="diffusers folder of the FLUX pipeline (only its transformer is loaded)")
    cache: Location = Field(description="folder written by `cache`, or its URL for fsspec")
    lora: LoraSection = Field(default_factory=LoraSection)
    base_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "bfloat16", description="number type of frozen weights"
    )
    quantize: Literal["none", "int8", "fp8", "nf4"] = Field(
        "none", description="how the frozen matrices are stored (nf4: bitsandbytes); they compute in base_dtype"
    )
    gradient_checkpointing: bool = False
    shard: bool = Field(False, description="several processes: share the weights out (FSDP) instead of copying them")
    max_epochs: Annotated[float, Field(gt=0)] | None = Field(
        None, description="at most as many examples as this many times the training pairs"
    )
    validation: ValidationSection = Field(default_factory=ValidationSection)
    mode_weights: ModeWeights = Field(
        default_factory=dict, description="how often each mode is drawn (default: evenly)"
    )
    device: str = Field("auto", description="torch device, or auto")


class ExportSection(Section):
    """A checkpoint → one LoRA file for ComfyUI and diffusers."""

    run: Path = Field(description="folder of the training run")
    out: Path = Field(description="safetensors file to write")
    title: str = Field("Visual planner LoRA", description="shown by model browsers")
    averaged: bool = Field(True, description="export the averaged (EMA) weights where the run has them")
    thumbnail: Path | None = Field(None, description="picture for model browsers (default: the run's last validation)")
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"


class EvaluateSection(Section):
    """Plans of unseen scenes against the truth."""

    source: Path = Field(description="folder of unseen episodes, or of pairs, of which the validation split is planned")
    base: Path = Field(description="diffusers folder of the FLUX pipeline")
    lora: Path = Field(description="planner LoRA with its record")
    out: Path = Field(description="folder of metrics.json and pictures")
    scenes: Positive = Field(96, description="how many of the scenes")
    seed: int = Field(0, description="of the plans' noise")
    steps: Positive | None = Field(None, description="Euler steps (default: the record's)")
    batch_size: Positive = 16
    baselines: bool = Field(True, description="also plan without the LoRA")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="number type of the weights")
    pictures: Positive = Field(12, description="scenes shown in the pictures")
    lpips: Path | None = Field(None, description="weights of LPIPS 0.1 on AlexNet (safetensors); none: not measured")
    fvd: Path | None = Field(None, description="weights of I3D, RGB, Kinetics-400 (safetensors); none: no FVD")
    threads: Annotated[int, Field(ge=0)] = Field(0, description="CPU threads (0: torch's choice)")


class ReadoutSection(RunSection):
    """Training the read-out: frames → end effector and gripper."""

    source: list[Path] = Field(description="episodes whose robot states are known; frames of all are mixed")
    model: Path = Field(description="folder of weights and card to write")
    format: str = Field("auto", description="format of the sources")
    camera: str = Field("", description="whose pictures (default: the first)")
    episodes: Positive | None = Field(None, description="use the first so many of each source")
    held_out: Positive = Field(200, description="episodes kept for the card's figures")
    frames_per_episode: Positive = Field(16, description="frames drawn evenly from an episode (not simulated ones)")
    states: str = Field("", description="feature with the states; columns 0 to 2 are x, y, z [m] (not simulated ones)")
    gripper_column: int = Field(-1, description="column of the states with the gripper")
    gripper_range: tuple[float, float] = Field((0.0, 1.0), description="its values when open and when closed")
    view: dict | None = Field(None, description="camera of such data: eye_m and rays of visual_planner.readout.View")
    size: tuple[Positive, Positive] = Field((64, 64), description="height and width that the network sees [px]")
    channels: tuple[Positive, Positive] = Field((32, 48), description="widths of the network")
    points: Positive = Field(32, description="feature points of the network")
    shift_px: Annotated[float, Field(ge=0)] = Field(3.0, description="frames are moved by up to this (with a view)")
    init: Path | None = Field(None, description="folder of a read-out to start from; its sizes and scales are kept")
    rare_share: Fraction = Field(0.25, description="share of a batch drawn from the tenth of places farthest out")
    vae: Path | None = Field(None, description="autoencoder through which some frames are sent (diffusers folder)")
    vae_pictures: Positive = Field(2000, description="so many frames")
    vae_share: Fraction = Field(0.3, description="their share of a batch")
    vae_noise: Annotated[float, Field(ge=0)] = Field(0.5, description="largest noise on their latents")

    def network(self) -> ReadoutSpec:
        """Sizes of the network, without the data's scales."""
        height, width = self.size
        return ReadoutSpec(height=height, width=width, channels=self.channels, points=self.points)


class Config(Section):
    """A whole file: the planner's record and a section per command; only the sections used must be there."""

    spec: dict = Field(default_factory=dict, description="fields of PlannerSpec")
    prepare: PrepareSection | None = None
    cache: CacheSection | None = None
    vae: VaeSection | None = None
    decoder: DecoderSection | None = None
    pretrain: PretrainSection | None = None
    train: TrainSection | None = None
    export: ExportSection | None = None
    evaluate: EvaluateSection | None = None
    readout: ReadoutSection | None = None

    @model_validator(mode="after")
    def _spec_is_valid(self) -> "Config":
        self.planner_spec()
        return self

    def planner_spec(self) -> PlannerSpec:
        """The PlannerSpec of this file.

        Raises:
            PlannerError: a field is unknown or out of range.
        """
        unknown = sorted(self.spec.keys() - {field.name for field in fields(PlannerSpec)})
        if unknown:
            raise TrainingError(f"spec: unknown keys {', '.join(unknown)}")
        return PlannerSpec(**self.spec)

    def section(self, name: str) -> Section:
        """The section of a command.

        Raises:
            TrainingError: the file has none.
        """
        section = getattr(self, name)
        if section is None:
            raise TrainingError(f"the configuration has no section {name!r}, which this command needs")
        return section


def load_config(path: str | Path | None, overrides: list[str] = ()) -> Config:
    """Read a configuration file; `overrides` are "section.key=value" with the value in YAML.

    Args:
        path: the file; None starts from an empty one.
        overrides: changes, applied in order.

    Raises:
        TrainingError: the file is missing, is not YAML, or has a key or value that is not allowed.
    """
    where = "of the command line" if path is None else str(path)
    if path is not None and not Path(path).is_file():
        raise TrainingError(f"configuration {path} is not a file")
    try:
        data = {} if path is None else yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        for override in overrides:
            _override(data, override)
    except yaml.YAMLError as error:
        raise TrainingError(f"configuration {where} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise TrainingError(f"configuration {where} must be a mapping of sections, got {type(data).__name__}")
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise TrainingError(f"configuration {where}: {_first_problems(error)}") from error


def save_config(config: Config, path: str | Path) -> None:
    """Write the resolved configuration as YAML; a run keeps it beside its results."""
    data = config.model_dump(mode="json", exclude_none=True)
    write_text(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


def _override(data: dict, override: str) -> None:
    name, separator, value = override.partition("=")
    if not separator:
        raise TrainingError(f"override must read section.key=value, got {override!r}")
    *parents, last = name.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise TrainingError(f"override {override!r}: {parent!r} is a value, not a section")
    data[last] = yaml.safe_load(value)


def _first_problems(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"]) or "file"
        if problem["type"] == "extra_forbidden":
            lines.append(f"{place}: unknown key")
        else:
            got = "" if problem["type"] in ("missing", "value_error") else f", got {problem['input']!r}"
            lines.append(f"{place}: {problem['msg']}{got}")
    return "; ".join(lines)

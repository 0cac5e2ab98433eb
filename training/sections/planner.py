"""The sections of a configuration that train something: autoencoder, base, planner LoRA, read-out."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from visual_planner.execution.camera import THIRDS
from visual_planner.execution.readout import ReadoutSpec
from visual_planner.planner.prompts import MODES

from .data import Location, Positive, Section
from .run import Fraction, RunSection

ModeWeights = dict[Literal[MODES], Annotated[float, Field(ge=0.0)]]
Caches = Annotated[list[Location], Field(min_length=1)]
SharedCaches = Annotated[dict[Location, Annotated[float, Field(gt=0)]], Field(min_length=1)]
"""How often each cache is drawn from; the shares need not add up to 1."""


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
    init: Path | None = Field(
        None, description="base whose transformer to start from (diffusers folder, same sizes); none: from scratch"
    )
    instructions: list[Path] = Field(
        default_factory=list,
        description="episode data sets whose instructions give the vocabulary (default: the Jaco table's phrasings); "
        "only words are taken from them",
    )


class LoraSection(Section):
    """The adapter."""

    rank: Positive = 128
    alpha: Annotated[float, Field(gt=0)] = 128
    targets: Literal["attention", "paper", "blocks", "all_linear"] = Field(
        "paper", description="which linear layers get an adapter; paper: attention, and feed-forwards of double blocks"
    )
    merged_forward: bool = Field(False, description="compute with W + s B A in one product (cheaper for small models)")
    base: Path | None = Field(None, description="LoRA that is fused into the frozen base first and trained on top of")
    init: Path | None = Field(None, description="exported LoRA of the same layers and rank to start from")


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
    cache: Location | Caches | SharedCaches = Field(
        description="folder written by `cache`, or its URL for fsspec; several as a list, or each with its share"
    )
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


class PlannedSection(Section):
    """Frames that a planner draws again, for the read-out to be trained on."""

    folder: Path = Field(description="planner (diffusers folder with its LoRA in loras/)")
    lora: Path | None = Field(None, description="another LoRA")
    episodes: Positive = Field(800, description="so many episodes")
    sources: Positive | None = Field(None, description="only of the first so many sources: those that it can draw")
    share: Fraction = Field(0.5, description="their frames' share of a batch")
    kept: tuple[Fraction, Fraction] = Field(
        (0.25, 1.0),
        description="least and most share of the sampler's steps that are left out; 1: only the autoencoder",
    )


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
    third: Literal[THIRDS] = Field(
        "height", description="what the network names beside the place in the picture (with a camera) [m]"
    )
    size: tuple[Positive, Positive] = Field((64, 64), description="height and width that the network sees [px]")
    channels: tuple[Positive, Positive] = Field((32, 48), description="widths of the network")
    points: Positive = Field(32, description="feature points of the network")
    context: Annotated[int, Field(ge=0, le=8)] = Field(
        2, description="blocks of the network that look at the frames before and after"
    )
    sees_camera: bool = Field(False, description="tell the network where each episode's camera stands (many cameras)")
    shift_px: Annotated[float, Field(ge=0)] = Field(3.0, description="frames are moved by up to this (with a view)")
    init: Path | None = Field(
        None,
        description="folder of a read-out to start from; its sizes and scales are kept, `context` may grow, "
        "`third` may be another, `sees_camera` may be set",
    )
    rare_share: Fraction = Field(0.25, description="share of a batch drawn from the tenth of places farthest out")
    vae: Path | None = Field(None, description="autoencoder through which some frames are sent (diffusers folder)")
    vae_pictures: Positive = Field(2000, description="so many frames")
    vae_share: Fraction = Field(0.3, description="their share of a batch")
    vae_noise: Annotated[float, Field(ge=0)] = Field(0.5, description="largest noise on their latents")
    planner: PlannedSection | None = Field(None, description="planner that draws some frames again")

    def network(self) -> ReadoutSpec:
        """Sizes of the network, without the data's scales."""
        height, width = self.size
        return ReadoutSpec(
            height=height, width=width, channels=self.channels, points=self.points, context=self.context,
            third=self.third, sees_camera=self.sees_camera,
        )  # fmt: skip

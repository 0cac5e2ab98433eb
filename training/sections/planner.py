"""The sections of a configuration that train something: autoencoder, base, planner LoRA, read-out."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from visual_planner.execution.camera import THIRDS
from visual_planner.execution.readout import ReadoutSpec
from visual_planner.planner.prompts import MODES

from .data import Location, Positive, Section, Seed
from .run import Fraction, RunSection, ascending

ModeWeights = dict[Literal[MODES], Annotated[float, Field(ge=0.0)]]
Caches = Annotated[list[Location], Field(min_length=1)]
SharedCaches = Annotated[dict[Location, Annotated[float, Field(gt=0)]], Field(min_length=1)]
"Sampling weight of each cache; weights need not add up to 1."


class VaeSection(RunSection):
    """Training the tiny base's image autoencoder."""

    source: list[Path] = Field(description="folders of episode data sets")
    init: Path | None = Field(
        None, description="autoencoder to start from (diffusers folder); none: train from scratch"
    )
    latent_noise: Annotated[float, Field(ge=0)] = Field(0.05, description="noise added to latents before decoding")
    channels: tuple[Positive, Positive, Positive, Positive] = Field(
        (32, 32, 64, 64), description="channels, from full resolution to 1/8"
    )


class DecoderSection(RunSection):
    """Training the autoencoder's decoder alone on whole grids."""

    source: list[Path] = Field(description="folders of episode data sets")
    vae: Path = Field(description="diffusers folder of the autoencoder; the result replaces it")
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
    merged_forward: bool = Field(
        False, description="compute with the merged weight W + s B A (cheaper for small models)"
    )
    fused_forward: bool = Field(
        False, description="add the adapter into its layer's output in place, in fewer passes over activations"
    )
    base: Path | None = Field(None, description="LoRA that is fused into the frozen base first and trained on top of")
    init: Path | None = Field(None, description="exported LoRA of the same layers and rank to start from")


class ValidationSection(Section):
    """Plans of scenes that are not trained on, made before the first step and while training."""

    every: Annotated[int, Field(ge=0)] = Field(0, description="steps between validations (0: none)")
    scenes: Positive = Field(3, description="number of plans, distributed over the modes")
    seed: Seed = Field(0, description="seed of the first plan's noise; each following plan adds 1")
    batches: Annotated[int, Field(ge=0)] = Field(4, description="batches over which the validation loss is averaged")
    dtype: Literal["float32", "bfloat16", "float16"] = Field("float32", description="dtype of the autoencoder")


class TrainSection(RunSection):
    """Training a planner LoRA on a frozen base."""

    base: Path = Field(description="diffusers folder of the FLUX pipeline (only its transformer is loaded)")
    cache: Location | Caches | SharedCaches = Field(
        description="folder written by `cache`, or its URL for fsspec; several as a list, or each with its sampling "
        "weight"
    )
    lora: LoraSection = Field(default_factory=LoraSection)
    base_dtype: Literal["float32", "bfloat16", "float16"] = Field("bfloat16", description="dtype of the frozen weights")
    quantize: Literal["none", "int8", "fp8", "nf4"] = Field(
        "none", description="how the frozen matrices are stored (nf4: bitsandbytes); they compute in base_dtype"
    )
    quantized_products: bool = Field(
        False,
        description="quantize int8 or fp8: round each token's activations too and multiply the frozen matrices "
        "in 8 bits; gradients are multiplied in base_dtype",
    )
    gradient_checkpointing: bool = False
    compile_blocks: bool | Literal["auto"] = Field(
        False,
        description="compile each block with torch.compile (needs a C++ compiler, on a GPU Triton); auto: where that "
        "is found and the run has 1000 steps or more",
    )
    offload: Annotated[int, Field(ge=0)] = Field(
        0,
        description="number of blocks whose frozen weights stay in RAM and are copied to the GPU ahead of their use "
        "(needs gradient_checkpointing)",
    )
    shard: bool = Field(False, description="several processes: shard the weights (FSDP) instead of replicating them")
    max_epochs: Annotated[float, Field(gt=0)] | None = Field(
        None, description="stop after this many passes over the training pairs"
    )
    validation: ValidationSection = Field(default_factory=ValidationSection)
    mode_weights: ModeWeights = Field(default_factory=dict, description="sampling weight of each mode (default: equal)")
    device: str = Field("auto", description="torch device, or auto")


class DistillSection(TrainSection):
    """Training a planner LoRA to take a few steps where `lora.init`, its teacher, takes many."""

    student_steps: Positive = Field(2, description="steps of a plan afterwards; a divisor of the teacher's")
    teacher_steps: Positive | None = Field(None, description="steps of the teacher's plans (default: spec.steps)")


class PlannedSection(Section):
    """Frames that a planner draws again, for the read-out to be trained on."""

    folder: Path = Field(description="planner (diffusers folder with its LoRA in loras/)")
    lora: Path | None = Field(None, description="another LoRA")
    episodes: Positive = Field(800, description="number of episodes")
    sources: Positive | None = Field(
        None, description="use only this many sources, from the first on: those that the planner can generate"
    )
    share: Fraction = Field(0.5, description="fraction of a batch that these frames make up")
    steps: Positive | None = Field(None, description="steps of the sampler (default: the planner's own)")
    kept: Annotated[tuple[Fraction, Fraction], AfterValidator(ascending)] = Field(
        (0.25, 1.0),
        description="smallest and largest fraction of the sampler's steps that are skipped; 1: only the autoencoder",
    )


class ReadoutSection(RunSection):
    """Training the read-out: frames -> end effector and gripper."""

    source: list[Path] = Field(description="episodes whose robot states are known; frames of all are mixed")
    model: Path = Field(description="folder to write weights and model card to")
    format: str = Field("auto", description="format of the sources")
    camera: str = Field("", description="camera to use (default: the first)")
    episodes: Positive | None = Field(None, description="use only this many episodes of each source, from the first on")
    held_out: Positive = Field(200, description="held-out episodes, for the model card's metrics")
    frames_per_episode: Positive = Field(16, description="frames drawn evenly from an episode (not simulated ones)")
    states: str = Field("", description="feature with the states; columns 0 to 2 are x, y, z [m] (not simulated ones)")
    gripper_column: int = Field(-1, description="column of the states with the gripper")
    gripper_range: tuple[float, float] = Field((0.0, 1.0), description="its values when open and when closed")
    view: dict | None = Field(
        None, description="camera of such data: eye_m and rays, as execution.camera.View has them"
    )
    third: Literal[THIRDS] = Field(
        "height", description="what the network outputs in addition to the position in the image (with a camera) [m]"
    )
    size: tuple[Positive, Positive] = Field((64, 64), description="height and width of the network's input [px]")
    channels: tuple[Positive, Positive] = Field((32, 48), description="channels of the network")
    points: Positive = Field(32, description="feature points of the network")
    context: Annotated[int, Field(ge=0, le=8)] = Field(
        2, description="blocks of the network that see the previous and the next frame"
    )
    sees_camera: bool = Field(False, description="tell the network each episode's camera position (many cameras)")
    shift_px: Annotated[float, Field(ge=0)] = Field(
        3.0, description="frames are shifted randomly by up to this (with a view)"
    )
    init: Path | None = Field(
        None,
        description="folder of a read-out to start from; its sizes and scales are kept, `context` may grow, `third` "
        "may change, `sees_camera` may be set",
    )
    rare_share: Fraction = Field(0.25, description="fraction of a batch drawn from the outermost tenth of positions")
    vae: Path | None = Field(None, description="autoencoder through which some frames are passed (diffusers folder)")
    vae_pictures: Positive = Field(2000, description="number of frames")
    vae_share: Fraction = Field(0.3, description="fraction of a batch that they make up")
    vae_noise: Annotated[float, Field(ge=0)] = Field(0.5, description="largest noise level on their latents")
    planner: PlannedSection | None = Field(None, description="planner that regenerates some frames")

    def network(self) -> ReadoutSpec:
        """Sizes of the network, without the data's scales."""
        height, width = self.size
        return ReadoutSpec(
            height=height, width=width, channels=self.channels, points=self.points, context=self.context,
            third=self.third, sees_camera=self.sees_camera,
        )  # fmt: skip

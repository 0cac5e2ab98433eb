"""The sections of a configuration that train what a planner LoRA is compared with."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from .data import Location, Positive
from .planner import Caches, ModeWeights, SharedCaches
from .run import Fraction, RunSection

GROUPS = 32
"""Groups of the U-Net's normalisation, as in diffusers; each of its widths must be divisible by it."""
Width = Annotated[int, Field(ge=GROUPS, le=4096, multiple_of=GROUPS)]
Channels = Annotated[int, Field(ge=8, le=4096, multiple_of=8)]
NotNegative = Annotated[int, Field(ge=0)]


class VideoBaselineSection(RunSection):
    """Training a video-diffusion planner: the frames of a plan as a video that a 3-D U-Net denoises."""

    base: Path = Field(description="diffusers folder of the pipeline whose encoders the cache was made with")
    cache: Location | Caches | SharedCaches = Field(
        description="folder written by `cache` with encode: cells, or its URL for fsspec; several as a list, or each "
        "with its sampling weight"
    )
    model: Path = Field(description="safetensors file to write")
    channels: Annotated[list[Width], Field(min_length=1, max_length=6)] = Field(
        [64, 128, 224], description="channels of the U-Net, from the latents' full resolution down; each divides by 32"
    )
    layers: Annotated[int, Field(ge=1, le=8)] = Field(1, description="residual layers per resolution")
    heads: Annotated[int, Field(ge=1, le=64)] = Field(8, description="attention heads; divide every number of channels")
    mode_weights: ModeWeights = Field({"text": 1.0}, description="sampling weight of each mode")
    held_out_batches: NotNegative = Field(4, description="batches over which the final validation loss is averaged")
    device: str = Field("auto", description="torch device, or auto")

    @model_validator(mode="after")
    def _heads_divide_channels(self) -> "VideoBaselineSection":
        if any(width % self.heads for width in self.channels):
            raise ValueError(f"heads must divide every one of channels {self.channels}, got {self.heads}")
        return self


class CloningBaselineSection(RunSection):
    """Training a policy without pictures: first frame and text -> the keyframes of the demonstration."""

    source: Path = Field(description="folder of an episode data set with end_effector_m and gripper at every frame")
    base: Path = Field(description="diffusers folder of the pipeline whose text encoders are used")
    model: Path = Field(description="safetensors file to write")
    episodes: Positive | None = Field(None, description="use only this many episodes, from the first on")
    held_out: Positive = Field(64, description="episodes that are not trained on, the last ones")
    channels: tuple[Channels, Channels] = Field((48, 96), description="channels of the first convolution and of others")
    blocks: Annotated[int, Field(ge=1, le=32)] = Field(4, description="residual blocks that the text modulates")
    points: Annotated[int, Field(ge=1, le=512)] = Field(48, description="feature points of the network")
    hidden: Annotated[int, Field(ge=8, le=8192)] = Field(512, description="width of the text's and of the last layers")
    augmented: Fraction = Field(0.5, description="fraction of the first frames whose colours are changed at random")
    device: str = Field("auto", description="torch device, or auto")
